// Waiting for a container to end or to be removed, without a thread.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_WAIT_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_WAIT_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_steps.h"
#include "supervisor/core/removal_waits.h"
#include "supervisor/core/task_service.h"

namespace gantry::v1 {
class WaitContainerRequest;
class WaitContainerResponse;
}  // namespace gantry::v1

namespace gantry::core {

class ContainerWait {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerSteps* steps;
    TaskService* tasks;
    Executor* workers;
    RemovalWaits* removals;
  };
  explicit ContainerWait(const Parts& parts) : parts_(parts) {}

  // Calls `done` once with the answer, on any thread. Returns a function that withdraws the wait
  // (kCancelled); call it at most once and not from `done`.
  std::function<void()> WaitAsync(
      const CallContext& context, const v1::WaitContainerRequest& request,
      std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done);

  // After the main process was seen to end: returns once its end is in the records (and the
  // container removed, with auto_remove: true), so that a client that is answered then finds it
  // there. Does that work itself if it was not done yet.
  absl::StatusOr<bool> SettleExit(const CallContext& context, const std::string& container);

 private:
  std::function<void()> WaitForRemoval(
      const CallContext& context, const std::string& id,
      std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done);

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_WAIT_H_
