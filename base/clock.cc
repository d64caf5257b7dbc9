#include "base/clock.h"

#include <ctime>

#include "absl/time/clock.h"

namespace gantry {

const Clock& Clock::Real() {
  static const RealClock clock;
  return clock;
}

absl::Time RealClock::Now() const { return absl::Now(); }

absl::Duration RealClock::Monotonic() const {
  struct timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

absl::Time FakeClock::Now() const {
  absl::MutexLock lock(&mu_);
  return now_;
}

absl::Duration FakeClock::Monotonic() const {
  absl::MutexLock lock(&mu_);
  return monotonic_;
}

void FakeClock::Advance(absl::Duration by) {
  absl::MutexLock lock(&mu_);
  now_ += by;
  monotonic_ += by;
}

void FakeClock::SetWallClock(absl::Time now) {
  absl::MutexLock lock(&mu_);
  now_ = now;
}

}  // namespace gantry
