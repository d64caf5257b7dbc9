// A client's raw stream joined to the streams of a process: attach and exec.
//
// The client's connection was taken from the HTTP server. Its bytes are the process's input; the
// process's output goes back in frames with a header of eight bytes, or as it is where the process
// has a terminal. One output message is on its way at a time, so a client that reads slowly slows
// only its own stream.
//
// Life: made shared, since a stream may come late (core's AttachAtStart) -> Use() -> Run() ->
// destruction. Run() is called once, by the thread of the connection; everything else is
// thread-safe.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_HIJACK_H_
#define GANTRY_SUPERVISOR_API_DOCKER_HIJACK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/http/websocket.h"

namespace gantry::api::docker {

// The number of a frame's stream.
enum class FrameOf : uint8_t { kStdout = 1, kStderr = 2, kError = 3 };
// `bytes` behind a header that says whose and how many they are.
std::string Frame(FrameOf stream, absl::string_view bytes);

// The content type of a stream: frames have one of their own since API 1.42.
absl::string_view StreamType(ApiVersion version, bool terminal);

// The bytes of docker's words for keys, "ctrl-p,ctrl-q" or "a". The default when `text` is empty.
// kInvalidArgument: not such words.
absl::StatusOr<std::string> ParseDetachKeys(absl::string_view text);

// Finds the detach keys in what a client types, also in pieces. Thread-compatible.
class DetachKeys {
 public:
  // "": there are none.
  explicit DetachKeys(std::string keys) : keys_(std::move(keys)) {}
  // What of `typed` is for the process. True in `detached`: the keys were typed; what follows them
  // is dropped.
  std::string Filter(absl::string_view typed, bool* detached);

 private:
  const std::string keys_;
  size_t matched_ = 0;  // of keys_, held back
};

// A connection with the answer to its request written: "101 UPGRADED" where the client asked for
// the upgrade, else "200 OK" without a length. kInvalidArgument: an upgrade to something else.
absl::StatusOr<http::Hijacked> TakeConnection(Request& request, absl::string_view content_type);
// The same for a WebSocket. kInvalidArgument: the client does not ask for one, or not validly.
absl::StatusOr<http::Hijacked> TakeWebSocket(Request& request);
// OK, or the refusal that TakeConnection() would answer with: before anything is done.
absl::Status CheckUpgrade(const Request& request);
// Writes all, waiting as long as the client needs. An error: it is gone.
absl::Status SendAll(int fd, absl::string_view bytes);
// Ends a taken connection so that the client gets everything that was written.
void EndConnection(http::Hijacked client);

class ProcessStream final : public runtime::AttachStream::Handler {
 public:
  struct Options {
    bool terminal = false;
    bool input = false;           // the client's bytes go to the process
    bool input_ends_too = false;  // so does the end of them
    std::string detach_keys;      // as bytes; "": none
    // The client speaks WebSocket: messages instead of frames, in text before API 1.28.
    bool websocket = false;
    bool websocket_text = false;
    // How long the first output waits for the client to have read the header of the answer: some
    // clients read that through a buffer, and lose what came into it with the header.
    absl::Duration head_patience = absl::Milliseconds(250);
  };
  explicit ProcessStream(Options options);
  ~ProcessStream() override;

  // The process's side, once; may be called before or after its first output. An error: there will
  // be none.
  void Use(absl::StatusOr<std::unique_ptr<runtime::AttachStream>> stream);
  // Waits until the shim has connected the streams.
  absl::Status AwaitAttached(absl::Duration patience);

  enum class End {
    kExited,
    kDetached,
    kClientLeft,
    kLost,  // the streams broke, or never came
  };
  struct Result {
    End end = End::kLost;
    shim::v1::AttachOutput::Exited exited;  // with kExited
    absl::Status why;                       // with kLost
  };
  // Sends bytes as output of the process; before or after Run().
  absl::Status Send(http::Hijacked& client, FrameOf stream, absl::string_view bytes);
  // Moves bytes until one side ends. The client's connection stays open.
  Result Run(http::Hijacked& client);
  // Ends the connection so that the client gets everything that was written.
  void Finish(http::Hijacked client);

  // ---- from the shim ----
  void OnOutput(shim::v1::AttachOutput output) override;
  void OnWritable() override;
  void OnDone(const absl::Status& status) override;

 private:
  void Wake() const;
  void AskForMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // False: the client has left.
  bool TakeInput(http::Hijacked& client, bool* detached);
  // What the client sent as the process's input. False: it has ended its WebSocket.
  bool Decode(std::string& bytes);
  void Forward(std::string bytes);
  // Output as the client wants it.
  std::string Encode(FrameOf stream, std::string bytes);
  // Before the first output: waits for the client to take the header.
  void AwaitHeadTaken(int fd);
  // The process's output at hand, encoded; "" when there is none.
  std::string TakeOutput();

  const Options options_;
  const UniqueFd wake_;

  // Of Run()'s thread.
  DetachKeys keys_;
  http::WebSocket websocket_;
  bool input_over_ = false;
  bool head_taken_ = false;  // or waited for long enough

  absl::Mutex mu_;
  std::unique_ptr<runtime::AttachStream> stream_ ABSL_GUARDED_BY(mu_);
  std::optional<shim::v1::AttachOutput> output_ ABSL_GUARDED_BY(mu_);
  std::optional<shim::v1::AttachOutput::Exited> exited_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> done_ ABSL_GUARDED_BY(mu_);
  bool attached_ ABSL_GUARDED_BY(mu_) = false;
  bool more_wanted_ ABSL_GUARDED_BY(mu_) = false;  // asked for before the stream was there
  bool input_held_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_HIJACK_H_
