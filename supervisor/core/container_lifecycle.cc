// All of the life cycle but creation, which is in container_create.cc.
#include "supervisor/core/container_lifecycle.h"

#include <signal.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/status_macros.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/container_names.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/filters.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kStopPatience = absl::Seconds(10);
// docker's: how long a kill waits for the end that it causes.
constexpr absl::Duration kKillPatience = absl::Seconds(10);

// The patience of a stop: the request's, else the container's own, else ten seconds. Less than
// zero: no limit.
template <class Request>
absl::Duration PatienceOf(const Request& request, const v1::ContainerConfig& config) {
  absl::Duration patience = kStopPatience;
  if (config.has_stop_timeout_seconds()) patience = absl::Seconds(config.stop_timeout_seconds());
  if (request.has_timeout_seconds()) patience = absl::Seconds(request.timeout_seconds());
  return patience < absl::ZeroDuration() ? absl::InfiniteDuration() : patience;
}

absl::Status NotRunning(absl::string_view container) {
  return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not running"));
}

absl::Status Restarting(absl::string_view container) {
  return absl::FailedPreconditionError(
      absl::StrCat("container ", container, " is restarting, wait until the container is running"));
}

}  // namespace

v1::ContainerState ContainerLifecycle::StateNow(const LoadedContainer& loaded,
                                                absl::StatusOr<Process>* task) const {
  absl::StatusOr<Process> found = parts_.tasks->view().Get(loaded.scope.ns, loaded.id(), "");
  const v1::ContainerState state =
      StateOf(loaded.state, loaded.config.restart_policy(), found.ok() ? &*found : nullptr);
  if (task != nullptr) *task = std::move(found);
  return state;
}

absl::StatusOr<v1::StartContainerResponse> ContainerLifecycle::Start(
    const CallContext& context, const v1::StartContainerRequest& request) {
  if (!request.checkpoint().empty()) {
    return absl::UnimplementedError(
        absl::StrCat("container ", request.container(), ": starting from the checkpoint \"",
                     request.checkpoint(), "\" is not supported: start it without one"));
  }
  parts_.tasks->AnnounceStart();
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  v1::StartContainerResponse response;
  const v1::ContainerState state = StateNow(loaded);
  if (state == v1::CONTAINER_STATE_PAUSED) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", request.container(),
                     ": cannot start a paused container, try unpause instead"));
  }
  if (IsActive(state)) {
    response.set_already_running(true);
    return response;
  }
  const CallContext held = lock.Within(context);
  const bool removing = loaded.state.removing();  // before: a failed start may set it
  const absl::Status started =
      parts_.steps->StartLocked(held, loaded, /*restart_count=*/0).status();
  if (started.ok()) return response;
  if (loaded.ours && loaded.config.auto_remove() && !removing) {
    const absl::Status removed = parts_.removal->RemoveLocked(held, loaded, /*force=*/true);
    LOG_IF(WARNING, !removed.ok()) << "ns=" << context.ns << " id=" << loaded.id()
                                   << " it did not start and stays: " << removed;
  }
  return started;
}

absl::StatusOr<v1::StopContainerResponse> ContainerLifecycle::Stop(
    const CallContext& context, const v1::StopContainerRequest& request) {
  OperationLock lock;
  LoadedContainer loaded;
  {
    // A stop that has the lock and more patience than this one is cut short.
    GANTRY_ASSIGN_OR_RETURN(loaded, parts_.records->Load(context, request.container()));
    const ContainerSteps::Hurry hurry(*parts_.steps, context.ns, loaded.id(),
                                      PatienceOf(request, loaded.config));
    GANTRY_ASSIGN_OR_RETURN(loaded, parts_.records->LoadLocked(context, request.container(), lock));
  }
  const CallContext held = lock.Within(context);
  v1::StopContainerResponse response;
  absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    // It may be waiting for its restart policy; a person who says stop means that, too.
    if (loaded.ours && !loaded.state.stopped_by_user()) {
      const bool restarting = loaded.state.has_restart_at();
      GANTRY_RETURN_IF_ERROR(
          parts_.records->UpdateState(loaded, [](record::v1::ContainerState& state) {
            state.set_stopped_by_user(true);
            state.clear_restart_at();
          }));
      if (restarting) {
        parts_.steps->EndRestartPause(loaded);
        parts_.records->Publish(loaded, "stop");
      }
    }
    response.set_not_running(true);
    return response;
  }
  bool killed = false;
  GANTRY_RETURN_IF_ERROR(
      parts_.steps->StopLocked(held, loaded, request.signal(), PatienceOf(request, loaded.config),
                               ContainerSteps::AfterStop::kStaysStopped, &killed));
  GANTRY_RETURN_IF_ERROR(parts_.steps->SettleLocked(held, loaded).status());
  response.set_killed(killed);
  return response;
}

