#include "supervisor/api/gantry/builds.h"

#include <utility>

#include "base/executor.h"
#include "proto/gantry/v1/builds.grpc.pb.h"
#include "supervisor/api/gantry/build_stream.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/upload_stream.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/build/build_executor.h"
#include "supervisor/core/build_cache.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 32;

class BuildsDoor final : public v1::Builds::CallbackService {
 public:
  BuildsDoor(build::BuildExecutor& builder, core::BuildCache& cache, Executor& work)
      : builder_(builder), cache_(cache), work_(work, kShare, Scoped::kDefault) {}

  grpc::ServerBidiReactor<v1::BuildRequest, v1::BuildResponse>* Build(
      grpc::CallbackServerContext* context) override {
    return HandleUpload<v1::BuildRequest, v1::BuildResponse>(
        work_, *context,
        [this](Call& call, const v1::BuildRequest& request, auto& in,
               Sender<v1::BuildResponse>& out) -> absl::Status {
          StreamedBuildClient client(
              request.open(), in,
              {[&in](v1::BuildRequest& message, bool patient) {
                 return in.Next(message, patient ? absl::InfiniteDuration() : kPatience);
               },
               [&in] { in.Interrupt(); },
               [&out](v1::BuildResponse response) { return out.Send(std::move(response)); }},
              builder_.socket_directory());
          return builder_.Build(call, request.open(), client, [&out](v1::BuildResponse response) {
            // Progress is dropped while the client is slow; its next message is better anyway.
            if (!response.has_progress()) return out.Send(std::move(response));
            out.Offer(std::move(response), false);
            return absl::OkStatus();
          });
        });
  }

  grpc::ServerUnaryReactor* DiskUsage(grpc::CallbackServerContext* context,
                                      const v1::BuildCacheUsageRequest* request,
                                      v1::BuildCacheUsageResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(cache_.Usage(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Prune(grpc::CallbackServerContext* context,
                                  const v1::PruneBuildCacheRequest* request,
                                  v1::PruneBuildCacheResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(cache_.Prune(call, *request), response); },
        Departure::kIgnored);
  }

 private:
  build::BuildExecutor& builder_;
  core::BuildCache& cache_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewBuildsDoor(build::BuildExecutor& builder, core::BuildCache& cache,
                                             Executor& work) {
  return std::make_unique<BuildsDoor>(builder, cache, work);
}

}  // namespace gantry::api::gantry_v1
