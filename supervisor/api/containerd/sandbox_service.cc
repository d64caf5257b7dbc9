// containerd.services.sandbox.v1: the store of sandbox records, and the controller "shim".
//
// A sandbox of this controller is an environment without a process of its own: containers in it
// have shims of their own. What the controller knows beyond the record (when it started, whether it
// was stopped) is stored before it is told, so that a restart of the daemon changes nothing. After
// a boot of the machine what was not stopped counts as stopped.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "proto/containerd/events/sandbox.pb.h"
#include "proto/containerd/services/sandbox/v1/sandbox.grpc.pb.h"
#include "supervisor/api/containerd/plugin_table.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"
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

class WaitReactor;

struct Running {
  absl::Time created_at = absl::InfinitePast();
  bool started = false;
  std::optional<absl::Time> stopped_at;
  std::vector<WaitReactor*> waiters;
};

// Of the running kernel; "" when it does not say.
std::string BootId() {
  const absl::StatusOr<std::string> id = ReadFile("/proc/sys/kernel/random/boot_id", 64);
  return id.ok() ? std::string(absl::StripAsciiWhitespace(*id)) : "";
}

// One Wait call; in the list of its sandbox until it is answered.
class WaitReactor final : public grpc::ServerUnaryReactor {
 public:
  WaitReactor(ControllerWaitResponse* response, std::function<bool(WaitReactor*)> withdraw)
      : response_(response), withdraw_(std::move(withdraw)) {}
  void Answer(absl::Time at) {
    SetTime(at, response_->mutable_exited_at());
    Finish(grpc::Status::OK);
  }
  void Refuse(const absl::Status& status) { Finish(ToGrpcWithClass(status)); }
  void OnCancel() override {
    if (withdraw_(this)) Finish(ToGrpcWithClass(absl::CancelledError("the client has gone")));
  }
  void OnDone() override {
    delete this;
  }  // NOLINT(cppcoreguidelines-owning-memory): made for this call

 private:
  ControllerWaitResponse* const response_;
  const std::function<bool(WaitReactor*)> withdraw_;
};

