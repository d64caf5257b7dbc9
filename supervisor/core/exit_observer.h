// Who is called when a process of a task has ended: TaskSupervision::SetExitObserver().
#ifndef GANTRY_SUPERVISOR_CORE_EXIT_OBSERVER_H_
#define GANTRY_SUPERVISOR_CORE_EXIT_OBSERVER_H_

#include <string>

#include "supervisor/core/task_process.h"

namespace gantry::core {

// What to do about exits, asked once per process after its exit was recorded and published.
class ExitObserver {
 public:
  virtual ~ExitObserver() = default;
  // Runs on a worker thread of the service; may call back into it.
  virtual void OnExit(const std::string& ns, const Process& process) = 0;
  // A task that was unknown since the start of the service, because its shim did not answer, is
  // known again; this is its first process. Runs on a worker thread.
  virtual void OnTakenUp(const std::string& ns, const Process& process) {}
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EXIT_OBSERVER_H_
