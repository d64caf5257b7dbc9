// The end of processes, reported on the event loop, and the deletion of what they leave.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "shim/container.h"
#include "shim/exit_record.h"
#include "shim/kernel_log.h"
#include "shim/port_forward.h"
#include "shim/process_words.h"
#include "shim/proto_time.h"
#include "shim/resolver.h"
#include "shim/shim_log.h"
#include "snapshotter/mount.h"

namespace gantry::shim {
namespace {

// Between the kernel's clock of its log and ours of when a process started.
constexpr absl::Duration kClockSlack = absl::Seconds(2);
constexpr absl::Duration kMaxWaitForExecs = absl::Seconds(5);
constexpr absl::Duration kMaxWaitForOutput = absl::Seconds(10);

}  // namespace

void Container::OnReaped(const ProcessPtr& process, Ended end) {
  {
    absl::MutexLock lock(&mu_);
    process->reaped = true;
    process->pidfd.reset();
    if (process->starting) {
      process->early_end = end;
      return;
    }
  }
  HandleEnd(process, end);
}

bool Container::AnyExecRuns() const {
  absl::MutexLock lock(&mu_);
  return std::any_of(execs_.begin(), execs_.end(), [](const auto& entry) {
    return entry.second->pid != 0 && entry.second->status != v1::STATUS_STOPPED;
  });
}

void Container::HandleEnd(const ProcessPtr& process, Ended end) {
  if (process != init_) {
    AnnounceEnd(process, end);
    if (init_end_.has_value() && !AnyExecRuns()) {
      const Ended init_end = *init_end_;
      init_end_.reset();
      loop_->CancelTimer(init_end_timer_);
      AnnounceEnd(init_, init_end);
    }
    return;
  }
  if (oom_watch_ != nullptr) oom_watch_->Check();
  Cgroup cgroup;
  bool private_pid_namespace;
  bool oom_killed;
  pid_t pid;
  absl::Duration age;
  {
    absl::MutexLock lock(&mu_);
    cgroup = cgroup_;
    private_pid_namespace = facts_.private_pid_namespace;
    pid = init_->pid;
    age = absl::Now() - init_->started_at;
    oom_killed = init_->oom_killed = cgroup_.ReadOomKills() > 0;
  }
  if (!oom_killed && ExitStatusOf(end.wait_status) == 128 + SIGKILL && cgroup.Gone() &&
      KernelLogTellsOomKill(pid, Clock::Real().Monotonic() - age - kClockSlack)) {
    absl::MutexLock lock(&mu_);
    oom_killed = init_->oom_killed = true;
  }
  // One that was too quick for the watch, or a kill that was counted since its last look.
  if (oom_killed && !oom_told_) TellOom();
  oom_watch_.reset();
  if (!private_pid_namespace) {
    if (const absl::Status status = cgroup.KillAll(); !status.ok()) {
      ShimLog(LogLevel::kWarning, status.message());
    }
  }
  if (AnyExecRuns()) {
    init_end_ = end;
    init_end_timer_ = loop_->After(kMaxWaitForExecs, [this] {
      if (!init_end_.has_value()) return;
      const Ended init_end = *init_end_;
      init_end_.reset();
      AnnounceEnd(init_, init_end);
    });
    return;
  }
  AnnounceEnd(process, end);
}

std::vector<Container::WaitCallback> Container::MarkStopped(Process& process,
                                                            v1::WaitResponse* answer) {
  process.status = v1::STATUS_STOPPED;
  answer->set_exit_status(process.exit_status);
  SetTimestamp(process.exited_at, answer->mutable_exited_at());
  answer->set_oom_killed(process.oom_killed);
  return TakeWaiters(process);
}

std::vector<Container::WaitCallback> Container::TakeWaiters(const Process& process) {
  std::vector<WaitCallback> callbacks;
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    if (it->second.process.get() == &process) {
      callbacks.push_back(std::move(it->second.callback));
      it = waiters_.erase(it);
    } else {
      ++it;
    }
  }
  return callbacks;
}

