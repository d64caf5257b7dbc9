// All of the life cycle but creation, which is in container_create.cc.
#include "supervisor/core/container_lifecycle.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"

#include "base/status_macros.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kStopPatience = absl::Seconds(10);

}  // namespace

absl::StatusOr<v1::StartContainerResponse> ContainerLifecycle::Start(
    const CallContext& context, const v1::StartContainerRequest& request) {
  parts_.tasks->AnnounceStart();
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  v1::StartContainerResponse response;
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped &&
      task->status != ProcessStatus::kCreated) {
    response.set_already_running(true);
    return response;
  }
  loaded.state.set_restart_count(0);
  GANTRY_RETURN_IF_ERROR(parts_.steps->StartLocked(context, loaded).status());
  return response;
}

absl::StatusOr<v1::StopContainerResponse> ContainerLifecycle::Stop(
    const CallContext& context, const v1::StopContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  v1::StopContainerResponse response;
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    // It may be waiting for its restart policy; a person who says stop means that, too.
    if (loaded.ours && !loaded.state.stopped_by_user()) {
      loaded.state.set_stopped_by_user(true);
      GANTRY_RETURN_IF_ERROR(
          parts_.stores->containers.PutState(loaded.scope, loaded.id(), loaded.state));
    }
    response.set_not_running(true);
    return response;
  }
  absl::Duration patience = kStopPatience;
  if (loaded.config.has_stop_timeout_seconds())
    patience = absl::Seconds(loaded.config.stop_timeout_seconds());
  if (request.has_timeout_seconds()) patience = absl::Seconds(request.timeout_seconds());
  if (patience < absl::ZeroDuration()) patience = absl::InfiniteDuration();
  bool killed = false;
  GANTRY_RETURN_IF_ERROR(
      parts_.steps->StopLocked(context, loaded, request.signal(), patience, &killed));
  GANTRY_RETURN_IF_ERROR(parts_.steps->SettleLocked(context, loaded).status());
  response.set_killed(killed);
  return response;
}

absl::Status ContainerLifecycle::Kill(const CallContext& context, const std::string& container,
                                      const std::string& signal) {
  // No operation lock: a kill must get through while a stop waits.
  GANTRY_ASSIGN_OR_RETURN(int number, ParseSignal(signal.empty() ? "KILL" : signal));
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not running"));
  }
  if (loaded.ours && number == SIGKILL) {
    loaded.state.set_stopped_by_user(true);
    GANTRY_RETURN_IF_ERROR(parts_.stores->containers.PutState(
        loaded.scope, loaded.id(), loaded.state, metadata::Durability::kBuffered));
    if (task->status == ProcessStatus::kPaused)
      GANTRY_RETURN_IF_ERROR(parts_.tasks->Resume(context, loaded.id()));
  }
  return parts_.steps->SendSignal(context, loaded, number);
}

absl::Status ContainerLifecycle::Restart(const CallContext& context,
                                         const v1::RestartContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    absl::Duration patience = kStopPatience;
    if (loaded.config.has_stop_timeout_seconds())
      patience = absl::Seconds(loaded.config.stop_timeout_seconds());
    if (request.has_timeout_seconds()) patience = absl::Seconds(request.timeout_seconds());
    if (patience < absl::ZeroDuration()) patience = absl::InfiniteDuration();
    // Its end must not remove it: it comes back.
    const bool auto_remove = loaded.config.auto_remove();
    loaded.config.set_auto_remove(false);
    GANTRY_RETURN_IF_ERROR(
        parts_.steps->StopLocked(context, loaded, request.signal(), patience, nullptr));
    GANTRY_RETURN_IF_ERROR(parts_.steps->SettleLocked(context, loaded).status());
    loaded.config.set_auto_remove(auto_remove);
  }
  loaded.state.set_restart_count(0);
  GANTRY_RETURN_IF_ERROR(parts_.steps->StartLocked(context, loaded).status());
  parts_.records->Publish(loaded, "restart");
  return absl::OkStatus();
}

absl::Status ContainerLifecycle::Pause(const CallContext& context, const std::string& container) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, container, lock));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not running"));
  }
  if (task->status == ProcessStatus::kPaused) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container, " is already paused"));
  }
  return parts_.tasks->Pause(context, loaded.id());
}

absl::Status ContainerLifecycle::Unpause(const CallContext& context, const std::string& container) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, container, lock));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status != ProcessStatus::kPaused) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not paused"));
  }
  return parts_.tasks->Resume(context, loaded.id());
}

absl::StatusOr<v1::RemoveContainerResponse> ContainerLifecycle::Remove(
    const CallContext& context, const v1::RemoveContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  GANTRY_RETURN_IF_ERROR(parts_.steps->RemoveLocked(context, loaded, request.force()));
  v1::RemoveContainerResponse response;
  response.set_id(loaded.id());
  return response;
}

absl::Status ContainerLifecycle::Rename(const CallContext& context, const std::string& container,
                                        const std::string& new_name) {
  GANTRY_RETURN_IF_ERROR(CheckContainerName(new_name));
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, container, lock));
  const std::string old_name = loaded.name;
  GANTRY_RETURN_IF_ERROR(parts_.stores->names.Rename(loaded.scope, loaded.id(), new_name));
  loaded.name = new_name;
  parts_.records->Publish(loaded, "rename",
                          {{"gantry.old-name", old_name}, {"gantry.name", new_name}});
  return absl::OkStatus();
}

absl::StatusOr<v1::UpdateContainerResponse> ContainerLifecycle::Update(
    const CallContext& context, const v1::UpdateContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  if (!loaded.ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", loaded.id(), " was made by another client; update it with that one"));
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
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    GANTRY_RETURN_IF_ERROR(parts_.tasks->Update(context, loaded.id(), oci::PrintResources(change)));
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
  absl::Time until = absl::InfiniteFuture();
  for (const v1::Filter& filter : request.filters()) {
    if (filter.key() == "label") {
      *list.add_filters() = filter;
    } else if (filter.key() == "until") {
      absl::Duration age;
      std::string error;
      if (absl::ParseDuration(filter.value(), &age)) {
        until = absl::Now() - age;
      } else if (!absl::ParseTime(absl::RFC3339_full, filter.value(), &until, &error)) {
        return absl::InvalidArgumentError(absl::StrCat("filter until: \"", filter.value(),
                                                       "\" is neither a duration nor a time"));
      }
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("filter \"", filter.key(), "\" is not known; use label or until"));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(v1::ListContainersResponse listed, parts_.view->List(context, list));
  v1::PruneContainersResponse response;
  for (const v1::ContainerSummary& container : listed.containers()) {
    if (container.state() != v1::CONTAINER_STATE_EXITED &&
        container.state() != v1::CONTAINER_STATE_CREATED)
      continue;
    if (absl::FromUnixSeconds(container.created_at().seconds()) > until) continue;
    OperationLock lock = parts_.records->Lock(context.ns, container.id());
    absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, container.id());
    if (!loaded.ok() || !loaded->ours) continue;
    absl::Status removed = parts_.steps->RemoveLocked(context, *loaded, false);
    if (absl::IsFailedPrecondition(removed)) continue;  // started meanwhile
    GANTRY_RETURN_IF_ERROR(removed);
    response.add_deleted(container.id());
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() +
                                       container.size_rw_bytes());
  }
  return response;
}

}  // namespace gantry::core
