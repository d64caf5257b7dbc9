#include "supervisor/api/gantry/manifests.h"

#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/manifests.grpc.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/manifest_service.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 32;

class ManifestsDoor final : public v1::Manifests::CallbackService {
 public:
  ManifestsDoor(core::ManifestService& manifests, Executor& work)
      : manifests_(manifests), work_(work, kShare, Scoped::kDefault) {}

  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context,
                                 const v1::ReadManifestRequest* request,
                                 v1::ReadManifestResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(manifests_.Read(call, *request), response);
    });
  }

  grpc::ServerWriteReactor<v1::PushIndexResponse>* PushIndex(
      grpc::CallbackServerContext* context, const v1::PushIndexRequest* request) override {
    return HandleList<v1::PushIndexResponse>(
        work_, *context,
        [this, request = *request](Call& call, Sender<v1::PushIndexResponse>& out) {
          // Progress is dropped while the client is slow; its next message is better anyway.
          const auto progress = [&out](const v1::Progress& step) {
            v1::PushIndexResponse response;
            *response.mutable_progress() = step;
            out.Offer(std::move(response), step.state() != v1::Progress::UPLOADING);
          };
          GANTRY_ASSIGN_OR_RETURN(std::vector<v1::PushedImage> pushed,
                                  manifests_.PushIndex(call, request, progress));
          for (size_t i = 0; i < pushed.size(); ++i) {
            v1::PushIndexResponse response;
            *(i + 1 < pushed.size() ? response.mutable_manifest() : response.mutable_index()) =
                std::move(pushed[i]);
            GANTRY_RETURN_IF_ERROR(out.Send(std::move(response)));
          }
          return absl::OkStatus();
        });
  }

 private:
  core::ManifestService& manifests_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewManifestsDoor(core::ManifestService& manifests, Executor& work) {
  return std::make_unique<ManifestsDoor>(manifests, work);
}

}  // namespace gantry::api::gantry_v1
