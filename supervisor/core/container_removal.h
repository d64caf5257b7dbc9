// Removing containers. Removal is an intent: it is on record before its first step that takes time,
// and a removal that fails is tried again by itself, with growing pauses, until it is done; also
// after a restart of the daemon.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_REMOVAL_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_REMOVAL_H_

#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/removal_waits.h"
#include "supervisor/core/start_waits.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {

class NetworkPlaces;
class RunVolumes;
class VolumeService;

// Whether a container's anonymous volumes go with it. Those of a container that removes itself do
// in any case, and once begun, a removal keeps to what it was asked for.
enum class VolumesGo { kNo, kYes };

class ContainerRemoval {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    EventBus* events;
    EventSubjects* subjects;
    TaskService* tasks;
    Executor* workers;
    RemovalWaits* waits;
    StartWaits* starts;
    NetworkPlaces* networks = nullptr;              // null: there are no networks
    VolumeService* volumes = nullptr;               // null: there are no volumes
    RunVolumes* run_volumes = nullptr;              // the same
    absl::Duration first_pause = absl::Seconds(1);  // doubled with each attempt, at most a minute
  };
  explicit ContainerRemoval(const Parts& parts)
      : parts_(parts), later_(parts.stores->clock, *parts.workers) {}

  // With the container's operation lock held.
  //   kFailedPrecondition  it is active and `force` is not set; nothing was done
  //   kUnavailable         removal has begun and goes on by itself; the message says what it waits for
  absl::Status RemoveLocked(const CallContext& context, LoadedContainer& loaded, bool force,
                            VolumesGo volumes = VolumesGo::kNo);

  // Goes on with a removal that was begun, on a worker, after `pause`.
  void GoOn(const std::string& ns, const std::string& id, absl::Duration pause);

  // No more attempts. Before the workers go.
  void Stop() { later_.Stop(); }

 private:
  absl::Status RemoveParts(const CallContext& context, LoadedContainer& loaded, bool volumes_go);
  void TryAgain(const LoadedContainer& loaded, bool volumes_go, const absl::Status& why);
  void Attempt(const std::string& ns, const std::string& id);

  const Parts parts_;
  Delayed later_;

  absl::Mutex mu_;
  // Attempts that failed, of removals under way.
  std::map<std::pair<std::string, std::string>, int> failed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_REMOVAL_H_
