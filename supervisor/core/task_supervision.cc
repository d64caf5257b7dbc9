#include "supervisor/core/task_supervision.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "supervisor/core/task_core.h"
#include "supervisor/core/task_service.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kCatchUp =
    absl::Seconds(1);  // for what all shims have to tell after a restart, and for the reaping

}  // namespace

TaskSupervision::TaskSupervision(TaskService& tasks) : core_(tasks.core_) {}

void TaskSupervision::SetExitObserver(ExitObserver* observer) { core_->observer = observer; }

int TaskSupervision::Recover(std::vector<runtime::RecoveredTask> found) {
  int alive = 0;
  std::vector<std::shared_ptr<Task>> adopted;
  for (const runtime::RecoveredTask& recovered : found) {
    std::shared_ptr<Task> task = core_->takeover.Restore(recovered);
    const bool ended = recovered.verdict == runtime::Verdict::kReap ||
                       recovered.verdict == runtime::Verdict::kMarkExited;
    if (!ended) ++alive;
    if (core_->takeover.Apply(task, recovered)) adopted.push_back(std::move(task));
  }
  // What the shims have to tell of the time without a supervisor is published before the doors
  // open: clients that reconnect get it then, and only then. Few shims have anything to report. The
  // wait ends at a deadline.
  const absl::Time deadline = absl::Now() + kCatchUp;
  for (const std::shared_ptr<Task>& task : adopted) {
    absl::MutexLock lock(&task->mu);
    const auto told = [&task]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(task->mu) {
      return task->deleted || task->applied_until >= task->history_until;
    };
    if (!task->mu.AwaitWithDeadline(absl::Condition(&told), deadline)) {
      LOG(WARNING) << "ns=" << task->key.ns << " id=" << task->key.container_id
                   << " its shim is slow to tell what happened while no supervisor ran";
    }
  }
  absl::MutexLock lock(&core_->map_mu);
  const auto reaped = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(core_->map_mu) {
    return core_->reaps_under_way == 0;
  };
  if (!core_->map_mu.AwaitWithDeadline(absl::Condition(&reaped), deadline))
    LOG(WARNING) << "cleaning up after " << core_->reaps_under_way << " tasks goes on";
  return alive;
}

void TaskSupervision::Follow() {
  std::vector<std::shared_ptr<Task>> tasks;
  for (std::shared_ptr<Task>& task : core_->TasksOf("")) {
    {
      absl::MutexLock lock(&task->mu);
      if (!task->to_follow) continue;
      task->to_follow = false;
    }
    tasks.push_back(std::move(task));
  }
  // One after the other: to connect to a thousand takes a third of a second of a processor, and
  // clients have waited for the doors to open.
  core_->Hand([core = core_, tasks = std::move(tasks)] {
    for (const std::shared_ptr<Task>& task : tasks) {
      std::shared_ptr<runtime::Shim> shim;
      uint64_t after = 0;
      {
        absl::MutexLock lock(&task->mu);
        if (task->deleted || task->shim == nullptr || task->stream != nullptr) continue;
        shim = task->shim;
        after = task->applied_until;
      }
      core->changes.Listen(task, *shim, after);
    }
  });
}

void TaskSupervision::Stop() { core_->Stop(); }

}  // namespace gantry::core
