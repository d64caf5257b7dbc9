#include "supervisor/core/container_recovery.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/restart_policy.h"

namespace gantry::core {
namespace {

using State = record::v1::ContainerState;

constexpr absl::Duration kLongestPause = absl::Minutes(1);

absl::Time FromProto(const google::protobuf::Timestamp& at) {
  return absl::FromUnixSeconds(at.seconds()) + absl::Nanoseconds(at.nanos());
}

// Whether a container of that state may have to be settled, removed or started, task or not.
bool MayHaveWork(const State& state) {
  return state.status() != State::CREATED || state.starting() || state.removing() ||
         state.has_restart_at();
}

CallContext ContextOf(const std::string& ns) {
  CallContext context;
  context.ns = ns;
  return context;
}

}  // namespace

void ContainerRecovery::OnExit(const std::string& ns, const Process& process) {
  if (process.exec_id.empty()) return Settle(ns, process.container_id, process, /*failed=*/0);
  // Execs of ours are removed at their end; those of containerd's clients belong to them.
  if (!absl::StartsWith(process.exec_id, kExecPrefix)) return;
  const absl::Status gone =
      parts_.tasks->Delete(ContextOf(ns), process.container_id, process.exec_id).status();
  LOG_IF(WARNING, !gone.ok() && !absl::IsNotFound(gone))
      << "ns=" << ns << " id=" << process.container_id << " exec=" << process.exec_id << " "
      << gone;
}

void ContainerRecovery::Settle(const std::string& ns, const std::string& id,
                               const std::optional<Process>& ended, int failed) {
  const CallContext context = ContextOf(ns);
  OperationLock lock;
  absl::StatusOr<LoadedContainer> loaded =
      parts_.records->LoadLocked(context, id, lock, Interruptible::kNo);
  if (!loaded.ok() || !loaded->ours) return;
  const absl::StatusOr<bool> removed = SettleLoaded(lock.Within(context), *loaded, ended);
  if (removed.ok()) {
    if (!*removed) ScheduleRestart(*loaded);
    return;
  }
  loaded = parts_.records->Load(context, id);
  if (!loaded.ok() || loaded->state.removing()) return;  // gone, or its removal goes on by itself
  const absl::Duration pause =
      std::min(parts_.first_pause * (int64_t{1} << std::min(failed, 16)), kLongestPause);
  LOG(ERROR) << "ns=" << ns << " id=" << id << " settling its exit: " << removed.status()
             << "; tried again in " << absl::FormatDuration(pause);
  later_.At(pause, [this, ns, id, ended, failed] { Settle(ns, id, ended, failed + 1); });
}

absl::StatusOr<bool> ContainerRecovery::SettleLoaded(const CallContext& context,
                                                     LoadedContainer& loaded,
                                                     const std::optional<Process>& ended) {
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status == ProcessStatus::kCreated && !ended.has_value()) {
    // Made for a client that was going to attach and start it, and that an earlier daemon served.
    const absl::Status gone =
        parts_.tasks->Delete(context, loaded.id(), "", /*force=*/true).status();
    if (!gone.ok() && !absl::IsNotFound(gone)) return gone;
    return EndCutOffStart(context, loaded);
  }
  if (task.ok()) return parts_.steps->SettleLocked(context, loaded);
  // The shim of a start that an earlier daemon began answered nobody before it died.
  if (loaded.state.starting() && ended.has_value()) return EndCutOffStart(context, loaded);
  if (loaded.state.status() != State::RUNNING || !ended.has_value()) return false;
  // The shim died and the task went with it: what is known of the end is what the event said.
  GANTRY_RETURN_IF_ERROR(parts_.steps->NoteEnded(loaded, *ended, metadata::Durability::kSynced));
  if (!loaded.config.auto_remove()) return false;
  GANTRY_RETURN_IF_ERROR(parts_.removal->RemoveLocked(context, loaded, /*force=*/false));
  return true;
}

