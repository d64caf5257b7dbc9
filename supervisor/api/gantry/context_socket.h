// A socket by which a client on this machine brings the contents of its files, without gRPC's
// copies: what it is for is in builds.proto, what is on it in base/content_frame.h.
//
// Its name cannot be guessed and its directory cannot be listed, so that only the client who was
// told of it finds it; one connection is taken. Thread-compatible.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_CONTEXT_SOCKET_H_
#define GANTRY_SUPERVISOR_API_GANTRY_CONTEXT_SOCKET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry {
class CancelToken;
}
namespace gantry::build {
class ContextUpdate;
}

namespace gantry::api::gantry_v1 {

class ContextSocket {
 public:
  // In `directory`, which is made. kInvalidArgument: the path is too long for a socket's name.
  static absl::StatusOr<std::unique_ptr<ContextSocket>> Make(const std::string& directory);
  ~ContextSocket();
  ContextSocket(const ContextSocket&) = delete;
  ContextSocket& operator=(const ContextSocket&) = delete;

  const std::string& path() const { return path_; }

  // Takes `left` contents of the client, which has connected. kDataLoss: it ended before that.
  absl::Status Receive(build::ContextUpdate& update, size_t left, CancelToken* cancel,
                       const std::function<void(int64_t)>& progress);

 private:
  ContextSocket(std::string path, UniqueFd listener)
      : path_(std::move(path)), listener_(std::move(listener)) {}
  const std::string path_;
  UniqueFd listener_;
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_CONTEXT_SOCKET_H_