class SandboxControllerService final : public Controller::CallbackService, public DoorService {
 public:
  explicit SandboxControllerService(const Room& room) : room_(room), boot_id_(BootId()) {
    const absl::Status loaded = Load();
    LOG_IF(ERROR, !loaded.ok()) << "sandbox controller: what it knew is lost: " << loaded;
  }
  grpc::Service* service() override { return this; }
  using Controller::CallbackService::Stop;  // the method of that name
  void Stop() override {
    std::vector<WaitReactor*> waiters;
    {
      absl::MutexLock lock(&mu_);
      stopping_ = true;
      for (auto& [key, one] : running_) {
        waiters.insert(waiters.end(), one.waiters.begin(), one.waiters.end());
        one.waiters.clear();
      }
    }
    for (WaitReactor* waiter : waiters)
      waiter->Refuse(absl::UnavailableError("the daemon is stopping"));
  }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const ControllerCreateRequest* request,
                                   ControllerCreateResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      GANTRY_RETURN_IF_ERROR(metadata::ValidateIdentifier("sandbox id", request->sandbox_id()));
      const Running fresh{absl::Now(), false, std::nullopt, {}};
      {
        absl::MutexLock lock(&mu_);
        if (!running_.try_emplace({call.ns(), request->sandbox_id()}, fresh).second) {
          return absl::AlreadyExistsError(absl::StrCat("sandbox \"", request->sandbox_id(),
                                                       "\" in namespace \"", call.ns(),
                                                       "\": already exists"));
        }
      }
      if (absl::Status stored = Save(call, request->sandbox_id(), fresh); !stored.ok()) {
        absl::MutexLock lock(&mu_);
        running_.erase({call.ns(), request->sandbox_id()});
        return stored;
      }
      response->set_sandbox_id(request->sandbox_id());
      containerd::events::SandboxCreate event;
      event.set_sandbox_id(request->sandbox_id());
      room_.events->Publish(call.ns(), "/sandboxes/create", event);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context,
                                  const ControllerStartRequest* request,
                                  ControllerStartResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      Running started;
      {
        absl::MutexLock lock(&mu_);
        GANTRY_ASSIGN_OR_RETURN(Running * one, Find(call, request->sandbox_id()));
        if (one->stopped_at.has_value()) {
          return absl::FailedPreconditionError(
              absl::StrCat("sandbox \"", request->sandbox_id(), "\": was stopped"));
        }
        one->started = true;
        started = *one;
      }
      GANTRY_RETURN_IF_ERROR(Save(call, request->sandbox_id(), started));
      response->set_sandbox_id(request->sandbox_id());
      SetTime(started.created_at, response->mutable_created_at());
      containerd::events::SandboxStart event;
      event.set_sandbox_id(request->sandbox_id());
      room_.events->Publish(call.ns(), "/sandboxes/start", event);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Platform(grpc::CallbackServerContext* context,
                                     const ControllerPlatformRequest* request,
                                     ControllerPlatformResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      absl::MutexLock lock(&mu_);
      GANTRY_RETURN_IF_ERROR(Find(call, request->sandbox_id()).status());
      SetPlatform(ServedPlatform(oci::HostPlatform()), response->mutable_platform());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context,
                                 const ControllerStopRequest* request,
                                 ControllerStopResponse*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      return End(call, request->sandbox_id(), /*forget=*/false);
    });
  }

  grpc::ServerUnaryReactor* Wait(grpc::CallbackServerContext* context,
                                 const ControllerWaitRequest* request,
                                 ControllerWaitResponse* response) override {
    Call call(*context);
    const std::pair<std::string, std::string> key(call.ns(), request->sandbox_id());
    auto* reactor = new WaitReactor(response, [this, key](WaitReactor* waiter) {
      return Withdraw(key, waiter);
    });  // NOLINT(cppcoreguidelines-owning-memory)
    absl::Status status = call.Validate();
    if (status.ok()) status = CheckController(request->sandboxer());
    std::optional<absl::Time> stopped;
    if (status.ok()) {
      absl::MutexLock lock(&mu_);
      absl::StatusOr<Running*> one = Find(call, request->sandbox_id());
      status = !one.ok()   ? one.status()
               : stopping_ ? absl::UnavailableError("the daemon is stopping")
                           : absl::OkStatus();
      if (status.ok()) {
        stopped = (*one)->stopped_at;
        if (!stopped.has_value()) (*one)->waiters.push_back(reactor);
      }
    }
    if (!status.ok()) {
      reactor->Refuse(status);
    } else if (stopped.has_value()) {
      reactor->Answer(*stopped);
    }
    return reactor;
  }

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const ControllerStatusRequest* request,
                                   ControllerStatusResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      absl::MutexLock lock(&mu_);
      GANTRY_ASSIGN_OR_RETURN(Running * one, Find(call, request->sandbox_id()));
      response->set_sandbox_id(request->sandbox_id());
      response->set_state(one->started && !one->stopped_at.has_value() ? "SANDBOX_READY"
                                                                       : "SANDBOX_NOTREADY");
      SetTime(one->created_at, response->mutable_created_at());
      SetTime(one->stopped_at.value_or(absl::InfinitePast()), response->mutable_exited_at());
      if (request->verbose()) (*response->mutable_info())["controller"] = kShimController;
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Shutdown(grpc::CallbackServerContext* context,
                                     const ControllerShutdownRequest* request,
                                     ControllerShutdownResponse*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      return End(call, request->sandbox_id(), /*forget=*/true);
    });
  }

  // Nothing runs in the sandbox itself: there is nothing to count.
  grpc::ServerUnaryReactor* Metrics(grpc::CallbackServerContext* context,
                                    const ControllerMetricsRequest* request,
                                    ControllerMetricsResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(CheckController(request->sandboxer()));
      absl::MutexLock lock(&mu_);
      GANTRY_RETURN_IF_ERROR(Find(call, request->sandbox_id()).status());
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
      absl::MutexLock lock(&mu_);
      return Find(call, request->sandbox_id()).status();
    });
  }

 private:
  static absl::Status CheckController(const std::string& name) {
    if (name.empty()) return absl::InvalidArgumentError("sandbox: no sandboxer is named");
    if (name != kShimController)
      return absl::NotFoundError(absl::StrCat("sandbox controller \"", name, "\": not found"));
    return absl::OkStatus();
  }

  absl::StatusOr<Running*> Find(const Call& call, const std::string& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    auto it = running_.find({call.ns(), id});
    if (it != running_.end()) return &it->second;
    return absl::NotFoundError(
        absl::StrCat("sandbox \"", id, "\" in namespace \"", call.ns(), "\": not found"));
  }

  absl::Status End(const Call& call, const std::string& id, bool forget) {
    std::vector<WaitReactor*> waiters;
    absl::Time at;
    bool first = false;
    Running ended;
    {
      absl::MutexLock lock(&mu_);
      GANTRY_ASSIGN_OR_RETURN(Running * one, Find(call, id));
      first = !one->stopped_at.has_value();
      if (first) one->stopped_at = absl::Now();
      at = *one->stopped_at;
      waiters.swap(one->waiters);
      ended = *one;
      if (forget) running_.erase({call.ns(), id});
    }
    const metadata::Scope scope{call.ns(), ""};
    absl::Status stored =
        forget ? room_.stores->sandboxes.DeleteState(scope, id) : Save(call, id, ended);
    for (WaitReactor* waiter : waiters) waiter->Answer(at);
    if (!first) return stored;
    containerd::events::SandboxExit event;
    event.set_sandbox_id(id);
    SetTime(at, event.mutable_exited_at());
    room_.events->Publish(call.ns(), "/sandboxes/exit", event);
    return stored;
  }

  absl::Status Load() {
    absl::MutexLock lock(&mu_);
    return room_.stores->sandboxes.ListStates(
        [this](absl::string_view ns, absl::string_view id, const record::v1::SandboxState& state)
            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
              Running& one = running_[{std::string(ns), std::string(id)}];
              one.created_at = metadata::TimeOf(state.created_at());
              one.started = state.started();
              if (state.has_stopped_at()) {
                one.stopped_at = metadata::TimeOf(state.stopped_at());
              } else if (state.boot_id() != boot_id_) {
                one.stopped_at = absl::Now();
              }
              return absl::OkStatus();
            });
  }

  absl::Status Save(const Call& call, const std::string& id, const Running& one) {
    record::v1::SandboxState state;
    *state.mutable_created_at() = metadata::StampOf(one.created_at);
    state.set_started(one.started);
    if (one.stopped_at.has_value())
      *state.mutable_stopped_at() = metadata::StampOf(*one.stopped_at);
    state.set_boot_id(boot_id_);
    return room_.stores->sandboxes.PutState({call.ns(), ""}, id, state);
  }

  // True: it was still waiting, and is the caller's to answer.
  bool Withdraw(const std::pair<std::string, std::string>& key, WaitReactor* waiter) {
    absl::MutexLock lock(&mu_);
    auto it = running_.find(key);
    if (it == running_.end()) return false;
    return std::erase(it->second.waiters, waiter) > 0;
  }

  const Room& room_;
  const std::string boot_id_;
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::pair<std::string, std::string>, Running> running_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<DoorService> NewSandboxStoreService(const Room& room) {
  return std::make_unique<SandboxStoreService>(room);
}
std::unique_ptr<DoorService> NewSandboxControllerService(const Room& room) {
  return std::make_unique<SandboxControllerService>(room);
}

}  // namespace gantry::api::containerd_api
