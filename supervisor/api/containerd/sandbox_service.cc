// containerd.services.sandbox.v1: the store of sandbox records, and the controller "shim", which is
// core's sandbox service.
#include "supervisor/core/sandbox_service.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/status_macros.h"
#include "proto/containerd/services/sandbox/v1/sandbox.grpc.pb.h"
#include "supervisor/api/containerd/plugin_table.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/stores.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/oci/platform.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::sandbox::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

constexpr char kShimController[] = "shim";

class SandboxStoreService final : public Store::CallbackService, public DoorService {
 public:
  explicit SandboxStoreService(const Room& room)
      : room_(room), sandboxes_(room.stores->sandboxes) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const StoreCreateRequest* request,
                                   StoreCreateResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      record::v1::Sandbox fresh;
      Recast(request->sandbox(), &fresh);
      GANTRY_ASSIGN_OR_RETURN(record::v1::Sandbox record,
                              sandboxes_.Create(call.scope(), std::move(fresh)));
      Recast(record, response->mutable_sandbox());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const StoreUpdateRequest* request,
                                   StoreUpdateResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      record::v1::Sandbox wanted;
      Recast(request->sandbox(), &wanted);
      GANTRY_ASSIGN_OR_RETURN(record::v1::Sandbox record,
                              sandboxes_.Update(call.scope(), wanted, TextsOf(request->fields())));
      Recast(record, response->mutable_sandbox());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const StoreDeleteRequest* request,
                                   StoreDeleteResponse*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) {
      return sandboxes_.Delete(call.scope(), request->sandbox_id());
    });
  }

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const StoreListRequest* request,
                                 StoreListResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(metadata::Filter filter,
                              metadata::Filter::Parse(TextsOf(request->filters())));
      return sandboxes_.List(call.scope(), filter, [&](const record::v1::Sandbox& record) {
        Recast(record, response->add_list());
        return absl::OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context,
                                const StoreGetRequest* request,
                                StoreGetResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(record::v1::Sandbox record,
                              sandboxes_.Get(call.scope(), request->sandbox_id()));
      Recast(record, response->mutable_sandbox());
      return absl::OkStatus();
    });
  }

 private:
  const Room& room_;
  metadata::SandboxStore& sandboxes_;
};

// One Wait call, until it is answered.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  WaitReactor(core::SandboxService& sandboxes, ControllerWaitResponse* response)
      : sandboxes_(sandboxes), response_(response) {}

  // Called before gRPC has the reactor, so that no other method runs meanwhile.
  void Begin(const std::string& ns, const std::string& id) {
    ticket_ = sandboxes_.WaitAsync(ns, id, [this](const absl::StatusOr<absl::Time>& at) {
      if (at.ok()) SetTime(*at, response_->mutable_exited_at());
      Finish(ToGrpcWithClass(at.status()));
    });
  }

  void OnCancel() override { sandboxes_.CancelWait(ticket_); }
  void OnDone() override {
    delete this;  // NOLINT(cppcoreguidelines-owning-memory): made for this call
  }

 private:
  core::SandboxService& sandboxes_;
  ControllerWaitResponse* const response_;
  core::SandboxService::Ticket ticket_ = 0;
};

class SandboxControllerService final : public Controller::CallbackService, public DoorService {
 public:
  explicit SandboxControllerService(const Room& room) : room_(room), sandboxes_(*room.sandboxes) {}
  grpc::Service* service() override { return this; }
  using Controller::CallbackService::Stop;  // the method of that name
  void Stop() override { sandboxes_.EndWaits(); }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const ControllerCreateRequest* request,
                                   ControllerCreateResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      GANTRY_RETURN_IF_ERROR(sandboxes_.Create(call.ns(), request->sandbox_id()));
      response->set_sandbox_id(request->sandbox_id());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context,
                                  const ControllerStartRequest* request,
                                  ControllerStartResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      GANTRY_ASSIGN_OR_RETURN(const core::Sandbox started,
                              sandboxes_.Start(call.ns(), request->sandbox_id()));
      response->set_sandbox_id(request->sandbox_id());
      SetTime(started.created_at, response->mutable_created_at());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Platform(grpc::CallbackServerContext* context,
                                     const ControllerPlatformRequest* request,
                                     ControllerPlatformResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      GANTRY_RETURN_IF_ERROR(sandboxes_.Get(call.ns(), request->sandbox_id()).status());
      SetPlatform(ServedPlatform(oci::HostPlatform()), response->mutable_platform());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context,
                                 const ControllerStopRequest* request,
                                 ControllerStopResponse*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      return sandboxes_.Stop(call.ns(), request->sandbox_id());
    });
  }

  grpc::ServerUnaryReactor* Wait(grpc::CallbackServerContext* context,
                                 const ControllerWaitRequest* request,
                                 ControllerWaitResponse* response) override {
    Call call(*context);
    auto* reactor =
        new WaitReactor(sandboxes_, response);  // NOLINT(cppcoreguidelines-owning-memory)
    absl::Status status = call.Validate();
    if (status.ok()) status = CheckController(request->sandboxer());
    if (status.ok()) {
      reactor->Begin(call.ns(), request->sandbox_id());
    } else {
      reactor->Finish(ToGrpcWithClass(status));
    }
    return reactor;
  }

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const ControllerStatusRequest* request,
                                   ControllerStatusResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      GANTRY_ASSIGN_OR_RETURN(const core::Sandbox one,
                              sandboxes_.Get(call.ns(), request->sandbox_id()));
      response->set_sandbox_id(request->sandbox_id());
      response->set_state(one.ready() ? "SANDBOX_READY" : "SANDBOX_NOTREADY");
      SetTime(one.created_at, response->mutable_created_at());
      SetTime(one.stopped_at.value_or(absl::InfinitePast()), response->mutable_exited_at());
      if (request->verbose()) (*response->mutable_info())["controller"] = kShimController;
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Shutdown(grpc::CallbackServerContext* context,
                                     const ControllerShutdownRequest* request,
                                     ControllerShutdownResponse*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      return sandboxes_.Shutdown(call.ns(), request->sandbox_id());
    });
  }

  // Nothing runs in the sandbox itself: there is nothing to count.
  grpc::ServerUnaryReactor* Metrics(grpc::CallbackServerContext* context,
                                    const ControllerMetricsRequest* request,
                                    ControllerMetricsResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      GANTRY_RETURN_IF_ERROR(sandboxes_.Get(call.ns(), request->sandbox_id()).status());
      response->mutable_metrics()->set_id(request->sandbox_id());
      SetTime(absl::Now(), response->mutable_metrics()->mutable_timestamp());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const ControllerUpdateRequest* request,
                                   ControllerUpdateResponse*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      return sandboxes_.Get(call.ns(), request->sandbox_id()).status();
    });
  }

 private:
  static absl::Status CheckController(const std::string& name) {
    if (name.empty()) return absl::InvalidArgumentError("sandbox: no sandboxer is named");
    if (name != kShimController)
      return absl::NotFoundError(absl::StrCat("sandbox controller \"", name, "\": not found"));
    return absl::OkStatus();
  }

  const Room& room_;
  core::SandboxService& sandboxes_;
};

}  // namespace

std::unique_ptr<DoorService> NewSandboxStoreService(const Room& room) {
  return std::make_unique<SandboxStoreService>(room);
}
std::unique_ptr<DoorService> NewSandboxControllerService(const Room& room) {
  return std::make_unique<SandboxControllerService>(room);
}

}  // namespace gantry::api::containerd_api
