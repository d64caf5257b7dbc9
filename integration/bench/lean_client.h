// A connection to a gRPC server on a unix socket with as little as possible between the caller and
// the socket: HTTP/2 by nghttp2, no threads, one call at a time, blocking. For benchmarks, where a
// client that costs more than the server hides it.
//
// It behaves as containerd's own clients do on the wire: frames of 16 KiB, windows of megabytes, no
// deadline header. A server that answers nothing for a minute fails the call.
//
// Thread-compatible.
#ifndef GANTRY_INTEGRATION_BENCH_LEAN_CLIENT_H_
#define GANTRY_INTEGRATION_BENCH_LEAN_CLIENT_H_

#include <nghttp2/nghttp2.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry::integration {

class LeanClient {
 public:
  // `ns` is sent as containerd's namespace with every call.
  static absl::StatusOr<std::unique_ptr<LeanClient>> Connect(const std::string& socket,
                                                             const std::string& ns);
  LeanClient(const LeanClient&) = delete;
  LeanClient& operator=(const LeanClient&) = delete;

  // A unary call: the bytes of one message against those of another. `path` is
  // "/package.Service/Method".
  absl::StatusOr<std::string> Call(const std::string& path, absl::string_view request);

  // A call with streams: Open, then Send and Receive in any order, then Finish.
  absl::Status Open(const std::string& path);
  // The message `head` followed by `payload`; `last`: no more will come. Returns once it is in the
  // socket.
  absl::Status Send(absl::string_view head, absl::string_view payload, bool last);
  // The next message; false when there are no more.
  absl::StatusOr<bool> Receive(std::string* message);
  // Takes what is left without looking at it; returns how many bytes of messages that was.
  absl::StatusOr<int64_t> Drain();
  // How the call ended.
  absl::Status Finish();

 private:
  struct SessionDeleter {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
  };
  // What is to be written: bytes of `frames_` from `offset`, or a buffer of the caller.
  struct Piece {
    const char* bytes;
    size_t offset;
    size_t size;
  };

  LeanClient(UniqueFd fd, std::string socket, std::string ns);
  absl::Status Handshake();
  absl::Status Error(absl::string_view what, int nghttp2_error) const;
  absl::Status Write();
  absl::Status ReadSome();
  void Take(const uint8_t* data, size_t size);

  static int OnData(nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t size,
                    void* self);
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                      void* self);
  static int OnClose(nghttp2_session*, int32_t stream, uint32_t error, void* self);
  static ssize_t OnSource(nghttp2_session*, int32_t stream, uint8_t*, size_t most, uint32_t* flags,
                          nghttp2_data_source*, void* self);
  static int OnSendData(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t size,
                        nghttp2_data_source*, void* self);

  const UniqueFd fd_;
  const std::string socket_;
  const std::string ns_;
  std::unique_ptr<nghttp2_session, SessionDeleter> session_;
  std::unique_ptr<uint8_t[]> buffer_;

  // On their way out.
  std::string frames_;
  std::vector<Piece> pieces_;
  std::vector<iovec> vector_;
  // The message being sent: prefix and head, then the payload.
  std::string front_;
  absl::string_view payload_;
  size_t sent_ = 0;
  bool last_ = false;

  // The call.
  std::string path_;
  int32_t stream_ = -1;
  bool closed_ = true;
  int status_code_ = -1;
  std::string status_message_;
  // What has come of the message that is coming; whole ones wait in `messages_` unless they are
  // only counted.
  bool counting_ = false;
  int64_t counted_ = 0;
  char prefix_[5] = {};
  size_t prefix_size_ = 0;
  size_t missing_ = 0;
  std::string message_;
  std::vector<std::string> messages_;
};

}  // namespace gantry::integration

#endif  // GANTRY_INTEGRATION_BENCH_LEAN_CLIENT_H_