absl::StatusOr<bool> ContainerRecovery::EndCutOffStart(const CallContext& context,
                                                       LoadedContainer& loaded) {
  if (loaded.config.auto_remove()) {
    GANTRY_RETURN_IF_ERROR(parts_.removal->RemoveLocked(context, loaded, /*force=*/true));
    return true;
  }
  GANTRY_RETURN_IF_ERROR(parts_.records->UpdateState(loaded, [](State& state) {
    state.set_starting(false);
    state.set_error("gantryd ended while it was being started");
  }));
  return false;
}

void ContainerRecovery::ScheduleRestart(const LoadedContainer& loaded) {
  if (!loaded.state.has_restart_at()) return;
  const absl::Duration delay =
      std::clamp(FromProto(loaded.state.restart_at()) - parts_.stores->clock.Now(),
                 absl::ZeroDuration(), kLongestPause);
  later_.At(delay, [this, ns = loaded.scope.ns, id = loaded.id()] { StartAgain(ns, id); });
}

void ContainerRecovery::StartAgain(const std::string& ns, const std::string& id) {
  const CallContext context = ContextOf(ns);
  OperationLock lock;
  absl::StatusOr<LoadedContainer> loaded = parts_.records->LoadLocked(context, id, lock);
  // Stopped, removed or started by a client meanwhile.
  if (!loaded.ok() || !loaded->state.has_restart_at() || parts_.tasks->view().Exists(ns, id))
    return;
  const absl::Status started =
      parts_.steps->StartLocked(lock.Within(context), *loaded, loaded->state.restart_count() + 1)
          .status();
  if (started.ok()) return;
  LOG(ERROR) << "ns=" << ns << " id=" << id << " restart policy: " << started;
  const v1::RestartPolicy& policy = loaded->config.restart_policy();
  const absl::Status noted = parts_.records->UpdateState(
      *loaded,
      [&policy](State& state) {
        SetTimestamp(absl::Now(), state.mutable_started_at());
        SetTimestamp(absl::Now(), state.mutable_finished_at());
        const std::optional<absl::Duration> delay = RestartDelay(policy, state);
        if (delay.has_value()) SetTimestamp(absl::Now() + *delay, state.mutable_restart_at());
      },
      metadata::Durability::kBuffered);
  LOG_IF(ERROR, !noted.ok() && !absl::IsNotFound(noted))
      << "ns=" << ns << " id=" << id << " " << noted;
  if (!noted.ok()) return;
  if (!loaded->state.has_restart_at()) parts_.steps->EndRestartPause(*loaded);
  ScheduleRestart(*loaded);
}

absl::Status ContainerRecovery::Reconcile() {
  Stores& stores = *parts_.stores;
  std::vector<std::string> namespaces;
  GANTRY_RETURN_IF_ERROR(stores.namespaces.List([&namespaces](const record::v1::Namespace& ns) {
    namespaces.push_back(ns.name());
    return absl::OkStatus();
  }));
  for (const std::string& ns : namespaces) {
    // What never ran and does not run needs no reading of its record, and that is most where there
    // are many.
    std::vector<std::string> ids;
    GANTRY_RETURN_IF_ERROR(
        stores.containers.ListStates({ns, ""}, [&](absl::string_view id, const State* state) {
          const std::string container(id);
          if (state != nullptr) parts_.records->NoteState(ns, container, *state);
          if (state == nullptr || MayHaveWork(*state) || parts_.tasks->view().Exists(ns, container))
            ids.push_back(container);
          return absl::OkStatus();
        }));
    CrashPoint("reconcile.listed");
    for (const std::string& id : ids) {
      const absl::StatusOr<LoadedContainer> listed = parts_.records->Load(ContextOf(ns), id);
      if (absl::IsNotFound(listed.status())) continue;
      const absl::Status reconciled = listed.ok() ? ReconcileOne(*listed) : listed.status();
      // One container's trouble keeps none of the others, nor the daemon, from starting.
      LOG_IF(ERROR, !reconciled.ok()) << "ns=" << ns << " id=" << id << " " << reconciled;
    }
  }
  // What stays goes with the next collection.
  const absl::Status swept = parts_.records->directories().Sweep();
  LOG_IF(ERROR, !swept.ok()) << "directories of containers that are not there: " << swept;
  return absl::OkStatus();
}

