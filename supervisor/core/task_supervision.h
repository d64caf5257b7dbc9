// The daemon's own calls on all tasks: at its start, at its stop, and to say who decides what
// follows from an exit.
//
// A handle, cheap to make where it is needed. Shares the tasks with its TaskService.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_SUPERVISION_H_
#define GANTRY_SUPERVISOR_CORE_TASK_SUPERVISION_H_

#include <memory>
#include <vector>

namespace gantry::runtime {
struct RecoveredTask;
}

namespace gantry::core {

class ExitObserver;
class TaskService;
struct TaskCore;

class TaskSupervision {
 public:
  explicit TaskSupervision(TaskService& tasks);

  // Not owned; outlives the service. Once, before the first task.
  void SetExitObserver(ExitObserver* observer);

  // At start, before the doors open: takes over the shims that runtime::RecoverShims() found, or
  // settles what became of them, and publishes what happened meanwhile. Returns how many tasks live
  // on. A shim that does not answer is kept as kUnknown, never deleted on a guess, and taken up
  // when it answers. Takes about a second at most: what needs longer goes on by itself.
  int Recover(std::vector<runtime::RecoveredTask> found);
  // Once the doors are open: listens to the shims whose recorded state Recover() took over. Until
  // then their tasks are as recorded; nothing that happens meanwhile is missed. Returns at once.
  void Follow();

  // Stops listening to shims and answers all waits; containers run on. Calls that are under way may
  // end, on other threads, after it. The end of the TaskService does the same.
  void Stop();

 private:
  std::shared_ptr<TaskCore> core_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_SUPERVISION_H_
