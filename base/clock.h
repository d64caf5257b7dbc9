// Time as a dependency, so that a test can turn it.

#ifndef GANTRY_BASE_CLOCK_H_
#define GANTRY_BASE_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall clock, for records and display: it may jump.
  virtual absl::Time Now() const = 0;

  // Since some fixed moment; never goes back. What timeouts and intervals are measured with.
  virtual absl::Duration Monotonic() const = 0;

  // The machine's clock; lives as long as the program.
  static const Clock& Real();
};

class RealClock : public Clock {
 public:
  absl::Time Now() const override;
  absl::Duration Monotonic() const override;
};

// A clock for tests: stands still until Advance() or Set() moves it.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now = absl::UnixEpoch()) : now_(now) {}
  absl::Time Now() const override;
  absl::Duration Monotonic() const override;

  // Both clocks move.
  void Advance(absl::Duration by);
  // Only the wall clock jumps, as when an administrator sets it.
  void SetWallClock(absl::Time now);

 private:
  mutable absl::Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_);
  absl::Duration monotonic_ ABSL_GUARDED_BY(mu_) = absl::ZeroDuration();
};

}  // namespace gantry

#endif  // GANTRY_BASE_CLOCK_H_