absl::Status ContainerRecovery::ReconcileOne(const LoadedContainer& listed) {
  const std::string& ns = listed.scope.ns;
  const std::string& id = listed.id();
  if (listed.damaged) return ContainerRecords::CheckReadable(listed);
  if (listed.state.removing()) {
    parts_.removal->GoOn(ns, id, absl::ZeroDuration());
    return absl::OkStatus();
  }
  if (!listed.ours) return absl::OkStatus();
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(ns, id, "");
  if (task.ok()) {
    if (task->status == ProcessStatus::kStopped || task->status == ProcessStatus::kCreated) {
      // Takes calls to the shim, side by side and beside whatever else is done; other calls on this
      // container wait for it.
      parts_.workers->Schedule([this, ns, id] { Settle(ns, id, std::nullopt, /*failed=*/0); });
      return absl::OkStatus();
    }
    if (task->status != ProcessStatus::kRunning || listed.state.status() == State::RUNNING)
      return absl::OkStatus();
    OperationLock lock;
    GANTRY_ASSIGN_OR_RETURN(
        LoadedContainer loaded,
        parts_.records->LoadLocked(ContextOf(ns), id, lock, Interruptible::kNo));
    return parts_.steps->NoteStarted(
        loaded, task->pid,
        task->started_at == absl::InfinitePast() ? absl::Now() : task->started_at);
  }
  if (listed.state.status() != State::RUNNING && !listed.state.starting() &&
      !StartsWithDaemon(listed.config.restart_policy(), listed.state))
    return absl::OkStatus();
  return ReconcileWithoutTask(ns, id);
}

absl::Status ContainerRecovery::ReconcileWithoutTask(const std::string& ns, const std::string& id) {
  const CallContext context = ContextOf(ns);
  OperationLock lock;
  // As it is now: the event of its exit may have come after the list was read, and settled it.
  absl::StatusOr<LoadedContainer> current =
      parts_.records->LoadLocked(context, id, lock, Interruptible::kNo);
  if (absl::IsNotFound(current.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(current.status());
  LoadedContainer& loaded = *current;
  if (loaded.state.status() == State::RUNNING) {
    // Neither shim nor bundle: the machine went down with it, or OnExit() is about to say more.
    Process ended;
    ended.exit_status = 255;
    ended.exited_at = absl::Now();
    ended.reason = "it ended while no supervisor ran, with the machine or its shim";
    GANTRY_RETURN_IF_ERROR(parts_.steps->NoteEnded(loaded, ended, metadata::Durability::kSynced));
    if (loaded.config.auto_remove()) {
      parts_.removal->GoOn(ns, id, absl::ZeroDuration());
      return absl::OkStatus();
    }
  } else if (loaded.state.starting()) {
    if (loaded.config.auto_remove()) {
      parts_.removal->GoOn(ns, id, absl::ZeroDuration());
      return absl::OkStatus();
    }
    GANTRY_RETURN_IF_ERROR(EndCutOffStart(lock.Within(context), loaded).status());
  }
  const v1::RestartPolicy& policy = loaded.config.restart_policy();
  if (!loaded.state.has_restart_at() && StartsWithDaemon(policy, loaded.state)) {
    GANTRY_RETURN_IF_ERROR(parts_.records->UpdateState(loaded, [&policy](State& state) {
      state.set_stopped_by_user(false);
      const std::optional<absl::Duration> delay = RestartDelay(policy, state);
      if (delay.has_value()) SetTimestamp(absl::Now() + *delay, state.mutable_restart_at());
    }));
  }
  ScheduleRestart(loaded);
  return absl::OkStatus();
}

}  // namespace gantry::core
