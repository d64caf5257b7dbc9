#include "supervisor/core/container_recovery.h"

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {

void ContainerRecovery::OnExit(const std::string& ns, const Process& process) {
  CallContext context;
  context.ns = ns;
  if (!process.exec_id.empty()) {
    // Execs of ours clean up after themselves; those of containerd's clients belong to them.
    if (!absl::StartsWith(process.exec_id, kExecPrefix)) return;
    absl::StatusOr<Exit> gone =
        parts_.tasks->Delete(context, process.container_id, process.exec_id);
    if (!gone.ok() && !absl::IsNotFound(gone.status())) {
      LOG(WARNING) << "ns=" << ns << " id=" << process.container_id << " exec=" << process.exec_id
                   << " " << gone.status();
    }
    return;
  }
  OperationLock lock = parts_.records->Lock(ns, process.container_id);
  absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, process.container_id);
  if (!loaded.ok() || !loaded->ours) return;
  absl::StatusOr<bool> removed = false;
  if (parts_.tasks->Get(ns, loaded->id(), "").ok()) {
    removed = parts_.steps->SettleLocked(context, *loaded);
  } else if (loaded->state.status() == record::v1::ContainerState::RUNNING) {
    // The shim died and the task went with it: what is known of the end is what the event said.
    loaded->state.set_status(record::v1::ContainerState::STOPPED);
    loaded->state.set_pid(0);
    loaded->state.set_exit_code(process.exit_status);
    loaded->state.set_oom_killed(process.oom_killed);
    loaded->state.set_error(process.reason);
    SetTimestamp(process.exited_at, loaded->state.mutable_finished_at());
    absl::Status stored =
        parts_.stores->containers.PutState(loaded->scope, loaded->id(), loaded->state);
    if (!stored.ok()) removed = stored;
    if (stored.ok() && loaded->config.auto_remove()) {
      absl::Status gone = parts_.steps->RemoveLocked(context, *loaded, false);
      if (gone.ok())
        removed = true;
      else
        removed = gone;
    }
  }
  if (!removed.ok()) {
    LOG(ERROR) << "ns=" << ns << " id=" << process.container_id
               << " settling its exit: " << removed.status();
    return;
  }
  if (!*removed) ScheduleRestart(*loaded);
}

void ContainerRecovery::ScheduleRestart(const LoadedContainer& loaded) {
  const v1::RestartPolicy& policy = loaded.config.restart_policy();
  if (policy.name().empty() || policy.name() == "no" || loaded.state.stopped_by_user()) return;
  if (policy.name() == "on-failure") {
    if (loaded.state.exit_code() == 0) return;
    if (policy.maximum_retry_count() > 0 &&
        loaded.state.restart_count() >= static_cast<uint32_t>(policy.maximum_retry_count())) {
      return;
    }
  }
  // 100 ms, doubled with each restart that follows a short run, at most a minute.
  const absl::Duration ran = absl::FromUnixSeconds(loaded.state.finished_at().seconds()) -
                             absl::FromUnixSeconds(loaded.state.started_at().seconds());
  const uint32_t streak =
      ran >= absl::Seconds(10) ? 0 : std::min<uint32_t>(loaded.state.restart_count(), 10);
  const absl::Duration delay = std::min(absl::Milliseconds(100) * (1 << streak), absl::Minutes(1));
  restarts_.At(delay, [this, ns = loaded.scope.ns, id = loaded.id()] {
    CallContext context;
    context.ns = ns;
    OperationLock lock;
    absl::StatusOr<LoadedContainer> again = parts_.records->LoadLocked(context, id, lock);
    if (!again.ok() || again->state.stopped_by_user() || parts_.tasks->Exists(ns, id)) return;
    again->state.set_restart_count(again->state.restart_count() + 1);
    absl::StatusOr<int32_t> pid = parts_.steps->StartLocked(context, *again);
    if (pid.ok()) return;
    LOG(ERROR) << "ns=" << ns << " id=" << id << " restart policy: " << pid.status();
    SetTimestamp(absl::Now(), again->state.mutable_started_at());
    SetTimestamp(absl::Now(), again->state.mutable_finished_at());
    ScheduleRestart(*again);
  });
}

