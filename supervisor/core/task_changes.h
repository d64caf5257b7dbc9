// What happened to a task, entered into what is known of it and published. Each change is
// idempotent: a call's answer and the shim's event stream bring the same one.
//
// Private to the task service; part of TaskCore, which outlives it. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_CHANGES_H_
#define GANTRY_SUPERVISOR_CORE_TASK_CHANGES_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/task_process.h"
#include "supervisor/core/task_state.h"
#include "supervisor/core/wait_board.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

struct TaskCore;

class TaskChanges {
 public:
  explicit TaskChanges(TaskCore& core) : core_(core) {}

  void ApplyCreated(Task& task, int32_t pid, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  void ApplyExecAdded(Task& task, const std::string& exec_id, bool again)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  void ApplyStarted(Task& task, const std::string& exec_id, int32_t pid, absl::Time at, bool again)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // An exec that could not be started: its waiters are answered, no exit is published.
  void ApplyNeverStarted(Task& task, const std::string& exec_id, uint32_t exit_status,
                         DueCalls& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // Adds to `done` what must run once the lock is released.
  void ApplyExited(Task& task, const std::string& exec_id, const Exit& exit,
                   const std::string& reason, bool again, DueCalls& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // Forgets an exec. Those who wait for its end get kNotFound with `why`.
  void ForgetExec(Task& task, const std::string& exec_id, absl::string_view why, DueCalls& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // The task's creation failed: nothing will ever be known of it.
  void Abandon(Task& task);

  // After the shim's answer to a pause (`paused`) or resume.
  void ApplySwitchAnswer(Task& task, bool paused);
  void PublishDeleted(Task& task, const std::string& exec_id, const Exit& exit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // Follows the shim's stream from `after` on.
  void Listen(const std::shared_ptr<Task>& task, runtime::Shim& shim, uint64_t after);

  // The end of a task that was not deleted by a call: exits of everything that ran, then the
  // deletion, are published, and it is forgotten.
  void Settle(const std::shared_ptr<Task>& task, const Exit& init_exit, const std::string& reason);

 private:
  void ApplyOom(Task& task, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // One event of a shim's stream.
  void OnShimEvent(const std::weak_ptr<Task>& weak, const shim::v1::Event& event);

  void SetPaused(Task& task, bool paused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // After its event.
  void ApplySwitchEvent(Task& task, bool paused, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // The stream ended, and not because of Settle(). Where the shim lives it is asked how things
  // stand, and listened to again.
  void OnStreamEnd(const std::weak_ptr<Task>& weak, const absl::Status& status);

  TaskCore& core_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_CHANGES_H_
