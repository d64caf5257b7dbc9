#include "supervisor/api/grpc/answer_places.h"

#include <algorithm>

#include "base/status_macros.h"

namespace gantry::api {

absl::StatusOr<AnswerPlaces::Place> AnswerPlaces::Take(CancelToken& cancel) {
  // Before the lock, which the callback takes; withdrawn after it is released.
  const CancelToken::Registration woken = cancel.OnCancel([this] {
    absl::MutexLock lock(&mu_);
    changed_.SignalAll();
  });
  absl::MutexLock lock(&mu_);
  for (;;) {
    GANTRY_RETURN_IF_ERROR(cancel.Check());
    DropOld();
    if (held_.size() < most_) break;
    const absl::Duration until_old = held_.begin()->second + patience_ - clock_.Monotonic();
    changed_.WaitWithTimeout(&mu_, std::min(until_old, cancel.remaining()));
  }
  const uint64_t id = next_id_++;
  held_.emplace(id, clock_.Monotonic());
  return Place(this, id);
}

void AnswerPlaces::GiveBack(uint64_t id) {
  absl::MutexLock lock(&mu_);
  if (held_.erase(id) > 0) changed_.Signal();
}

void AnswerPlaces::DropOld() {
  const absl::Duration now = clock_.Monotonic();
  while (!held_.empty() && held_.begin()->second + patience_ <= now) held_.erase(held_.begin());
}

}  // namespace gantry::api