absl::Status ContainerLifecycle::Kill(const CallContext& context, const std::string& container,
                                      const std::string& signal) {
  // No operation lock: a kill must get through while a stop waits.
  GANTRY_ASSIGN_OR_RETURN(int number, ParseSignal(signal.empty() ? "KILL" : signal));
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  absl::StatusOr<Process> task = absl::UnknownError("not looked up yet");
  const v1::ContainerState state = StateNow(loaded, &task);
  const bool runs = task.ok() && task->status != ProcessStatus::kStopped;
  if (!runs && state != v1::CONTAINER_STATE_RESTARTING) return NotRunning(container);
  if (loaded.ours && (number == SIGKILL || !runs)) {
    GANTRY_RETURN_IF_ERROR(parts_.records->UpdateState(
        loaded,
        [](record::v1::ContainerState& change) {
          change.set_stopped_by_user(true);
          change.clear_restart_at();
        },
        metadata::Durability::kBuffered));
  }
  if (!runs) {
    parts_.steps->EndRestartPause(loaded);
    return absl::OkStatus();
  }
  if (number != SIGKILL) return parts_.steps->SendSignal(context, loaded, number);
  if (task->status == ProcessStatus::kPaused)
    GANTRY_RETURN_IF_ERROR(parts_.tasks->Resume(context, loaded.id()));
  GANTRY_RETURN_IF_ERROR(parts_.steps->SendSignal(context, loaded, number));
  // What follows (a removal, a start) finds that it is over.
  return parts_.steps->WaitAfterKill(context, loaded.id(), kKillPatience);
}

absl::Status ContainerLifecycle::Restart(const CallContext& context,
                                         const v1::RestartContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(loaded));
  const CallContext held = lock.Within(context);
  absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    GANTRY_RETURN_IF_ERROR(
        parts_.steps->StopLocked(held, loaded, request.signal(), PatienceOf(request, loaded.config),
                                 ContainerSteps::AfterStop::kStartsAgain, nullptr));
    GANTRY_RETURN_IF_ERROR(parts_.steps->SettleLocked(held, loaded, /*keep=*/true).status());
    // If the daemon dies now, the next one starts it.
    if (loaded.ours) {
      GANTRY_RETURN_IF_ERROR(parts_.records->UpdateState(
          loaded,
          [](record::v1::ContainerState& state) {
            SetTimestamp(absl::Now(), state.mutable_restart_at());
          },
          metadata::Durability::kBuffered));
    }
  }
  GANTRY_RETURN_IF_ERROR(parts_.steps->StartLocked(held, loaded, /*restart_count=*/0).status());
  parts_.records->Publish(loaded, "restart");
  return absl::OkStatus();
}

absl::Status ContainerLifecycle::Pause(const CallContext& context, const std::string& container) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, container, lock));
  switch (StateNow(loaded)) {
    case v1::CONTAINER_STATE_RUNNING:
      return parts_.tasks->Pause(lock.Within(context), loaded.id());
    case v1::CONTAINER_STATE_PAUSED:
      return absl::FailedPreconditionError(
          absl::StrCat("container ", container, " is already paused"));
    case v1::CONTAINER_STATE_RESTARTING:
      return Restarting(container);
    default:
      return NotRunning(container);
  }
}

absl::Status ContainerLifecycle::Unpause(const CallContext& context, const std::string& container) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, container, lock));
  if (StateNow(loaded) != v1::CONTAINER_STATE_PAUSED) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not paused"));
  }
  return parts_.tasks->Resume(lock.Within(context), loaded.id());
}

absl::StatusOr<v1::RemoveContainerResponse> ContainerLifecycle::Remove(
    const CallContext& context, const v1::RemoveContainerRequest& request) {
  if (request.force()) {
    GANTRY_ASSIGN_OR_RETURN(const std::string id,
                            parts_.records->ResolveId(context, request.container()));
    parts_.records->locks().Interrupt(context.ns, id, "it is being removed");
  }
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(
      LoadedContainer loaded,
      parts_.records->LoadLocked(context, request.container(), lock, Interruptible::kNo));
  GANTRY_RETURN_IF_ERROR(
      parts_.removal->RemoveLocked(lock.Within(context), loaded, request.force(),
                                   request.volumes() ? VolumesGo::kYes : VolumesGo::kNo));
  v1::RemoveContainerResponse response;
  response.set_id(loaded.id());
  return response;
}

