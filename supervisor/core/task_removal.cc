#include "supervisor/core/task_removal.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/crash_point.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "supervisor/core/task_core.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/dead_task.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

constexpr size_t kReapers = 16;
constexpr absl::Duration kDeleteCall = absl::Seconds(20);  // by a shim that answers
constexpr absl::Duration kShimEnd = absl::Seconds(5);      // after SIGKILL
constexpr absl::Duration kFirstPause = absl::Seconds(1);   // between two tries to reap, doubled
constexpr absl::Duration kLastPause = absl::Seconds(30);
constexpr char kShimDied[] = "its shim died unexpectedly";

}  // namespace

absl::StatusOr<Exit> TaskRemoval::DeleteExec(const CallContext& context,
                                             const std::shared_ptr<Task>& task,
                                             const std::string& exec_id, bool force) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_.Reach(task->key));
  shim::v1::DeleteRequest request;
  request.set_exec_id(exec_id);
  request.set_force(force);
  absl::StatusOr<shim::v1::DeleteResponse> gone =
      reached.second->client().Delete(request, runtime::CallOptions{kShortCall, context.cancel});
  if (!gone.ok() && !absl::IsNotFound(gone.status())) return gone.status();
  DueCalls done;
  absl::StatusOr<Exit> exit = NoSuchProcess(task->key, exec_id);
  {
    absl::MutexLock lock(&task->mu);
    auto it = task->processes.find(exec_id);
    if (it == task->processes.end()) return exit;
    if (gone.ok()) {
      exit = Exit{gone->pid(), gone->exit_status(), FromProto(gone->exited_at()), false};
      if (it->second.started_published)
        core_.changes.ApplyExited(*task, exec_id, *exit, "", false, done);
      core_.changes.PublishDeleted(*task, exec_id, *exit);
    }
    core_.changes.ForgetExec(*task, exec_id, "was deleted", done);
  }
  for (auto& call : done) call();
  return exit;
}

absl::StatusOr<shim::v1::DeleteResponse> TaskRemoval::AskToDelete(
    runtime::Shim& shim, const shim::v1::DeleteRequest& request, CancelToken* cancel) {
  struct Call {
    absl::Mutex mu;
    bool done ABSL_GUARDED_BY(mu) = false;
    absl::StatusOr<shim::v1::DeleteResponse> answer ABSL_GUARDED_BY(mu) = absl::UnknownError("");
  };
  // Shared: the answer may come after the wait has ended.
  auto call = std::make_shared<Call>();
  shim.client().DeleteAsync(request, kDeleteCall,
                            [call](absl::StatusOr<shim::v1::DeleteResponse> answer) {
                              absl::MutexLock lock(&call->mu);
                              call->done = true;
                              call->answer = std::move(answer);
                            });
  while (true) {
    {
      absl::MutexLock lock(&call->mu);
      if (call->mu.AwaitWithTimeout(absl::Condition(&call->done), core_.parts.shim_patience))
        return call->answer;
    }
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    // A removal may take its time. A shim that works answers meanwhile.
    GANTRY_RETURN_IF_ERROR(
        shim.client().Info(runtime::CallOptions{core_.parts.shim_patience, cancel}).status());
  }
}

absl::StatusOr<Exit> TaskRemoval::DeleteTask(const CallContext& context,
                                             const std::shared_ptr<Task>& task, bool force) {
  const runtime::TaskKey& key = task->key;
  GANTRY_ASSIGN_OR_RETURN(const TaskCore::Operation operation,
                          core_.Begin(task, "its removal", context.cancel, kRuntimeCall));
  std::shared_ptr<runtime::Shim> shim;
  std::optional<runtime::Bundle> bundle;
  bool over = force;  // nothing is lost when it is removed by other means
  {
    absl::MutexLock lock(&task->mu);
    if (task->processes[""].process.status == ProcessStatus::kStopped) over = true;
    if (task->deleted || (!task->ready && task->shim != nullptr)) return NoSuchProcess(key, "");
    shim = task->shim;
    bundle = task->bundle;
  }
  if (shim == nullptr) {
    if (!bundle.has_value()) return NoSuchProcess(key, "");
    return Reap(task, *bundle, kShimDied);
  }
  // From here on the end of the shim is expected.
  core_.registry->Remove(key);
  shim::v1::DeleteRequest request;
  request.set_force(force);
  const absl::StatusOr<shim::v1::DeleteResponse> gone = AskToDelete(*shim, request, context.cancel);
  if (gone.ok()) {
    CrashPoint("task.deleted");
    const Exit exit{gone->pid(), gone->exit_status(), FromProto(gone->exited_at()), false};
    Finish(task, exit, "");
    return exit;
  }
  const bool given_up = context.cancel != nullptr && context.cancel->cancelled();
  absl::Status status = gone.status();
  if (over && !given_up) {
    LOG(WARNING) << "ns=" << key.ns << " id=" << key.container_id
                 << " its shim does not remove it and is killed: " << status;
    status = shim->KillShim();
    if (status.ok()) status = shim->WaitGone(kShimEnd);
    if (status.ok()) {
      return Reap(task, shim->bundle(),
                  absl::StrCat("its shim did not remove it: ", gone.status().message()));
    }
    status = absl::UnavailableError(absl::StrCat(
        ProcessText(key, ""), ": its removal waits for the end of its shim: ", status.message()));
  }
  if (!over && !given_up && absl::IsDeadlineExceeded(status)) {
    status = absl::UnavailableError(absl::StrCat(
        ProcessText(key, ""), ": not removed: its shim does not answer, and it may still run"));
  }
  if (absl::Status added = core_.registry->Add(shim); !added.ok())
    LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << added;
  return status;
}

