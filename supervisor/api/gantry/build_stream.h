// A client of gantry.v1 as a build sees it: what its request says, and the messages that follow it.
//
// Files come as a tar, or as listings and contents of what the daemon lacks. Made for one call; ends
// before its stream. Update() and Files() are called before the first Agent().
#ifndef GANTRY_SUPERVISOR_API_GANTRY_BUILD_STREAM_H_
#define GANTRY_SUPERVISOR_API_GANTRY_BUILD_STREAM_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/build/build_client.h"

namespace gantry::api::gantry_v1 {

class StreamedBuildClient final : public build::RequestClient {
 public:
  struct Stream {
    // The next message; false at their end.
    std::function<absl::StatusOr<bool>(v1::BuildRequest&)> next;
    std::function<absl::Status(v1::BuildResponse)> send;
  };
  // Neither `request` nor `data` is owned.
  StreamedBuildClient(const v1::BuildRequest::Open& request, ByteSource& data, Stream stream)
      : RequestClient(request, data), request_(request), stream_(std::move(stream)) {}

  std::string ContextKey(int index) const override;
  absl::Status Update(int index, build::ContextUpdate& update, CancelToken* cancel,
                      const std::function<void(int64_t)>& progress) override;

 private:
  absl::Status Want(int index, build::ContextUpdate& update, size_t& wanted);

  const v1::BuildRequest::Open& request_;
  const Stream stream_;
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_BUILD_STREAM_H_
