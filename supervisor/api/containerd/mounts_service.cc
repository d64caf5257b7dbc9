// containerd.services.mounts.v1, translated to core/mount_activations.
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "proto/containerd/services/mounts/v1/mounts.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/mount_activations.h"
#include "supervisor/metadata/filter.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::mounts::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

using Labels = std::map<std::string, std::string>;

void SetInfo(const core::MountActivation& activation, containerd::types::ActivationInfo* out) {
  out->set_name(activation.name);
  for (const core::ActiveMount& active : activation.active) {
    auto* one = out->add_active();
    WireMounts mounts;
    SetMounts({active.mount}, &mounts);
    *one->mutable_mount() = mounts.Get(0);
    SetTime(active.mounted_at, one->mutable_mounted_at());
    one->set_mount_point(active.mount_point);
  }
  SetMounts(activation.system, out->mutable_system());
  out->mutable_labels()->insert(activation.labels.begin(), activation.labels.end());
}

metadata::Filter::Fields FieldsOf(const core::MountActivation& activation) {
  return [&activation](absl::Span<const std::string> path) -> std::optional<std::string> {
    if (path.size() == 1 && path[0] == "name") return activation.name;
    if (path.size() > 1 && path[0] == "labels")
      return metadata::MapField(activation.labels, path.subspan(1));
    return std::nullopt;
  };
}

class MountsService final : public Mounts::CallbackService, public DoorService {
 public:
  explicit MountsService(const Room& room) : room_(room), mounts_(*room.mounts) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Activate(grpc::CallbackServerContext* context,
                                     const ActivateRequest* request,
                                     ActivateResponse* response) override {
    // May make a file system.
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(
          const core::MountActivation made,
          mounts_.Activate(call.context(),
                           {.name = request->name(),
                            .mounts = MountsFrom(request->mounts()),
                            .labels = Labels(request->labels().begin(), request->labels().end()),
                            .temporary = request->temporary()}));
      SetInfo(made, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Deactivate(grpc::CallbackServerContext* context,
                                       const DeactivateRequest* request,
                                       google::protobuf::Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) {
      return mounts_.Deactivate(call.context(), request->name());
    });
  }

  grpc::ServerUnaryReactor* Info(grpc::CallbackServerContext* context, const InfoRequest* request,
                                 InfoResponse* response) override {
    return HandleQuick(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(const core::MountActivation found,
                              mounts_.Info(call.context(), request->name()));
      SetInfo(found, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateRequest* request,
                                   UpdateResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      const auto& labels = request->info().labels();
      GANTRY_ASSIGN_OR_RETURN(const core::MountActivation updated,
                              mounts_.Update(call.context(), request->info().name(),
                                             Labels(labels.begin(), labels.end()),
                                             TextsOf(request->update_mask().paths())));
      SetInfo(updated, response->mutable_info());
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<ListMessage>* List(grpc::CallbackServerContext* context,
                                              const ListRequest* request) override {
    return HandleList<ListMessage>(
        *room_.store_calls, *context,
        [this, request](Call& call, Sender<ListMessage>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(const metadata::Filter filter,
                                  metadata::Filter::Parse(TextsOf(request->filters())));
          for (const core::MountActivation& each : mounts_.List(call.context())) {
            if (!filter.Matches(FieldsOf(each))) continue;
            ListMessage message;
            SetInfo(each, message.mutable_info());
            GANTRY_RETURN_IF_ERROR(out.Send(std::move(message)));
          }
          return absl::OkStatus();
        });
  }

 private:
  const Room& room_;
  core::MountActivations& mounts_;
};

}  // namespace

std::unique_ptr<DoorService> NewMountsService(const Room& room) {
  return std::make_unique<MountsService>(room);
}

}  // namespace gantry::api::containerd_api
