// An HTTP/1.1 server for few clients: one thread per connection, requests one after the other.
//
// Serves from Start() to destruction. The handler is called on the connection's thread with an
// Exchange: it reads the body as it arrives, writes the response at once or in pieces, or takes the
// connection away (hijack) to speak another protocol on it. A client that sends or takes nothing is
// waited for as long as Limits says; connections beyond Limits::connections wait in the kernel's
// queue.
//
// Server is thread-safe, Exchange belongs to the handler's thread. Parsing: request_reader.h.
#ifndef GANTRY_SUPERVISOR_HTTP_SERVER_H_
#define GANTRY_SUPERVISOR_HTTP_SERVER_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/http/peer_watch.h"
#include "supervisor/http/request_reader.h"

namespace gantry::http {

struct Limits {
  size_t head_bytes = 64 << 10;
  uint64_t body_bytes = uint64_t{1} << 62;
  size_t connections = 256;
  // From the first byte of a request to the end of its header.
  absl::Duration head_time = absl::Seconds(10);
  // Between two requests of one connection, and before the first.
  absl::Duration idle_time = absl::Seconds(60);
  // For a read of the body, or a write, to go on at all.
  absl::Duration stall_time = absl::Seconds(30);
  // From the end of the header to the end of the response.
  absl::Duration exchange_time = absl::InfiniteDuration();
};

// How the bytes of a connection are read and written: the descriptor itself, or TLS on it.
// Used by one thread at a time, but Break() comes from any.
class Transport {
 public:
  virtual ~Transport() = default;
  // Before the first byte. The default does nothing.
  virtual absl::Status Handshake() { return absl::OkStatus(); }
  // At most until `deadline` (monotonic): kDeadlineExceeded. 0 bytes: the other side has closed.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration deadline) = 0;
  // All of it, each step within `stall` and all within `deadline`.
  virtual absl::Status Write(absl::string_view bytes, absl::Duration stall,
                             absl::Duration deadline) = 0;
  // Ends the connection after what was written. May wait a little for the other side to take it.
  virtual void Close() = 0;
  // Ends the reads and writes of other threads, now and later.
  virtual void Break() = 0;
  // The descriptor, which the transport gives up, or one whose bytes go through the transport. An
  // invalid one: this transport cannot.
  virtual UniqueFd Release() = 0;
  // After Release(): waits for the end of a connection whose bytes go through the transport.
  virtual void AwaitReleased() {}
  // To watch for the departure of the client; -1: there is none.
  virtual int descriptor() const { return -1; }
};

std::unique_ptr<Transport> SocketTransport(UniqueFd socket);

// A connection that speaks another protocol from now on.
struct Hijacked {
  UniqueFd fd;               // non-blocking
  std::string read_already;  // bytes that came behind the request
};

// One request and its response.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const RequestHead& head() const = 0;

  // Pieces of the body as they arrive; 0 is its end. Asks for the body first, where the client
  // waits for "100 Continue". Errors: RequestReader::ReadBody, and kDeadlineExceeded.
  virtual absl::StatusOr<size_t> ReadBody(char* buffer, size_t size) = 0;
  // The rest of the body. kResourceExhausted: more than `most` bytes.
  absl::StatusOr<std::string> ReadAll(size_t most);

  // The whole response. A HEAD request gets no body, but its length.
  virtual absl::Status Respond(int status, const Fields& fields, absl::string_view body) = 0;
  // A response in pieces: Begin(), Write() any number of times, End(). Without a length, or one in
  // `fields`, the body is chunked (a client of HTTP/1.0 gets it up to the end of the connection).
  virtual absl::Status Begin(int status, const Fields& fields,
                             std::optional<uint64_t> length = std::nullopt) = 0;
  virtual absl::Status Write(absl::string_view bytes) = 0;
  virtual absl::Status End() = 0;
  virtual bool begun() const = 0;

  // No further request is read from this connection.
  virtual void CloseAfter() = 0;
  // The server is being stopped: endless responses end.
  virtual bool stopping() const = 0;

  // Takes the connection. A response, such as 101, is written before, with Respond() or by the new
  // owner.
  // kUnimplemented: the transport has no descriptor to give.
  virtual absl::StatusOr<Hijacked> Hijack() = 0;

  // Calls `gone` when the client leaves or the server stops; see PeerWatch::Add(). Not for a
  // connection that was taken. The watch ends before the handler returns.
  virtual PeerWatch::Watch OnGone(std::function<void()> gone) = 0;

  // For bytes that this server would not write, in tests of clients. After AnsweredRaw() nothing
  // more is written for this request, whatever the transport was given.
  virtual Transport& transport() = 0;
  virtual void AnsweredRaw() = 0;
};

using Handler = std::function<void(Exchange&)>;

// Listens on HOST:PORT, where the host is a numeric address or localhost; without a host on
// 127.0.0.1.
//   kInvalidArgument  not HOST:PORT
//   kUnavailable      the address is in use
absl::StatusOr<UniqueFd> ListenTcp(const std::string& address);

class Server {
 public:
  struct Options {
    Limits limits;
    std::string thread_name = "http";
    // Null: SocketTransport.
    std::function<std::unique_ptr<Transport>(UniqueFd)> transport;
  };

  static absl::StatusOr<std::unique_ptr<Server>> Start(UniqueFd listener, Options options,
                                                       Handler handler);
  // Ends all connections, and waits for their handlers.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Of a TCP listener; 0 for others.
  int port() const { return port_; }
  int64_t accepted() const { return accepted_; }

 private:
  struct Connection {
    explicit Connection(std::unique_ptr<Transport> owned) : transport(std::move(owned)) {}
    std::unique_ptr<Transport> transport;
    std::thread thread;
    bool done = false;  // under the server's mutex
  };

  Server(UniqueFd listener, UniqueFd wake, Options options, Handler handler);
  void Accept();
  void Add(UniqueFd socket);
  void Serve(Connection& connection);
  // Joins the threads of connections that have ended; returns how many are left.
  size_t Reap();

  const UniqueFd listener_;
  const UniqueFd wake_;  // readable: a connection ended, or the server stops
  const Options options_;
  const Handler handler_;
  int port_ = 0;
  PeerWatch peers_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int64_t> accepted_ = 0;

  absl::Mutex mutex_;
  std::list<Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::thread acceptor_;
};

}  // namespace gantry::http

#endif  // GANTRY_SUPERVISOR_HTTP_SERVER_H_
