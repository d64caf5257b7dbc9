// Probes running containers that have a health check, and says how they fare: on the board, in
// events ("health_status: healthy"), and in a file of the task's directory, so that the next daemon
// goes on where this one stopped.
//
// Everything is driven by events and one timer thread: a container between two probes costs a table
// entry.
//
// Life: construct -> Start() once tasks are recovered -> Stop() or destruction. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_HEALTH_MONITOR_H_
#define GANTRY_SUPERVISOR_CORE_HEALTH_MONITOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/clock.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/health_check.h"
#include "supervisor/metadata/container_store.h"

namespace gantry {
class Executor;
}

namespace gantry::core {

// Runs one probe in a container.
class Prober {
 public:
  virtual ~Prober() = default;
  // May block for as long as a process takes to start. Calls `done` once, on any thread, soon after
  // options.timeout at the latest.
  virtual void Probe(const std::string& ns, const std::string& container,
                     const HealthOptions& options, std::function<void(ProbeResult)> done) = 0;
  // Ends what is under way, with a result that is dropped; further probes end at once.
  virtual void Stop() = 0;
};

class HealthMonitor {
 public:
  // Nothing is owned; everything outlives the monitor.
  struct Parts {
    metadata::ContainerStore* containers;
    EventBus* events;
    HealthBoard* board;
    Prober* prober;
    Executor* workers;
    const Clock* clock;
    // <state>/tasks/<ns>/<id>.
    std::function<absl::StatusOr<std::string>(const std::string& ns, const std::string& id)>
        task_directory;
  };
  explicit HealthMonitor(const Parts& parts);
  ~HealthMonitor() { Stop(); }
  HealthMonitor(const HealthMonitor&) = delete;
  HealthMonitor& operator=(const HealthMonitor&) = delete;

  void Start();
  // A container that runs already, since `started_at` by the wall clock. Of one without a health
  // check nothing is done.
  void Adopt(const std::string& ns, const std::string& container, absl::Time started_at,
             bool paused);
  // No more probes begin; what one that is under way says is dropped.
  void Stop();

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, id
  struct Watched {
    HealthOptions options;
    absl::Duration started;   // monotonic
    uint64_t generation = 0;  // of this run of the container
    bool paused = false;
    v1::HealthState health;
  };

  void Drain();
  void Handle(const Event& event);
  // `health`: as it was left; empty for a fresh start.
  void Watch(const Key& key, absl::Duration started, bool paused, v1::HealthState health);
  void End(const Key& key);
  void ProbeLater(const Key& key, const Watched& watched) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ProbeNow(const Key& key, uint64_t generation);
  void Note(const Key& key, uint64_t generation, absl::Duration since_start,
            const ProbeResult& result);
  // Keeps the monitor while work is under way that another thread ends. False: it stops.
  bool Enter();
  void Leave();
  void Publish(const Key& key, const std::string& status);
  void Save(const Key& key, const v1::HealthState& health);

  const Parts parts_;
  Delayed later_;
  absl::Mutex mu_;
  std::shared_ptr<Subscription> subscription_ ABSL_GUARDED_BY(mu_);
  std::map<Key, Watched> watched_ ABSL_GUARDED_BY(mu_);
  uint64_t generations_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;     // one thread takes events, in order
  bool more_events_ ABSL_GUARDED_BY(mu_) = false;  // and shall look again
  int working_ ABSL_GUARDED_BY(mu_) = 0;           // pieces of work that hold `this`
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_HEALTH_MONITOR_H_
