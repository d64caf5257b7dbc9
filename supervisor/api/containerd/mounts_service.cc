// containerd.services.mounts.v1. The mounts that our snapshotters hand out are for the kernel as
// they are: nothing is ever activated here, and clients mount them by themselves.
#include <string>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "proto/containerd/services/mounts/v1/mounts.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/metadata/filter.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::mounts::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

absl::Status NoSuchActivation(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("mount activation \"", name, "\": not found"));
}

class MountsService final : public Mounts::CallbackService, public DoorService {
 public:
  explicit MountsService(const Room& room) : room_(room) {}
  grpc::Service* service() override { return this; }

  // The answer that tells clients to go on by themselves.
  grpc::ServerUnaryReactor* Activate(grpc::CallbackServerContext* context,
                                     const ActivateRequest* request, ActivateResponse*) override {
    return HandleQuick(*context, [&](Call&) -> absl::Status {
      if (request->name().empty()) return absl::InvalidArgumentError("mount activation: no name");
      return absl::UnimplementedError(
          "nothing to activate, the mounts are the kernel's: not implemented");
    });
  }
  grpc::ServerUnaryReactor* Deactivate(grpc::CallbackServerContext* context,
                                       const DeactivateRequest* request,
                                       google::protobuf::Empty*) override {
    return HandleQuick(*context, [&](Call&) { return NoSuchActivation(request->name()); });
  }
  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext* context, const InfoRequest* request,
                                 InfoResponse*) override {
    return HandleQuick(*context, [&](Call&) { return NoSuchActivation(request->name()); });
  }
  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateRequest* request, UpdateResponse*) override {
    return HandleQuick(*context, [&](Call&) -> absl::Status {
      return absl::UnimplementedError(absl::StrCat("mount activation \"", request->info().name(),
                                                   "\": labels do not change: not implemented"));
    });
  }
  grpc::ServerWriteReactor<ListMessage>* List(grpc::CallbackServerContext* context,
                                              const ListRequest* request) override {
    return HandleList<ListMessage>(
        *room_.store_calls, *context, [request](Call&, Sender<ListMessage>&) {
          return metadata::Filter::Parse(TextsOf(request->filters())).status();
        });
  }

 private:
  const Room& room_;
};

}  // namespace

std::unique_ptr<DoorService> NewMountsService(const Room& room) {
  return std::make_unique<MountsService>(room);
}

}  // namespace gantry::api::containerd_api
