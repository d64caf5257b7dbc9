// The daemon as ctl sees it: gantry.v1 and containerd's services over one unix socket.
//
// A thin typed layer that keeps gRPC out of the verbs. Every call carries the namespace. Errors
// that the daemon gave are marked (IsDaemonError), so that they are not taken for errors of ctl.
//
// Lifecycle: Connect(), calls in any order; streams must not outlive the client. Thread-safe; a
// stream has one reader and one writer.
#ifndef GANTRY_CTL_CLIENT_H_
#define GANTRY_CTL_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::ctl {

// True for a status that came over the wire.
bool IsDaemonError(const absl::Status& status);

template <class Response>
class ReadStream {
 public:
  // Abandons the call if it is still going on.
  virtual ~ReadStream() = default;
  // False at the end or on an error; Finish() returns which.
  virtual bool Read(Response* response) = 0;
  // Makes Read and Write return false soon. Any thread.
  virtual void Cancel() = 0;
  // After Read returned false. kCancelled after Cancel().
  virtual absl::Status Finish() = 0;
};

template <class Request, class Response>
class DuplexStream : public ReadStream<Response> {
 public:
  // False: the call is over; Finish() returns the reason.
  virtual bool Write(const Request& request) = 0;
  virtual void WritesDone() = 0;
};

template <class Request>
class WriteStream {
 public:
  virtual ~WriteStream() = default;
  virtual bool Write(const Request& request) = 0;
  // Says that all is sent and waits for the answer.
  virtual absl::Status Finish() = 0;
};

class Client {
 public:
  // kUnavailable: no daemon listens there; the message says what to do.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address,
                                                         const std::string& name_space);
  ~Client();

  // The call is found by its message types; one that does not exist fails to link.
  template <class Request, class Response>
  absl::Status Call(const Request& request, Response* response,
                    absl::Duration timeout = absl::InfiniteDuration());
  template <class Request, class Response>
  std::unique_ptr<ReadStream<Response>> Open(const Request& request);
  template <class Request, class Response>
  std::unique_ptr<DuplexStream<Request, Response>> OpenDuplex();
  // `response` is filled by Finish() and outlives the stream.
  template <class Request, class Response>
  std::unique_ptr<WriteStream<Request>> OpenWriter(Response* response);

  const std::string& address() const;
  const std::string& name_space() const;

 private:
  struct State;
  friend struct Wire;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_CLIENT_H_
