// Keeps records in line with what runs: after each exit, after the daemon was away, and by restart policies.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_RECOVERY_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_RECOVERY_H_

#include <string>

#include "absl/status/status.h"

#include "supervisor/core/container_records.h"
#include "supervisor/core/container_steps.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {

class ContainerRecovery : public ExitObserver {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerSteps* steps;
    Stores* stores;
    TaskService* tasks;
    Executor* workers;
    std::string root_directory;   // <root>/containers/<ns>/<id>/
    std::string state_directory;  // <state>/containers/<ns>/<id>/
  };
  explicit ContainerRecovery(const Parts& parts)
      : parts_(parts), restarts_(parts.stores->clock, *parts.workers) {}

  // After TaskService::Recover(): brings records in line with what lives, finishes removals, starts what the restart policy wants.
  absl::Status Reconcile();

  void OnExit(const std::string& ns, const Process& process) override;

  // No more restarts by policy. Before the workers go.
  void Stop() { restarts_.Stop(); }

 private:
  void ScheduleRestart(const LoadedContainer& loaded);
  // Removes directories of containers that have no record: a crash came between the two.
  absl::Status SweepDirectories();

  const Parts parts_;
  Delayed restarts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_RECOVERY_H_
