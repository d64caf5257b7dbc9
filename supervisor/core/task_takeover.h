// Takes over the shims that a former daemon left: those that answer, those that answer late, and
// those that lost events. What became of the others is settled.
//
// Private to the task service; part of TaskCore, which outlives it. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_TAKEOVER_H_
#define GANTRY_SUPERVISOR_CORE_TASK_TAKEOVER_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/task_state.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

struct TaskCore;

class TaskTakeover {
 public:
  explicit TaskTakeover(TaskCore& core) : core_(core) {}

  // Asks the shim for everything it knows, without a thread; TakeUp() follows. `gap`: some of its
  // events are lost.
  void Ask(const std::shared_ptr<Task>& task, const std::shared_ptr<runtime::Shim>& shim, bool gap);
  // Enters what was found of a bundle into the map.
  std::shared_ptr<Task> Restore(const runtime::RecoveredTask& recovered);
  // Does what its verdict asks for. True: its shim was adopted.
  bool Apply(const std::shared_ptr<Task>& task, const runtime::RecoveredTask& recovered);

 private:
  // Brings what is known in line with what the shim says, publishes exits that were not told, and
  // follows its stream. Asks again later if there was no answer, unless the shim has died, which
  // the registry reports.
  void TakeUp(const std::shared_ptr<Task>& task, const std::shared_ptr<runtime::Shim>& shim,
              const absl::StatusOr<shim::v1::InfoResponse>& info, bool gap);
  void Adopt(Task& task, const shim::v1::InfoResponse& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // Another look at a bundle of which nothing could be said, not even who serves it.
  void LookAgain(const std::shared_ptr<Task>& task);

  TaskCore& core_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_TAKEOVER_H_
