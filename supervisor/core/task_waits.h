// Waits for the ends of processes.
//
// Owned by TaskService, whose tasks it waits for. Callbacks run without locks held, on the thread
// that answers (TaskService's workers and the shims' streams among them), and may call back.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_WAITS_H_
#define GANTRY_SUPERVISOR_CORE_TASK_WAITS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/task_process.h"

namespace gantry::core {

struct TaskCore;

class TaskWaits {
 public:
  explicit TaskWaits(std::shared_ptr<TaskCore> core);
  TaskWaits(const TaskWaits&) = delete;
  TaskWaits& operator=(const TaskWaits&) = delete;

  // Calls `done` once: when the process has ended (at once if it has), with kNotFound when there is
  // no such process or it is deleted or its creation failed, with kCancelled after CancelWait, with
  // kUnavailable when the service stops. `done` runs without locks held. Returns a ticket.
  uint64_t WaitAsync(const std::string& ns, const std::string& id, const std::string& exec_id,
                     std::function<void(absl::StatusOr<Exit>)> done);
  // The next exit of the container's first process: of the task that there is, or of one that is
  // created later. The removal of the container calls EndNextExitWaits(), which answers kNotFound.
  uint64_t WaitNextExitAsync(const std::string& ns, const std::string& id,
                             std::function<void(absl::StatusOr<Exit>)> done);
  void EndNextExitWaits(const std::string& ns, const std::string& id);
  // There will be no next exit because the restart that was due will not happen: answers those who
  // wait for it with the last one.
  void AnswerNextExitWaits(const std::string& ns, const std::string& id, const Exit& last);
  void CancelWait(uint64_t ticket);
  // Blocking form; kDeadlineExceeded / kCancelled by the context.
  absl::StatusOr<Exit> Wait(const CallContext& context, const std::string& id,
                            const std::string& exec_id, absl::Duration limit);

  // Answers all waits, now and from now on, with kUnavailable. The first step of a stop: no call
  // waits when the server ends.
  void EndWaits();

 private:
  std::shared_ptr<TaskCore> core_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_WAITS_H_
