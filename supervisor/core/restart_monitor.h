// containerd's restart monitor: containers whose labels say so are kept running, or kept stopped.
//
//   containerd.io/restart.status               "running" or "stopped": what is wanted; without it a container is let alone
//   containerd.io/restart.policy               "always" (also when absent), "unless-stopped", "on-failure[:MAX]", "no"
//   containerd.io/restart.explicitly-stopped   "true": a person stopped it; forgotten at our start under "always"
//   containerd.io/restart.count                how often it was started again; written here
//   containerd.io/restart.loguri               where its output goes then
//
// Labels may come from an image, whose author must not choose a program or a file of the host: a
// log URI counts only if a client gave the very same one when it started the container itself.
// Otherwise the output is dropped.
//
// An exit is answered after a second, then twice that, and so on up to `interval`; one that ran for
// longer than `interval` begins anew. A task that was never there is the business of the client
// that is about to make it, for `interval`. Paused and created ones are let alone. At the start of
// the daemon there is no such pause. A container that is removed takes a task that was started here
// along.
//
// Life: construct -> Start() once tasks are recovered -> Stop() or destruction. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_RESTART_MONITOR_H_
#define GANTRY_SUPERVISOR_CORE_RESTART_MONITOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry {
class Executor;
}

namespace gantry::core {

using Labels = std::map<std::string, std::string>;

enum class RestartWish { kNothing, kRun, kStop };

// What the labels want of a container whose task is `task` (nullopt: it has none). Pure.
RestartWish WishOf(const Labels& labels, const std::optional<Process>& task);

class RestartMonitor {
 public:
  // Nothing is owned; everything outlives the monitor.
  struct Parts {
    Stores* stores;
    TaskService* tasks;
    EventBus* events;
    Executor* workers;
    absl::Duration interval = absl::Seconds(10);
  };
  explicit RestartMonitor(const Parts& parts);
  ~RestartMonitor() { Stop(); }
  RestartMonitor(const RestartMonitor&) = delete;
  RestartMonitor& operator=(const RestartMonitor&) = delete;

  void Start();
  // Nothing is looked at any more; a restart under way is waited for.
  void Stop();

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, id
  struct Watched {
    absl::Duration delay = absl::ZeroDuration();  // of the last restart, or before another attempt
    absl::Time exited_at = absl::InfinitePast();  // what `delay` answers
    bool ours = false;                            // its task was started here
    bool busy = false;                            // a thread works on it
    bool pending = false;                         // and shall look again
  };

  void FindAll();
  void Drain();
  void LookAfter(const Key& key, absl::Duration delay);
  void Look(const Key& key);
  absl::Status Act(const Key& key);
  // How long an ended task has still to wait for its restart.
  absl::Duration LeftOfDelay(const Key& key, const Process& task);
  absl::Status Restart(const Key& key, const record::v1::Container& container, bool had_task);
  // Clients look for a task before they remove a container; one that was started in
  // between would stay.
  void RemoveTaskOfGone(const Key& key);
  absl::Status SetLabel(const Key& key, const std::string& label, const std::string& value);
  // The URI for a task's output; "" drops it.
  static std::string LogUri(const record::v1::Container& container);

  const Parts parts_;
  Delayed later_;
  CancelToken cancel_;
  absl::Mutex mu_;
  std::shared_ptr<Subscription> subscription_ ABSL_GUARDED_BY(mu_);
  std::map<Key, Watched> watched_ ABSL_GUARDED_BY(mu_);
  int working_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_RESTART_MONITOR_H_
