// All tasks, and what the classes that work on them share: TaskService with its view and waits,
// TaskSupervision, and the parts below (TaskChanges, TaskTakeover, TaskRemoval).
//
// Private to the task service, which owns it. Calls that are under way share it and may end after
// the service does. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_CORE_H_
#define GANTRY_SUPERVISOR_CORE_TASK_CORE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/clock.h"
#include "base/executor.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/task_changes.h"
#include "supervisor/core/task_process.h"
#include "supervisor/core/task_removal.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/task_state.h"
#include "supervisor/core/task_takeover.h"
#include "supervisor/core/wait_board.h"
#include "supervisor/oci/seccomp_filter.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

class ExitObserver;

struct TaskCore : std::enable_shared_from_this<TaskCore> {
  explicit TaskCore(const TaskService::Parts& given)
      : parts(given), later(Clock::Real(), *given.workers) {}

  // Who waits for the end of a process. Waiters are added and taken under the task's mutex: none is
  // added to a process that has ended or is forgotten.
  using Subject = std::pair<const Task*, std::string>;  // the task and the exec id
  // The next exit of a container, whichever task it is of.
  static Subject NextExitOf(const runtime::TaskKey& key) { return {nullptr, key.ToString()}; }

  // The right to create or remove a task, until destroyed: one call at a time has it.
  class Operation {
   public:
    Operation(Operation&& other) noexcept : task_(std::move(other.task_)) {}
    ~Operation();

   private:
    friend struct TaskCore;
    explicit Operation(std::shared_ptr<Task> task) : task_(std::move(task)) {}
    std::shared_ptr<Task> task_;
  };
  // Waits for its turn. kUnavailable after `patience`, with the name of what is under way; the
  // token's status when it ends first.
  absl::StatusOr<Operation> Begin(const std::shared_ptr<Task>& task, absl::string_view name,
                                  CancelToken* cancel, absl::Duration patience);

  // Runs `work` on a worker, after `delay` if there is one. Not any more once the service has
  // stopped.
  void Hand(std::function<void()> work, absl::Duration delay = absl::ZeroDuration())
      ABSL_LOCKS_EXCLUDED(map_mu);

  std::shared_ptr<Task> Find(const runtime::TaskKey& key) const;

  // Of a namespace, or of all of them; in the order of their keys.
  std::vector<std::shared_ptr<Task>> TasksOf(const std::string& ns) const;

  void Forget(const std::shared_ptr<Task>& task);

  // The task and its shim, for a call.
  absl::StatusOr<std::pair<std::shared_ptr<Task>, std::shared_ptr<runtime::Shim>>> Reach(
      const runtime::TaskKey& key) const;

  // What the machine withholds is the same for every container: one line is enough.
  void SayOnce(const std::string& line);

  void EndWaits();
  // Ends the threads and answers all waits.
  void Stop();

  TaskService::Parts parts;
  ExitObserver* observer = nullptr;
  std::unique_ptr<runtime::ShimRegistry> registry;
  Delayed later;
  oci::SeccompFilters seccomp;
  WaitBoard<Subject, Exit> waits;

  TaskChanges changes{*this};
  TaskTakeover takeover{*this};
  TaskRemoval removal{*this};

  mutable absl::Mutex map_mu;
  std::map<runtime::TaskKey, std::shared_ptr<Task>> tasks ABSL_GUARDED_BY(map_mu);
  bool stopped ABSL_GUARDED_BY(map_mu) = false;
  // Cleans up after dead shims, many side by side; made when needed.
  std::unique_ptr<Executor> reapers ABSL_GUARDED_BY(map_mu);
  int reaps_under_way ABSL_GUARDED_BY(map_mu) = 0;
  absl::Mutex said_mu;
  std::set<std::string> said ABSL_GUARDED_BY(said_mu);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_CORE_H_