void Container::AnnounceEnd(const ProcessPtr& process, Ended end) {
  const uint32_t exit_status = ExitStatusOf(end.wait_status);
  std::shared_ptr<ProcessIo> io;
  ExitRecord record;
  v1::Event event;
  v1::Event::Exited& exited = *event.mutable_exited();
  {
    absl::MutexLock lock(&mu_);
    io = process->io;
    record.pid = process->pid;
    record.started_at = process->started_at;
    record.oom_killed = process->oom_killed;
    if (process != init_ && exit_status == 128 + SIGKILL) {
      // Whether it was this one that the kernel chose cannot be told; that it chose one here can.
      process->oom_killed = record.oom_killed = cgroup_.ReadOomKills() > 0;
    }
  }
  if (io != nullptr) io->ProcessExited();
  if (process == init_) {
    forward_.reset();
    resolver_.reset();
    EndBoundedFiles();
    record.name_space = options_.name_space;
    record.id = options_.id;
    record.exit_status = exit_status;
    record.exited_at = end.at;
    if (const absl::Status status = WriteExitRecord(options_.bundle, record); !status.ok()) {
      ShimLog(LogLevel::kError, status.message());
    }
    if (WIFSIGNALED(end.wait_status)) {
      // Apart from the record, whose status cannot tell an end by a signal from an exit with
      // 128 and its number. Best effort: it serves explanations only.
      (void)WriteFile(options_.bundle + "/exit.signal", absl::StrCat(WTERMSIG(end.wait_status)),
                      0600);
    }
  }
  std::vector<WaitCallback> callbacks;
  v1::WaitResponse answer;
  {
    absl::MutexLock lock(&mu_);
    process->exit_status = exit_status;
    // A start is reported when the runtime returns, which may be after the end of the process.
    process->exited_at = std::max(end.at, process->started_at);
    callbacks = MarkStopped(*process, &answer);
    exited.set_exec_id(process->exec_id);
    exited.set_pid(process->pid);
    exited.set_exit_status(exit_status);
    *exited.mutable_exited_at() = answer.exited_at();
    exited.set_oom_killed(process->oom_killed);
  }
  events_->Append(std::move(event));
  for (const WaitCallback& callback : callbacks) callback(answer);
  if (process == init_) workers_->Run([this] { UnmountRootfsEarly(); });
}

absl::Status Container::WaitForEnd(const ProcessPtr& process, absl::Duration limit) {
  absl::MutexLock lock(&mu_);
  const auto stopped = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return process->status == v1::STATUS_STOPPED;
  };
  if (mu_.AwaitWithTimeout(absl::Condition(&stopped), limit)) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(NameOf(process->exec_id), ": pid ", process->pid,
                                             " does not end after SIGKILL; a process in "
                                             "uninterruptible sleep holds it up"));
}

void Container::EndOutput(const Process& process, absl::Duration limit) {
  std::shared_ptr<ProcessIo> io;
  bool ran;
  {
    absl::MutexLock lock(&mu_);
    io = process.io;
    ran = process.pid != 0;
  }
  if (io == nullptr) return;
  if (!ran) {
    // Nothing will ever come, and our own ends of its pipes may still be open.
    io->CloseChildEnds();
    io->Close();
    return;
  }
  absl::Notification drained;
  io->WhenDrained(std::min(limit, kMaxWaitForOutput), [&drained] { drained.Notify(); });
  drained.WaitForNotification();
  io->Close();
}

absl::StatusOr<v1::DeleteResponse> Container::Delete(const v1::DeleteRequest& request,
                                                     absl::Duration limit) {
  if (request.exec_id().empty()) return DeleteInit(request.force(), limit);
  GANTRY_ASSIGN_OR_RETURN(const ProcessPtr process, Find(request.exec_id()));
  return DeleteExec(process, request.force(), limit);
}

absl::StatusOr<v1::DeleteResponse> Container::DeleteExec(const ProcessPtr& process, bool force,
                                                         absl::Duration limit) {
  absl::MutexLock op_lock(&process->op_mu);
  v1::Status status;
  {
    absl::MutexLock lock(&mu_);
    status = process->status;
  }
  if (status == v1::STATUS_RUNNING) {
    if (!force) return WrongState(process->exec_id, status, "delete");
    const absl::Status killed = SignalDirectly(*process, SIGKILL);
    if (!killed.ok() && !absl::IsNotFound(killed)) return killed;
    GANTRY_RETURN_IF_ERROR(WaitForEnd(process, limit));
  }
  EndOutput(*process, limit);
  v1::DeleteResponse response;
  v1::Event event;
  std::vector<WaitCallback> callbacks;
  v1::WaitResponse answer;
  {
    absl::MutexLock lock(&mu_);
    process->deleted = true;
    execs_.erase(process->exec_id);
    callbacks = MarkStopped(*process, &answer);  // of one that was never started
    response.set_pid(process->pid);
    response.set_exit_status(process->exit_status);
    SetTimestamp(process->exited_at, response.mutable_exited_at());
  }
  for (const WaitCallback& callback : callbacks) callback(answer);
  v1::Event::Deleted& deleted = *event.mutable_deleted();
  deleted.set_exec_id(process->exec_id);
  deleted.set_pid(response.pid());
  deleted.set_exit_status(response.exit_status());
  *deleted.mutable_exited_at() = response.exited_at();
  events_->Append(std::move(event));
  return response;
}

void Container::EndBoundedFiles() {
  std::optional<BoundedFiles> files;
  bool keep;
  {
    absl::MutexLock lock(&mu_);
    files.swap(bounded_files_);
    keep = keep_bounded_files_;
  }
  // The mount goes with this process.
  if (!files.has_value() || !keep) return;
  if (const absl::Status status = files->End(); !status.ok())
    ShimLog(LogLevel::kWarning, absl::StrCat("generated files: ", status.message()));
}