absl::Status ContainerRecovery::Reconcile() {
  Stores& stores = *parts_.stores;
  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(stores.namespaces.List([&namespaces](const record::v1::Namespace& ns) {
    namespaces.push_back(ns.name());
    return absl::OkStatus();
  }));
  for (const std::string& ns : namespaces) {
    CallContext context;
    context.ns = ns;
    GANTRY_ASSIGN_OR_RETURN(std::vector<LoadedContainer> all, parts_.records->LoadAll(context));
    CrashPoint("reconcile.listed");
    for (const LoadedContainer& listed : all) {
      if (!listed.ours) continue;
      OperationLock lock = parts_.records->Lock(ns, listed.id());
      // As it is now: the news of its exit may have come after the list was read, and settled it.
      absl::StatusOr<LoadedContainer> current = parts_.records->Load(context, listed.id());
      if (absl::IsNotFound(current.status())) continue;
      GANTRY_RETURN_IF_ERROR(current.status());
      LoadedContainer& loaded = *current;
      absl::StatusOr<Process> task = parts_.tasks->Get(ns, loaded.id(), "");
      if (loaded.state.removing()) {
        absl::Status removed = parts_.steps->RemoveLocked(context, loaded, true);
        if (!removed.ok())
          LOG(ERROR) << "ns=" << ns << " id=" << loaded.id()
                     << " finishing its removal: " << removed;
        continue;
      }
      if (task.ok() && task->status == ProcessStatus::kStopped) {
        absl::StatusOr<bool> removed = parts_.steps->SettleLocked(context, loaded);
        if (!removed.ok())
          LOG(ERROR) << "ns=" << ns << " id=" << loaded.id() << " " << removed.status();
        if (removed.ok() && !*removed) ScheduleRestart(loaded);
        continue;
      }
      if (task.ok() && task->status == ProcessStatus::kCreated) {
        // Made for a client that was going to attach and start it; that client is gone with our former life.
        absl::StatusOr<Exit> gone = parts_.tasks->Delete(context, loaded.id(), "", /*force=*/true);
        if (!gone.ok()) LOG(ERROR) << "ns=" << ns << " id=" << loaded.id() << " " << gone.status();
        if (loaded.config.auto_remove()) {
          absl::Status removed = parts_.steps->RemoveLocked(context, loaded, true);
          if (!removed.ok()) LOG(ERROR) << "ns=" << ns << " id=" << loaded.id() << " " << removed;
        }
        continue;
      }
      if (task.ok()) {
        if (loaded.state.status() != record::v1::ContainerState::RUNNING &&
            task->status == ProcessStatus::kRunning) {
          GANTRY_RETURN_IF_ERROR(parts_.steps->NoteStarted(loaded, task->pid));
          if (task->started_at != absl::InfinitePast())
            SetTimestamp(task->started_at, loaded.state.mutable_started_at());
        }
        continue;
      }
      if (loaded.state.status() == record::v1::ContainerState::RUNNING) {
        // Neither shim nor bundle: the machine went down with it (or OnExit is about to say more).
        loaded.state.set_status(record::v1::ContainerState::STOPPED);
        loaded.state.set_pid(0);
        if (!loaded.state.has_finished_at()) {
          loaded.state.set_exit_code(255);
          loaded.state.set_error("it ended while no supervisor ran, with the machine or its shim");
          SetTimestamp(absl::Now(), loaded.state.mutable_finished_at());
        }
        GANTRY_RETURN_IF_ERROR(stores.containers.PutState(loaded.scope, loaded.id(), loaded.state));
        if (loaded.config.auto_remove()) {
          absl::Status removed = parts_.steps->RemoveLocked(context, loaded, true);
          if (!removed.ok()) LOG(ERROR) << "ns=" << ns << " id=" << loaded.id() << " " << removed;
          continue;
        }
        ScheduleRestart(loaded);
      } else if (loaded.config.restart_policy().name() == "always" &&
                 loaded.state.status() == record::v1::ContainerState::STOPPED) {
        loaded.state.set_stopped_by_user(false);
        ScheduleRestart(loaded);
      }
    }
  }
  return SweepDirectories();
}

absl::Status ContainerRecovery::SweepDirectories() {
  for (const std::string& top :
       {parts_.root_directory + "/containers", parts_.state_directory + "/containers"}) {
    const absl::StatusOr<std::vector<std::string>> namespaces = ListDirectory(top);
    if (absl::IsNotFound(namespaces.status())) continue;
    GANTRY_RETURN_IF_ERROR(namespaces.status());
    for (const std::string& ns : *namespaces) {
      std::set<std::string> known;
      GANTRY_RETURN_IF_ERROR(parts_.stores->containers.ListRaw(
          {ns, ""}, [&known](absl::string_view id, absl::string_view) {
            known.emplace(id);
            return absl::OkStatus();
          }));
      const std::string directory = absl::StrCat(top, "/", ns);
      GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> ids, ListDirectory(directory));
      for (const std::string& id : ids) {
        if (known.count(id) > 0) continue;
        const absl::Status removed = RemoveTree(absl::StrCat(directory, "/", id));
        LOG(INFO) << "ns=" << ns << " id=" << id
                  << " files of a container that is not there: " << removed;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
