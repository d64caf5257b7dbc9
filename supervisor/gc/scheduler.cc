#include "supervisor/gc/scheduler.h"

#include <algorithm>
#include <utility>

namespace gantry::gc {
namespace {

// After a failed run (disk full, gate not free).
constexpr absl::Duration kRetryDelay = absl::Seconds(10);

SchedulerOptions Sane(SchedulerOptions options) {
  options.pause_threshold = std::clamp(options.pause_threshold, 0.0, 0.5);
  return options;
}

}  // namespace

Scheduler::Scheduler(Collector& collector, SchedulerOptions options,
                     std::function<void(const absl::StatusOr<Collection>&)> report)
    : collector_(collector), options_(Sane(options)), report_(std::move(report)) {}

Scheduler::~Scheduler() { Stop(); }

void Scheduler::Start() {
  {
    absl::MutexLock lock(&mu_);
    due_at_ = absl::Now() + options_.startup_delay;
  }
  thread_ = std::thread([this] { Loop(); });
}

void Scheduler::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
  }
  stop_.Cancel("the daemon is stopping");
  if (thread_.joinable()) thread_.join();
}

void Scheduler::NoteChange(bool deletion) {
  absl::MutexLock lock(&mu_);
  ++mutations_;
  if (deletion) ++deletions_;
  // Only what moves a time needs the thread's attention.
  const absl::Time before = NextRun();
  const bool enough =
      (options_.deletion_threshold > 0 && deletions_ >= options_.deletion_threshold) ||
      (options_.mutation_threshold > 0 && mutations_ >= options_.mutation_threshold);
  if (enough && due_at_ == absl::InfiniteFuture()) due_at_ = absl::Now() + options_.schedule_delay;
  if (deletion && idle_due_ == absl::InfiniteFuture())
    idle_due_ = absl::Now() + options_.idle_delay;
  if (NextRun() < before) changed_.SignalAll();
}

void Scheduler::CollectSoon() {
  absl::MutexLock lock(&mu_);
  const absl::Time before = NextRun();
  soon_due_ = std::min(soon_due_, std::max(absl::Now(), soon_not_before_));
  if (NextRun() < before) changed_.SignalAll();
}

absl::Status Scheduler::CollectAndWait(bool full_sweep, absl::Time deadline) {
  absl::MutexLock lock(&mu_);
  // A run in progress may have taken its inventory already: the one after it counts.
  const uint64_t mine = ++requested_;
  full_sweep_wanted_ = full_sweep_wanted_ || full_sweep;
  changed_.SignalAll();
  while (answered_ < mine && !stopping_) {
    if (changed_.WaitWithDeadline(&mu_, deadline) && answered_ < mine) {
      return absl::DeadlineExceededError(
          "garbage collection was asked for and goes on, but has not finished in time");
    }
  }
  return answered_ >= mine ? last_status_
                           : absl::CancelledError("garbage collection: the daemon is stopping");
}

absl::Time Scheduler::NextRun() const {
  if (requested_ > answered_) return absl::InfinitePast();
  if (soon_due_ != absl::InfiniteFuture()) return soon_due_;
  // Unasked-for runs keep their share of the time. Expiries are to be collected soon, not to the
  // millisecond.
  return std::max(not_before_, std::min({due_at_, idle_due_, next_expiry_}));
}

absl::StatusOr<Collection> Scheduler::Run(bool full_sweep) {
  CollectOptions options;
  options.full_sweep = full_sweep;
  options.cancel = &stop_;
  return collector_.Collect(options);
}

void Scheduler::Loop() {
  mu_.Lock();
  while (!stopping_) {
    const absl::Time next = NextRun();
    if (next > absl::Now()) {
      changed_.WaitWithDeadline(&mu_, next);
      continue;
    }
    const uint64_t covers = requested_;
    const bool full_sweep = std::exchange(full_sweep_wanted_, false);
    mutations_ = 0;
    deletions_ = 0;
    due_at_ = absl::InfiniteFuture();
    idle_due_ = absl::InfiniteFuture();
    soon_due_ = absl::InfiniteFuture();
    mu_.Unlock();

    const absl::StatusOr<Collection> collection = Run(full_sweep);
    report_(collection);

    mu_.Lock();
    const absl::Time now = absl::Now();
    answered_ = covers;
    last_status_ = collection.status();
    next_expiry_ = absl::InfiniteFuture();
    if (collection.ok()) {
      if (collection->next_expiry != absl::InfiniteFuture()) {
        // Expired means "in the past", and RFC 3339 labels have seconds.
        next_expiry_ = std::max(now, collection->next_expiry) + absl::Milliseconds(10);
      }
      if (options_.pause_threshold > 0) {
        // Looking counts, with the gate open too: on few cores it is as much in the way. Unlinking
        // does not: it is the purpose, and putting it off makes more of it. However long a look
        // takes, space comes back within seconds.
        const absl::Duration looking = collection->total - collection->removing;
        not_before_ =
            now + std::min(looking * (1 / options_.pause_threshold - 1), options_.longest_wait);
        soon_not_before_ = now + std::min(looking, options_.longest_wait);
      }
      if (!collection->leftovers.empty()) idle_due_ = std::min(idle_due_, now + kRetryDelay);
    } else {
      full_sweep_wanted_ = full_sweep_wanted_ || full_sweep;
      idle_due_ = std::min(idle_due_, now + kRetryDelay);
    }
    changed_.SignalAll();
  }
  changed_.SignalAll();
  mu_.Unlock();
}

}  // namespace gantry::gc
