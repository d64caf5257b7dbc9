#include "supervisor/core/container_steps.h"

#include <signal.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/status_macros.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/restart_policy.h"
#include "supervisor/core/start_failure.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kKillPatience = absl::Seconds(20);

// Exit code of a container of a pod that could not be started.
constexpr uint32_t kPodStartFailure = 128;

}  // namespace

absl::Status ContainerSteps::NoteStarted(LoadedContainer& loaded, int32_t pid,
                                         absl::Time started_at) {
  // The shim is the truth while it runs; this record only matters after a reboot, and a later
  // synced write carries it along.
  return parts_.records->UpdateState(
      loaded,
      [&](record::v1::ContainerState& state) {
        state.set_status(record::v1::ContainerState::RUNNING);
        state.set_pid(static_cast<uint32_t>(pid));
        state.set_exit_code(0);
        state.set_oom_killed(false);
        state.set_starting(false);
        state.clear_error();
        state.clear_finished_at();
        state.clear_restart_at();
        SetTimestamp(started_at, state.mutable_started_at());
      },
      metadata::Durability::kBuffered);
}

void ContainerSteps::NoteStartFailed(LoadedContainer& loaded, const absl::Status& why) {
  const bool remove = loaded.config.auto_remove();
  const absl::Status stored = parts_.records->UpdateState(
      loaded,
      [&why, &loaded, remove](record::v1::ContainerState& state) {
        // The intent is recorded, because this daemon may be stopping and then removes nothing.
        if (remove) state.set_removing(true);
        if (state.status() == record::v1::ContainerState::RUNNING)
          state.set_status(record::v1::ContainerState::STOPPED);
        state.set_starting(false);
        state.clear_restart_at();
        state.set_error(std::string(why.message()));
        state.set_exit_code(StartFailureCode(why));
        if (!loaded.record.sandbox().empty()) {
          // A pod's client makes another one instead of starting it again.
          state.set_status(record::v1::ContainerState::STOPPED);
          state.set_exit_code(kPodStartFailure);
          SetTimestamp(absl::Now(), state.mutable_finished_at());
        }
      },
      metadata::Durability::kBuffered);
  if (!stored.ok())
    LOG(ERROR) << "ns=" << loaded.scope.ns << " id=" << loaded.id() << " " << stored;
  if (remove && parts_.before_self_removal) parts_.before_self_removal(loaded, nullptr);
  CallContext context;
  context.ns = loaded.scope.ns;
  parts_.runs->EndRun(context, loaded);
  if (remove) parts_.removal->GoOn(loaded.scope.ns, loaded.id(), absl::ZeroDuration());
}

absl::StatusOr<int32_t> ContainerSteps::StartLocked(
    const CallContext& context, LoadedContainer& loaded, uint32_t restart_count,
    std::function<void(runtime::Shim&)> before_create) {
  GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(loaded));
  if (loaded.state.removing()) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", loaded.id(), " is being removed"));
  }
  // A task that ended and was not settled yet is in the way of a new one.
  GANTRY_RETURN_IF_ERROR(SettleLocked(context, loaded).status());
  if (!loaded.ours) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", loaded.id(),
                     " was made by another client of the containerd API; start it with that one"));
  }
  // Before there is a process: a kill that comes right after it says that it was stopped, and that
  // must stay.
  if (!loaded.state.starting() || loaded.state.stopped_by_user() ||
      loaded.state.restart_count() != restart_count) {
    GANTRY_RETURN_IF_ERROR(parts_.records->UpdateState(
        loaded,
        [restart_count](record::v1::ContainerState& state) {
          state.set_starting(true);
          state.set_stopped_by_user(false);
          state.set_restart_count(restart_count);
        },
        metadata::Durability::kBuffered));
  }
  absl::StatusOr<int32_t> pid = CreateTaskOf(context, loaded, std::move(before_create));
  if (!pid.ok()) {
    absl::StatusOr<oci::ProcessSpec> process = oci::ProcessSpec();
    absl::StatusOr<oci::RuntimeSpec> spec = oci::RuntimeSpec::Parse(loaded.record.spec().value());
    if (spec.ok() && spec->document().contains("process"))
      process = oci::ProcessFromJson(spec->document()["process"]);
    const absl::Status why = NamingTheContainer(pid.status(), loaded.ShownName(),
                                                process.ok() ? *process : oci::ProcessSpec());
    NoteStartFailed(loaded, why);
    return why;
  }
  GANTRY_RETURN_IF_ERROR(NoteStarted(loaded, *pid, absl::Now()));
  return *pid;
}

