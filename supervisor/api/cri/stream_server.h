// Serves exec, attach and port-forward to kubelet: the CRI call answers with a URL of this server,
// kubelet connects to it and speaks SPDY/3.1 or WebSocket (stream_protocol.h).
//
// A URL is good for one connection within Options::url_life and carries 192 random bits. The server
// listens on loopback unless it is configured otherwise, and has no authentication but that: the
// address must not be one that others than kubelet reach.
//
// A connection has one thread, which waits for the client, the process and forwarded connections at
// once. What a slow reader does not take stays with the one who writes: memory per connection is
// bounded by some MB.
//
// Thread-safe. Nothing of it outlives the daemon: kubelet asks for a new URL.
#ifndef GANTRY_SUPERVISOR_API_CRI_STREAM_SERVER_H_
#define GANTRY_SUPERVISOR_API_CRI_STREAM_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/api/cri/opened_process.h"
#include "supervisor/core/container_streams.h"

namespace gantry::api::cri {

// Which streams of a process a client wants.
struct StreamChoice {
  bool tty = false;  // then stderr comes with stdout
  bool in = false;
  bool out = false;
  bool err = false;
};

// What the server needs of core. Calls come on threads of the server and may block, within their
// own deadlines. The checks that a call of CRI makes at once (container running, pod there) are the
// caller's, before it asks for a URL; these find out again.
struct StreamTargets {
  // The process is started with its streams connected (core::ExecService::Exec). `handler` outlives
  // the stream. An error is sent to the client as the exec's failure.
  std::function<absl::StatusOr<OpenedProcess>(
      const std::string& container_id, const std::vector<std::string>& command,
      const StreamChoice& streams, runtime::AttachStream::Handler* handler)>
      exec;
  // Streams of the running main process, from now on (core::ContainerStreams::Attach).
  std::function<absl::StatusOr<std::unique_ptr<runtime::AttachStream>>(
      const std::string& container_id, const StreamChoice& streams,
      runtime::AttachStream::Handler* handler)>
      attach;
  // The pod's network namespace, where forwarded ports are dialled; an invalid descriptor: the pod
  // is on the host's network.
  std::function<absl::StatusOr<UniqueFd>(const std::string& pod_id)> netns;
};

class StreamServer {
 public:
  struct Options {
    std::string address = "127.0.0.1:0";  // HOST:PORT; port 0: any
    absl::Duration url_life = absl::Minutes(1);
    absl::Duration idle_time = absl::Hours(4);         // nothing sent and nothing received
    absl::Duration creation_time = absl::Seconds(30);  // until a client has opened its streams
    size_t most_urls = 1000;                           // not used yet
  };

  // Listens. kInvalidArgument: the address; kUnavailable: it is in use.
  static absl::StatusOr<std::unique_ptr<StreamServer>> Start(Options options,
                                                             StreamTargets targets);
  // Ends all connections and waits for their threads.
  ~StreamServer();
  StreamServer(const StreamServer&) = delete;
  StreamServer& operator=(const StreamServer&) = delete;

  // Each returns a URL, "http://127.0.0.1:PORT/exec/TOKEN".
  //   kInvalidArgument    no id, no command, a terminal together with stderr, or no stream at all
  //   kResourceExhausted  Options::most_urls are waiting for their clients
  absl::StatusOr<std::string> ExecUrl(const std::string& container_id,
                                      const std::vector<std::string>& command,
                                      const StreamChoice& streams);
  absl::StatusOr<std::string> AttachUrl(const std::string& container_id,
                                        const StreamChoice& streams);
  // `ports` are those of a WebSocket client, which numbers its channels by them; SPDY names the
  // port with each stream.
  absl::StatusOr<std::string> PortForwardUrl(const std::string& pod_id,
                                             const std::vector<int32_t>& ports);

  int port() const;

 private:
  class Work;
  explicit StreamServer(std::unique_ptr<Work> work);

  const std::unique_ptr<Work> work_;
};

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_STREAM_SERVER_H_