absl::Status ContainerLifecycle::Rename(const CallContext& context, const std::string& container,
                                        const std::string& new_text) {
  const std::string new_name(absl::StripPrefix(new_text, "/"));
  GANTRY_RETURN_IF_ERROR(CheckContainerName(new_name));
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, container, lock));
  const std::string old_name = loaded.name;
  if (old_name == new_name) {
    return absl::InvalidArgumentError(absl::StrCat("container ", container, ": \"", new_name,
                                                   "\" is its name already; choose another one"));
  }
  GANTRY_RETURN_IF_ERROR(parts_.stores->names.Rename(loaded.scope, loaded.id(), new_name));
  loaded.name = new_name;
  if (parts_.networks != nullptr) {
    const absl::Status told = parts_.networks->Rename(
        context, {loaded.id(), loaded.ShownName(), loaded.config.hostname()});
    // The next start has it right.
    LOG_IF(WARNING, !told.ok()) << "ns=" << context.ns << " id=" << loaded.id()
                                << " its new name in networks: " << told;
  }
  parts_.records->Publish(loaded, "rename", {{"oldName", absl::StrCat("/", old_name)}});
  return absl::OkStatus();
}

absl::StatusOr<v1::UpdateContainerResponse> ContainerLifecycle::Update(
    const CallContext& context, const v1::UpdateContainerRequest& request) {
  if (request.resources().ByteSizeLong() == 0 && !request.has_restart_policy())
    return absl::InvalidArgumentError("update: nothing is given that is to change");
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  if (!loaded.ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", loaded.id(), " was made by another client; update it with that one"));
  }
  GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(loaded));
  if (loaded.config.auto_remove() && request.has_restart_policy() &&
      !request.restart_policy().name().empty() && request.restart_policy().name() != "no") {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", loaded.id(),
                     " removes itself at its end, so it cannot have a restart policy"));
  }
  loaded.config.mutable_resources()->MergeFrom(request.resources());
  if (request.has_restart_policy())
    *loaded.config.mutable_restart_policy() = request.restart_policy();
  GANTRY_RETURN_IF_ERROR(CheckContainerConfig(loaded.config));
  GANTRY_ASSIGN_OR_RETURN(oci::Resources change, ToResources(request.resources()));
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec,
                          oci::RuntimeSpec::Parse(loaded.record.spec().value()));
  oci::Resources merged;
  auto& linux_json = spec.document()["linux"];
  if (linux_json.contains("resources")) {
    GANTRY_ASSIGN_OR_RETURN(merged, oci::ResourcesFromJson(linux_json["resources"]));
  }
  oci::MergeResources(merged, change);
  GANTRY_RETURN_IF_ERROR(oci::CheckResources(merged));
  const nlohmann::json printed = oci::ResourcesToJson(merged);
  for (auto it = printed.begin(); it != printed.end(); ++it)
    linux_json["resources"][it.key()] = it.value();

  // The running container first: a limit the kernel refuses must not be on record.
  absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    GANTRY_RETURN_IF_ERROR(
        parts_.tasks->Update(lock.Within(context), loaded.id(), oci::PrintResources(change)));
  }
  loaded.record.mutable_spec()->set_value(spec.Print());
  WriteIntent(loaded.config, loaded.record);
  GANTRY_RETURN_IF_ERROR(
      parts_.stores->containers.Update(loaded.scope, loaded.record, {"spec", "extensions"})
          .status());
  parts_.records->Publish(loaded, "update");
  return v1::UpdateContainerResponse();
}

absl::StatusOr<v1::PruneContainersResponse> ContainerLifecycle::Prune(
    const CallContext& context, const v1::PruneContainersRequest& request) {
  v1::ListContainersRequest list;
  list.set_all(true);
  list.set_size(true);
  GANTRY_ASSIGN_OR_RETURN(const Filters filters, Filters::Parse(request.filters(), {"until"}));
  GANTRY_ASSIGN_OR_RETURN(
      const CreatedBounds bounds,
      CreatedBounds::Parse(filters, parts_.stores->clock.Now(), /*find=*/nullptr));
  GANTRY_ASSIGN_OR_RETURN(v1::ListContainersResponse listed, parts_.view->List(context, list));
  v1::PruneContainersResponse response;
  for (const v1::ContainerSummary& container : listed.containers()) {
    if (!IsPrunable(container.state()) || !filters.LabelsMatch(container.labels())) continue;
    if (!bounds.Hold(absl::FromUnixSeconds(container.created_at().seconds()))) continue;
    OperationLock lock;
    absl::StatusOr<LoadedContainer> loaded =
        parts_.records->LoadLocked(context, container.id(), lock, Interruptible::kNo);
    if (absl::IsNotFound(loaded.status())) continue;
    GANTRY_RETURN_IF_ERROR(loaded.status());
    if (!loaded->ours || !IsPrunable(StateNow(*loaded))) continue;  // started meanwhile
    GANTRY_RETURN_IF_ERROR(
        parts_.removal->RemoveLocked(lock.Within(context), *loaded, /*force=*/false));
    response.add_deleted(container.id());
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() +
                                       container.size_rw_bytes());
  }
  parts_.events->Publish(context.ns,
                         Event(EventKind::kContainer, "prune", "",
                               {{"reclaimed", absl::StrCat(response.space_reclaimed_bytes())}}));
  return response;
}

}  // namespace gantry::core