absl::StatusOr<int32_t> ContainerSteps::CreateTaskOf(
    const CallContext& context, const LoadedContainer& loaded,
    std::function<void(runtime::Shim&)> before_create) {
  GANTRY_ASSIGN_OR_RETURN(CreateTask task, parts_.runs->PrepareRun(context, loaded));
  task.start = true;
  task.stdio.set_await_client(before_create != nullptr);
  task.before_create = [this, key = Key(context.ns, loaded.id()),
                        before_create = std::move(before_create)](runtime::Shim& shim) {
    parts_.starts->AnswerAll(key, &shim);
    if (before_create) before_create(shim);
  };
  absl::StatusOr<int32_t> pid = parts_.tasks->Create(context, task);
  parts_.runs->EndPreparation(loaded);
  if (pid.ok() && parts_.starts->size() > 0) {
    // Those who came while the process was being made.
    const absl::StatusOr<std::shared_ptr<runtime::Shim>> shim =
        parts_.tasks->view().Shim(context.ns, loaded.id());
    if (shim.ok()) parts_.starts->AnswerAll({context.ns, loaded.id()}, shim->get());
  }
  return pid;
}

absl::StatusOr<bool> ContainerSteps::SettleLocked(const CallContext& context,
                                                  LoadedContainer& loaded, bool keep) {
  absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status != ProcessStatus::kStopped || !loaded.ours) return false;
  const bool remove = loaded.config.auto_remove() && !keep;
  // With auto_remove the record goes in a moment; it need not be right for that long.
  if (!remove) {
    GANTRY_RETURN_IF_ERROR(NoteEnded(loaded, *task));
  } else {
    loaded.state.set_exit_code(task->exit_status);
    if (parts_.before_self_removal) parts_.before_self_removal(loaded, &*task);
  }
  absl::StatusOr<Exit> gone = parts_.tasks->Delete(context, loaded.id(), "");
  if (!gone.ok() && !absl::IsNotFound(gone.status()) && !remove) return gone.status();
  if (!remove) return false;
  GANTRY_RETURN_IF_ERROR(parts_.removal->RemoveLocked(context, loaded, /*force=*/false));
  return true;
}

absl::Status ContainerSteps::NoteEnded(LoadedContainer& loaded, const Process& task,
                                       metadata::Durability durability) {
  CallContext context;
  context.ns = loaded.scope.ns;
  parts_.runs->EndRun(context, loaded);
  const v1::RestartPolicy& policy = loaded.config.restart_policy();
  return parts_.records->UpdateState(
      loaded,
      [&](record::v1::ContainerState& state) {
        state.set_status(record::v1::ContainerState::STOPPED);
        state.set_pid(0);
        state.set_starting(false);
        state.set_exit_code(task.exit_status);
        state.set_oom_killed(task.oom_killed);
        if (!task.reason.empty()) state.set_error(task.reason);
        SetTimestamp(task.exited_at, state.mutable_finished_at());
        // Together with the end: there is no moment in which a container that comes back looks like
        // one that does not.
        const std::optional<absl::Duration> delay = RestartDelay(policy, state);
        if (delay.has_value()) {
          SetTimestamp(absl::Now() + *delay, state.mutable_restart_at());
        } else {
          state.clear_restart_at();
        }
      },
      durability);
}

void ContainerSteps::EndRestartPause(const LoadedContainer& loaded) {
  Exit last;
  last.status = loaded.state.exit_code();
  last.oom_killed = loaded.state.oom_killed();
  last.at = metadata::TimeOf(loaded.state.finished_at());
  parts_.tasks->waits().AnswerNextExitWaits(loaded.scope.ns, loaded.id(), last);
}

absl::Status ContainerSteps::SendSignal(const CallContext& context, const LoadedContainer& loaded,
                                        int signal) {
  parts_.records->Publish(loaded, "kill", {{"signal", absl::StrCat(signal)}});
  return parts_.tasks->Kill(context, loaded.id(), "", static_cast<uint32_t>(signal), false);
}

