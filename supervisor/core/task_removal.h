// The end of tasks: deletion by their shim, or from outside where there is no shim that does it.
//
// Private to the task service; part of TaskCore, which outlives it. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_REMOVAL_H_
#define GANTRY_SUPERVISOR_CORE_TASK_REMOVAL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/task_process.h"
#include "supervisor/core/task_state.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry {
class CancelToken;
}

namespace gantry::core {

struct TaskCore;

class TaskRemoval {
 public:
  explicit TaskRemoval(TaskCore& core) : core_(core) {}

  absl::StatusOr<Exit> DeleteExec(const CallContext& context, const std::shared_ptr<Task>& task,
                                  const std::string& exec_id, bool force);
  absl::StatusOr<Exit> DeleteTask(const CallContext& context, const std::shared_ptr<Task>& task,
                                  bool force);
  // Reap() on a thread of its own pool, and again with growing pauses until it succeeds.
  void ReapSoon(const std::shared_ptr<Task>& task, const runtime::Bundle& bundle,
                const std::string& reason, absl::Duration delay);
  // The shim died without being asked to. Runs on a worker: it kills and cleans up what the shim
  // leaves.
  void OnShimGone(const std::shared_ptr<runtime::Shim>& shim);

 private:
  // Has the shim delete its container. Gives up when the shim does not even answer questions
  // meanwhile.
  absl::StatusOr<shim::v1::DeleteResponse> AskToDelete(runtime::Shim& shim,
                                                       const shim::v1::DeleteRequest& request,
                                                       CancelToken* cancel);
  // Settles the task and removes its bundle.
  void Finish(const std::shared_ptr<Task>& task, const Exit& exit, const std::string& reason);
  // Kills and removes what a dead shim left, from outside, then Finish(). The operation is held.
  //   kUnavailable  processes or cgroups stay, the message says which; the task stays with that as
  //                 its reason
  absl::StatusOr<Exit> Reap(const std::shared_ptr<Task>& task, const runtime::Bundle& bundle,
                            const std::string& reason);

  TaskCore& core_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_REMOVAL_H_