void TaskRemoval::Finish(const std::shared_ptr<Task>& task, const Exit& exit,
                         const std::string& reason) {
  core_.changes.Settle(task, exit, reason);
  // The record of the task was the bundle; what is left of it are files.
  if (absl::Status removed = core_.parts.bundles->Remove(task->key); !removed.ok()) {
    LOG(ERROR) << "ns=" << task->key.ns << " id=" << task->key.container_id << " " << removed;
  }
}

absl::StatusOr<Exit> TaskRemoval::Reap(const std::shared_ptr<Task>& task,
                                       const runtime::Bundle& bundle, const std::string& reason) {
  absl::StatusOr<runtime::TaskExit> ended = runtime::ReapDeadTask(bundle, reason, kReapCall);
  if (absl::IsUnavailable(ended.status())) {
    // The runtime did not answer; processes and cgroups are gone all the same.
    LOG(WARNING) << "ns=" << task->key.ns << " id=" << task->key.container_id << " "
                 << ended.status();
    ended = runtime::ReadTaskExit(bundle);
    if (!ended.ok()) ended = runtime::TaskExit{0, 137, absl::Now(), false, true, reason};
  }
  if (!ended.ok()) {
    const std::string waits =
        absl::StrCat("its removal waits: ", ended.status().message(), "; it is tried again");
    absl::MutexLock lock(&task->mu);
    task->shim = nullptr;
    task->bundle = bundle;
    Process& init = task->processes[""].process;
    init.container_id = task->key.container_id;
    if (init.status != ProcessStatus::kStopped) init.status = ProcessStatus::kUnknown;
    init.reason = waits;
    return absl::UnavailableError(absl::StrCat(ProcessText(task->key, ""), ": ", waits));
  }
  const Exit exit{ended->pid, ended->exit_status, ended->exited_at, ended->oom_killed};
  {
    absl::MutexLock lock(&task->mu);
    // dockerd takes an exit for its container's only if this is the pid it knows.
    Process& init = task->processes[""].process;
    if (init.pid == 0) init.pid = exit.pid;
  }
  Finish(task, exit, ended->synthesised ? reason : "");
  return exit;
}

void TaskRemoval::ReapSoon(const std::shared_ptr<Task>& task, const runtime::Bundle& bundle,
                           const std::string& reason, absl::Duration delay) {
  auto reap = [self = core_.shared_from_this(), task, bundle, reason, delay] {
    absl::Status reaped;
    {
      const absl::StatusOr<TaskCore::Operation> operation =
          self->Begin(task, "cleaning up after its shim", nullptr, kRuntimeCall);
      reaped = operation.status();
      if (operation.ok()) {
        {
          absl::MutexLock lock(&task->mu);
          if (task->deleted) return;
        }
        reaped = self->removal.Reap(task, bundle, reason).status();
      }
    }
    if (reaped.ok()) return;
    LOG(ERROR) << "ns=" << task->key.ns << " id=" << task->key.container_id << " " << reaped;
    self->removal.ReapSoon(task, bundle, reason, std::clamp(delay * 2, kFirstPause, kLastPause));
  };
  auto schedule = [self = core_.shared_from_this(), reap = std::move(reap)] {
    absl::MutexLock lock(&self->map_mu);
    if (self->stopped) return;
    if (self->reapers == nullptr) self->reapers = std::make_unique<Executor>("reap", kReapers);
    ++self->reaps_under_way;
    self->reapers->Schedule([self, reap] {
      reap();
      absl::MutexLock under_way(&self->map_mu);
      --self->reaps_under_way;
    });
  };
  if (delay > absl::ZeroDuration()) {
    core_.Hand(std::move(schedule), delay);
  } else {
    schedule();
  }
}

void TaskRemoval::OnShimGone(const std::shared_ptr<runtime::Shim>& shim) {
  std::shared_ptr<Task> task = core_.Find(shim->key());
  if (!task) return;
  {
    absl::MutexLock lock(&task->mu);
    if (task->shim != shim || task->deleted) return;
  }
  LOG(ERROR) << "ns=" << task->key.ns << " id=" << task->key.container_id << " shim "
             << shim->process().pid << " died; its container is stopped and cleaned up";
  ReapSoon(task, shim->bundle(), kShimDied, absl::ZeroDuration());
}

}  // namespace gantry::core