absl::Status ContainerSteps::WaitForEnd(const CallContext& context, const std::string& id,
                                        absl::Duration patience) {
  const Clock& clock = parts_.stores->clock;
  const Key key(context.ns, id);
  const absl::Duration deadline = clock.Monotonic() + patience;
  absl::Cleanup forget = [this, &key] {
    absl::MutexLock lock(&mu_);
    stops_.erase(key);
  };
  while (true) {
    const auto slice = std::make_shared<CancelToken>(absl::InfiniteDuration(), context.cancel);
    absl::Duration left;
    {
      absl::MutexLock lock(&mu_);
      WaitingStop& stop = stops_[key];
      stop.slice = slice;
      stop.deadline = deadline;
      const auto [first, last] = hurries_.equal_range(key);
      for (auto hurry = first; hurry != last; ++hurry)
        stop.deadline = std::min(stop.deadline, hurry->second);
      left = std::max(stop.deadline - clock.Monotonic(), absl::ZeroDuration());
    }
    CallContext waiting = context;
    waiting.cancel = slice.get();
    const absl::Status ended = parts_.tasks->waits().Wait(waiting, id, "", left).status();
    if (ended.ok() || absl::IsNotFound(ended)) return absl::OkStatus();
    if (context.cancel != nullptr) GANTRY_RETURN_IF_ERROR(context.cancel->Check());
    if (!slice->cancelled()) return ended;  // kDeadlineExceeded: patience is at its end
  }
}

ContainerSteps::Hurry::Hurry(ContainerSteps& steps, const std::string& ns, const std::string& id,
                             absl::Duration patience)
    : steps_(steps) {
  const absl::Duration deadline = steps.parts_.stores->clock.Monotonic() + patience;
  absl::MutexLock lock(&steps.mu_);
  entry_ = steps.hurries_.emplace(Key(ns, id), deadline);
  const auto stop = steps.stops_.find({ns, id});
  // Under the lock, so that the stop, and the token of its caller, which is the slice's parent, do
  // not end meanwhile.
  if (stop != steps.stops_.end() && deadline < stop->second.deadline)
    stop->second.slice->Cancel("another stop has less patience");
}

ContainerSteps::Hurry::~Hurry() {
  absl::MutexLock lock(&steps_.mu_);
  steps_.hurries_.erase(entry_);
}

absl::Status ContainerSteps::StopLocked(const CallContext& context, LoadedContainer& loaded,
                                        const std::string& signal, absl::Duration patience,
                                        AfterStop after, bool* killed) {
  std::string name = signal;
  if (name.empty())
    name = loaded.config.stop_signal().empty() ? "TERM" : loaded.config.stop_signal();
  GANTRY_ASSIGN_OR_RETURN(int number, ParseSignal(name));
  GANTRY_RETURN_IF_ERROR(parts_.records->UpdateState(
      loaded,
      [after](record::v1::ContainerState& state) {
        // A restart that is cut off between its two halves is finished by the next daemon.
        state.set_stopped_by_user(after == AfterStop::kStaysStopped);
        if (after == AfterStop::kStaysStopped) state.clear_restart_at();
      },
      metadata::Durability::kBuffered));
  const absl::Status stopped = SignalAndWait(context, loaded, number, patience, killed);
  if (absl::IsCancelled(stopped)) {
    return absl::AbortedError(
        absl::StrCat("container ", loaded.id(), ": the stop was cut short: ", stopped.message()));
  }
  GANTRY_RETURN_IF_ERROR(stopped);
  parts_.records->Publish(loaded, "stop");
  return absl::OkStatus();
}

absl::Status ContainerSteps::SignalAndWait(const CallContext& context,
                                           const LoadedContainer& loaded, int signal,
                                           absl::Duration patience, bool* killed) {
  absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  // A frozen process acts on no signal.
  if (task.ok() && task->status == ProcessStatus::kPaused)
    GANTRY_RETURN_IF_ERROR(parts_.tasks->Resume(context, loaded.id()));
  absl::Status sent = SendSignal(context, loaded, signal);
  if (!sent.ok() && !absl::IsNotFound(sent)) return sent;
  absl::Status ended = WaitForEnd(context, loaded.id(), patience);
  if (!absl::IsDeadlineExceeded(ended)) return ended;
  if (killed != nullptr) *killed = true;
  sent = SendSignal(context, loaded, SIGKILL);
  if (!sent.ok() && !absl::IsNotFound(sent)) return sent;
  return WaitAfterKill(context, loaded.id(), kKillPatience);
}

absl::Status ContainerSteps::WaitAfterKill(const CallContext& context, const std::string& id,
                                           absl::Duration patience) {
  const absl::Status ended = parts_.tasks->waits().Wait(context, id, "", patience).status();
  if (ended.ok() || absl::IsNotFound(ended)) return absl::OkStatus();
  if (context.cancel != nullptr) GANTRY_RETURN_IF_ERROR(context.cancel->Check());
  if (!absl::IsDeadlineExceeded(ended)) return ended;
  return absl::UnavailableError(absl::StrCat(
      "container ", id, ": still there ", absl::FormatDuration(patience),
      " after SIGKILL; a process of it hangs in the kernel or its shim does not answer"));
}

}  // namespace gantry::core
