// Keeps records in line with what runs: after each exit, after the daemon was away, and by restart
// policies.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_RECOVERY_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_RECOVERY_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "supervisor/core/container_records.h"
#include "supervisor/core/container_removal.h"
#include "supervisor/core/container_steps.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {

class ContainerRecovery : public ExitObserver {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerSteps* steps;
    ContainerRemoval* removal;
    Stores* stores;
    TaskService* tasks;
    Executor* workers;
    std::string root_directory;   // <root>/containers/<ns>/<id>/
    std::string state_directory;  // <state>/containers/<ns>/<id>/
    absl::Duration first_pause =
        absl::Seconds(1);  // before an exit that could not be settled is tried again
  };
  explicit ContainerRecovery(const Parts& parts)
      : parts_(parts), later_(parts.stores->clock, *parts.workers) {}

  // After TaskSupervision::Recover(): brings records in line with what lives. Removals that were
  // begun, exits that were not settled and restarts that a policy wants follow on workers, side by
  // side; a call on such a container waits for them. Fails only when the database does.
  absl::Status Reconcile();

  void OnExit(const std::string& ns, const Process& process) override;

  // No more restarts by policy. Before the workers go.
  void Stop() { later_.Stop(); }

 private:
  // Takes an end into the record: of the task that is there or, if the task is gone, `ended`.
  // Schedules the restart that the policy wants. Tried again by itself when it fails; `failed` says
  // how often it did.
  void Settle(const std::string& ns, const std::string& id, const std::optional<Process>& ended,
              int failed);
  // True: the container was removed.
  absl::StatusOr<bool> SettleLoaded(const CallContext& context, LoadedContainer& loaded,
                                    const std::optional<Process>& ended);
  absl::StatusOr<bool> EndCutOffStart(const CallContext& context, LoadedContainer& loaded);
  // Starts it when its time has come, if it waits for that.
  void ScheduleRestart(const LoadedContainer& loaded);
  void StartAgain(const std::string& ns, const std::string& id);
  absl::Status ReconcileOne(const LoadedContainer& listed);
  absl::Status ReconcileWithoutTask(const std::string& ns, const std::string& id);

  const Parts parts_;
  Delayed later_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_RECOVERY_H_
