// containerd.services.mounts.v1. The mounts that our snapshotters hand out are for the kernel as they are: nothing is ever activated
// here, and clients mount them by themselves.
#include <string>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "proto/containerd/services/mounts/v1/mounts.grpc.pb.h"
#include "supervisor/api/containerd/call.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/metadata/filter.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::mounts::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

absl::Status NoSuchActivation(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("mount activation \"", name, "\": not found"));
}

class MountsService final : public Mounts::Service, public DoorService {
 public:
  grpc::Service* service() override { return this; }

  // The answer that tells clients to go on by themselves.
  grpc::Status Activate(grpc::ServerContext* context, const ActivateRequest* request,
                        ActivateResponse*) override {
    return Handle(*context, [&](Call&) -> absl::Status {
      if (request->name().empty()) return absl::InvalidArgumentError("mount activation: no name");
      return absl::UnimplementedError(
          "nothing to activate, the mounts are the kernel's: not implemented");
    });
  }
  grpc::Status Deactivate(grpc::ServerContext* context, const DeactivateRequest* request,
                          google::protobuf::Empty*) override {
    return Handle(*context, [&](Call&) { return NoSuchActivation(request->name()); });
  }
  grpc::Status Info(grpc::ServerContext* context, const InfoRequest* request,
                    InfoResponse*) override {
    return Handle(*context, [&](Call&) { return NoSuchActivation(request->name()); });
  }
  grpc::Status Update(grpc::ServerContext* context, const UpdateRequest* request,
                      UpdateResponse*) override {
    return Handle(*context, [&](Call&) { return NoSuchActivation(request->info().name()); });
  }
  grpc::Status List(grpc::ServerContext* context, const ListRequest* request,
                    grpc::ServerWriter<ListMessage>*) override {
    return Handle(*context, [&](Call&) {
      return metadata::Filter::Parse(TextsOf(request->filters())).status();
    });
  }
};

}  // namespace

std::unique_ptr<DoorService> NewMountsService(const Room&) {
  return std::make_unique<MountsService>();
}

}  // namespace gantry::api::containerd_api
