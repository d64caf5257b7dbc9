// At start: takes over the shims that live, and settles what became of the others.
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "proto/containerd/events/task.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/task_core.h"
#include "supervisor/core/task_service.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/dead_task.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr absl::Duration kCatchUp =
    absl::Seconds(3);  // for what all shims have to tell after a restart

}  // namespace

int TaskService::Recover(std::vector<runtime::RecoveredTask> found) {
  const Parts& parts = core_->parts;
  int alive = 0;
  std::vector<std::shared_ptr<Task>> caught_up;
  for (runtime::RecoveredTask& recovered : found) {
    const TaskKey& key = recovered.key;
    if (recovered.verdict == runtime::Verdict::kReap) {
      LOG(INFO) << "ns=" << key.ns << " id=" << key.container_id
                << " removing what is left: " << recovered.reason;
      if (recovered.bundle.has_value()) {
        if (recovered.shim) {
          if (absl::Status killed = recovered.shim->KillShim(); !killed.ok()) LOG(ERROR) << killed;
        }
        auto reaped = runtime::ReapDeadTask(*recovered.bundle, recovered.reason, kShortCall);
        if (!reaped.ok())
          LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << reaped.status();
      }
      if (absl::Status removed = parts.bundles->Remove(key); !removed.ok()) {
        LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << removed;
      }
      continue;
    }

    auto task = std::make_shared<Task>(key);
    {
      absl::MutexLock lock(&task->mu);
      task->ready = true;
      task->shim = recovered.shim;
      containerd::events::TaskCreate& event = task->create_event;
      event.set_container_id(key.container_id);
      Process& init = task->processes[""].process;
      init.container_id = key.container_id;
      if (recovered.bundle.has_value()) {
        task->bundle_path = recovered.bundle->path();
        task->seen.Open(task->bundle_path);
        event.set_bundle(task->bundle_path);
        const shim::v1::CreateRequest& create = recovered.bundle->launch().create;
        init.terminal = create.stdio().terminal();
        init.stdin_uri = create.stdio().stdin();
        init.stdout_uri = create.stdio().stdout();
        init.stderr_uri = create.stdio().stderr();
        event.mutable_io()->set_stdin(init.stdin_uri);
        event.mutable_io()->set_stdout(init.stdout_uri);
        event.mutable_io()->set_stderr(init.stderr_uri);
        event.mutable_io()->set_terminal(init.terminal);
        for (const auto& mount : create.rootfs()) {
          auto* out = event.add_rootfs();
          out->set_type(mount.type());
          out->set_source(mount.source());
          out->set_target(mount.target());
          *out->mutable_options() = mount.options();
        }
      }
    }
    {
      absl::MutexLock lock(&core_->map_mu);
      core_->tasks.emplace(key, task);
    }

    if (recovered.verdict == runtime::Verdict::kMarkExited) {
      LOG(INFO) << "ns=" << key.ns << " id=" << key.container_id
                << " ended while no supervisor ran: " << recovered.reason;
      Exit exit{0, 137, absl::Now(), false};
      if (recovered.exit.has_value()) {
        exit = Exit{recovered.exit->pid, recovered.exit->exit_status, recovered.exit->exited_at,
                    recovered.exit->oom_killed};
      }
      if (recovered.bundle.has_value()) {
        auto reaped = runtime::ReapDeadTask(*recovered.bundle, recovered.reason, kShortCall);
        if (!reaped.ok())
          LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << reaped.status();
      }
      {
        absl::MutexLock lock(&task->mu);
        task->processes[""].created_published = true;
        task->processes[""].started_published = true;
        // dockerd takes an exit for its container's only if this is the pid it knows.
        task->processes[""].process.pid = exit.pid;
      }
      core_->Settle(
          task, exit,
          recovered.exit.has_value() && !recovered.exit->synthesised ? "" : recovered.reason);
      if (absl::Status removed = parts.bundles->Remove(key); !removed.ok()) {
        LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << removed;
      }
      continue;
    }

    ++alive;
    if (recovered.verdict == runtime::Verdict::kKeepUnknown) {
      LOG(WARNING) << "ns=" << key.ns << " id=" << key.container_id
                   << " kept as unknown: " << recovered.reason;
      absl::MutexLock lock(&task->mu);
      task->processes[""].process.reason = recovered.reason;
    }
    uint64_t after = 0;
    if (recovered.info.has_value()) {
      absl::MutexLock lock(&task->mu);
      auto adopt = [](Task::Known& known, const shim::v1::ProcessState& state) {
        Process& process = known.process;
        process.exec_id = state.exec_id();
        process.status = static_cast<ProcessStatus>(state.status());
        process.pid = state.pid();
        process.exit_status = state.exit_status();
        if (state.has_exited_at()) process.exited_at = FromProto(state.exited_at());
        if (state.has_started_at()) process.started_at = FromProto(state.started_at());
        process.oom_killed = state.oom_killed();
        process.terminal = state.terminal();
        known.created_published = true;
        known.started_published = process.status != ProcessStatus::kCreated;
        known.exit_published = process.status == ProcessStatus::kStopped;
      };
      adopt(task->processes[""], recovered.info->init());
      task->create_event.set_pid(task->processes[""].process.pid);
      for (const auto& exec : recovered.info->execs()) {
        Task::Known& known = task->processes[exec.exec_id()];
        known.process.container_id = key.container_id;
        known.process.stdin_uri = exec.stdin();
        known.process.stdout_uri = exec.stdout();
        known.process.stderr_uri = exec.stderr();
        adopt(known, exec);
      }
      after = task->seen.Read();
      task->applied_until = after;
      task->history_until = recovered.info->last_event();
    }
    if (recovered.shim) {
      if (absl::Status added = core_->registry->Add(recovered.shim); !added.ok())
        LOG(ERROR) << added;
      core_->Listen(task, *recovered.shim, after);
      caught_up.push_back(task);
    }
  }
  // What the shims have to tell of the time without a supervisor is published before the doors open: clients that come back
  // meanwhile are told it then, and never again. Few have anything to tell.
  const absl::Time deadline = absl::Now() + kCatchUp;
  for (const std::shared_ptr<Task>& task : caught_up) {
    absl::MutexLock lock(&task->mu);
    const auto told = [&task]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(task->mu) {
      return task->deleted || task->applied_until >= task->history_until;
    };
    if (!task->mu.AwaitWithDeadline(absl::Condition(&told), deadline)) {
      LOG(WARNING) << "ns=" << task->key.ns << " id=" << task->key.container_id
                   << " its shim is slow to tell what happened while no supervisor ran";
    }
  }
  return alive;
}

}  // namespace gantry::core
