// The steps that a container's life is made of: start a task, stop it, settle its end, remove the container.
//
// Used by the life cycle's calls, by streams that start a container, by restart policies and by recovery, which put the steps in
// order. Each step but InitPid() and the signals is called with the container's operation lock held, on the container as loaded under
// that lock, and brings `loaded` up to date.
//
// Thread-safe. Common status codes: kFailedPrecondition its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_STEPS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_STEPS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/mount_points.h"
#include "supervisor/core/removal_waits.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {

class ContainerSteps {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    EventBus* events;
    EventSubjects* subjects;
    TaskService* tasks;
    Executor* workers;
    const MountPoints* mount_points;
    RemovalWaits* removals;
    int64_t log_max_size_bytes = 20 << 20;
    int32_t log_max_files = 5;
  };
  explicit ContainerSteps(const Parts& parts) : parts_(parts) {}

  // Returns the pid. `before_create` is called when the shim is up and before the process is made, so that its streams can be
  // connected. On failure the container stays as it was, with the reason on record.
  absl::StatusOr<int32_t> StartLocked(const CallContext& context, LoadedContainer& loaded,
                                      std::function<void(runtime::Shim&)> before_create = nullptr);
  // The task was found running: says so in the record.
  absl::Status NoteStarted(LoadedContainer& loaded, int32_t pid);
  // Sends the stop signal ("" the container's own), SIGKILL after `patience` (then `killed`, which may be null, is set), and returns
  // once the process has ended.
  absl::Status StopLocked(const CallContext& context, LoadedContainer& loaded,
                          const std::string& signal, absl::Duration patience, bool* killed);
  // Takes the ended task's exit into the record and the task away. True: the container was removed as well.
  absl::StatusOr<bool> SettleLocked(const CallContext& context, LoadedContainer& loaded);
  // Removal is on record before its first step, so it ends even if the daemon dies in it. kFailedPrecondition: the container runs and
  // `force` is not set.
  absl::Status RemoveLocked(const CallContext& context, LoadedContainer& loaded, bool force);

  // Publishes the signal, then sends it, so that its event precedes that of the end it causes.
  absl::Status SendSignal(const CallContext& context, const LoadedContainer& loaded, int signal);
  // Pid of the first process of a container. kFailedPrecondition: it does not run.
  absl::StatusOr<int32_t> InitPid(const CallContext& context, absl::string_view container);

 private:
  void PublishKill(const LoadedContainer& loaded, int signal);
  // The stored spec, with the namespaces that it shares with other containers as they are now.
  absl::StatusOr<std::string> SpecToStart(const CallContext& context,
                                          const LoadedContainer& loaded);
  absl::StatusOr<CreateTask> DescribeTask(const CallContext& context,
                                          const LoadedContainer& loaded);
  void NoteStartFailed(LoadedContainer& loaded, const absl::Status& why);

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_STEPS_H_