absl::Status Container::UnmountRootfs() {
  {
    absl::MutexLock lock(&mu_);
    if (!std::exchange(rootfs_mounted_, false)) return absl::OkStatus();
  }
  // Lazily if necessary: only this process sees the mount, and it ends soon.
  const std::string rootfs = absl::StrCat(options_.bundle, "/rootfs");
  if (snapshot::UnmountAll(rootfs, /*lazy=*/false).ok()) return absl::OkStatus();
  return snapshot::UnmountAll(rootfs, /*lazy=*/true);
}

void Container::UnmountRootfsEarly() {
  absl::MutexLock op_lock(&init_->op_mu);
  {
    absl::MutexLock lock(&mu_);
    // A hook may look at the files.
    if (facts_.has_poststop_hooks) return;
  }
  if (const absl::Status status = UnmountRootfs(); !status.ok()) {
    ShimLog(LogLevel::kWarning, status.message());
  }
}

absl::Status Container::DeleteRuntimeState(bool force, absl::Duration limit) {
  OciRuntime* runtime;
  Cgroup cgroup;
  SpecFacts facts;
  {
    absl::MutexLock lock(&mu_);
    runtime = runtime_.get();
    cgroup = cgroup_;
    facts = facts_;
  }
  if (runtime == nullptr) return absl::OkStatus();
  // The runtime's own delete costs as much again as half a start. Without hooks to run and
  // resources we do not know, what it does is little, and we do it ourselves; whatever is
  // unexpected goes to the runtime.
  if (!force && !facts.has_poststop_hooks && !facts.has_intel_rdt &&
      !runtime->config().systemd_cgroup()) {
    if (cgroup.Remove(CgroupPath()).ok() && runtime->RemoveState()) return absl::OkStatus();
  }
  return runtime->Delete(force, limit);
}

absl::StatusOr<v1::DeleteResponse> Container::DeleteInit(bool force, absl::Duration limit) {
  absl::MutexLock op_lock(&init_->op_mu);
  v1::Status status;
  bool deleted;
  bool never_ran;
  std::vector<ProcessPtr> execs;
  {
    absl::MutexLock lock(&mu_);
    status = init_->status;
    deleted = init_->deleted;
    never_ran = init_->pid == 0;
    for (const auto& [id, process] : execs_) execs.push_back(process);
  }
  if (!deleted) {
    const bool live = !never_ran && status != v1::STATUS_STOPPED;
    if (live && !force && status != v1::STATUS_CREATED) return WrongState("", status, "delete");
    bool by_runtime = false;
    if (live) {
      OciRuntime* runtime;
      Cgroup cgroup;
      {
        absl::MutexLock lock(&mu_);
        runtime = runtime_.get();
        cgroup = cgroup_;
      }
      // Starting the runtime to kill one process costs more than all the rest of the removal. What
      // is left in the cgroup when that process has no pid namespace of its own, HandleEnd() kills.
      by_runtime = !runtime->InitIsOnHost();
      if (by_runtime) {
        const absl::Status runtime_status = runtime->Delete(/*force=*/true, limit);
        if (!runtime_status.ok()) ShimLog(LogLevel::kWarning, runtime_status.message());
      }
      const absl::Status killed = SignalDirectly(*init_, SIGKILL);
      if (!killed.ok() && !absl::IsNotFound(killed)) return killed;
      cgroup.Thaw();  // a frozen process does not die on cgroup v1
      GANTRY_RETURN_IF_ERROR(WaitForEnd(init_, limit));
    }
    for (const ProcessPtr& process : execs) {
      const absl::StatusOr<v1::DeleteResponse> gone = DeleteExec(process, /*force=*/true, limit);
      if (!gone.ok()) ShimLog(LogLevel::kWarning, gone.status().message());
    }
    EndOutput(*init_, limit);
    if (!never_ran) GANTRY_RETURN_IF_ERROR(DeleteRuntimeState(by_runtime, limit));
    if (HasOwnParents()) Cgroup::RemoveParents(CgroupPath());
    GANTRY_RETURN_IF_ERROR(UnmountRootfs());
    if (const absl::Status marked = MarkDeleted(options_.bundle); !marked.ok()) {
      ShimLog(LogLevel::kWarning, marked.message());
    }
  }
  v1::DeleteResponse response;
  std::vector<WaitCallback> callbacks;
  v1::WaitResponse answer;
  {
    absl::MutexLock lock(&mu_);
    init_->deleted = true;
    callbacks = MarkStopped(*init_, &answer);  // of one that never ran
    response.set_pid(init_->pid);
    response.set_exit_status(init_->exit_status);
    SetTimestamp(init_->exited_at, response.mutable_exited_at());
  }
  for (const WaitCallback& callback : callbacks) callback(answer);
  if (!deleted) {
    v1::Event event;
    event.mutable_deleted()->set_pid(response.pid());
    event.mutable_deleted()->set_exit_status(response.exit_status());
    *event.mutable_deleted()->mutable_exited_at() = response.exited_at();
    events_->Append(std::move(event));
  }
  return response;
}

}  // namespace gantry::shim
