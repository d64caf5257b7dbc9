// When to collect: after enough changes, when something expires, once things left behind have lain
// a while, and when asked.
//
// One thread of its own between Start() and Stop(). Thread-safe. Options and defaults are those of
// containerd's io.containerd.gc.v1.scheduler; idle_delay is ours.
#ifndef GANTRY_SUPERVISOR_GC_SCHEDULER_H_
#define GANTRY_SUPERVISOR_GC_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "supervisor/gc/collector.h"

namespace gantry::gc {

struct SchedulerOptions {
  double pause_threshold =
      0.02;  // at most this share of time for unasked-for runs, <= 0.5; 0: no limit
  int64_t deletion_threshold = 0;    // run after so many deletions; 0: deletions alone do not count
  int64_t mutation_threshold = 100;  // run after so many changes; 0: changes do not count
  absl::Duration schedule_delay = absl::ZeroDuration();
  absl::Duration startup_delay = absl::Milliseconds(100);
  // Run when garbage was left this long ago and none of the thresholds came: disk comes back on an
  // idle machine too.
  absl::Duration idle_delay = absl::Seconds(2);
  // The most that `pause_threshold` puts a run off.
  absl::Duration longest_wait = absl::Seconds(3);
};

class Scheduler {
 public:
  // `report` hears of every run, failed ones too, on the scheduler's thread: it logs and publishes.
  // `collector` outlives this.
  Scheduler(Collector& collector, SchedulerOptions options,
            std::function<void(const absl::StatusOr<Collection>&)> report);
  ~Scheduler();

  // The first run sweeps all files.
  void Start();
  // Waits for a run in progress, which leaves files for the next start. No runs afterwards; waiting
  // Collect() calls answer kCancelled.
  void Stop();

  // For Database::SetCommitObserver.
  void NoteChange(bool deletion) ABSL_LOCKS_EXCLUDED(mu_);

  // Asks for a run and does not wait; requests that come before it begins share it.
  void CollectSoon() ABSL_LOCKS_EXCLUDED(mu_);

  // Collects now and waits: a run that began before the call does not count. Calls that wait
  // together share a run. kDeadlineExceeded: not done by then (it goes on).
  absl::Status CollectAndWait(bool full_sweep, absl::Time deadline) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop();
  absl::StatusOr<Collection> Run(bool full_sweep);
  absl::Time NextRun() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Collector& collector_;
  const SchedulerOptions options_;
  const std::function<void(const absl::StatusOr<Collection>&)> report_;
  CancelToken stop_;
  std::thread thread_;

  absl::Mutex mu_;
  absl::CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool full_sweep_wanted_ ABSL_GUARDED_BY(mu_) = true;
  int64_t mutations_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t deletions_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t requested_ ABSL_GUARDED_BY(mu_) = 0;  // runs asked for so far
  uint64_t answered_ ABSL_GUARDED_BY(mu_) = 0;   // requests that a finished run covers
  absl::Status last_status_ ABSL_GUARDED_BY(mu_);
  absl::Time not_before_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();  // pause threshold
  absl::Time due_at_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();    // thresholds
  absl::Time idle_due_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  absl::Time soon_due_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();       // CollectSoon()
  absl::Time soon_not_before_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();  // half the time at most
  absl::Time next_expiry_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
};

}  // namespace gantry::gc

#endif  // GANTRY_SUPERVISOR_GC_SCHEDULER_H_
