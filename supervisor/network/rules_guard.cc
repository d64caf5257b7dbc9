#include "supervisor/network/rules_guard.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "glog/logging.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::network {

absl::StatusOr<std::unique_ptr<RulesGuard>> RulesGuard::Start(Firewall& firewall, Pauses pauses) {
  GANTRY_ASSIGN_OR_RETURN(RulesetEvents events, firewall.OpenEvents());
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return ErrnoToStatus(errno, "eventfd");
  std::unique_ptr<RulesGuard> guard(
      new RulesGuard(firewall, pauses, std::move(events), std::move(stop)));
  GANTRY_ASSIGN_OR_RETURN(guard->thread_, NewThread([raw = guard.get()] { raw->Loop(); }));
  return guard;
}

RulesGuard::RulesGuard(Firewall& firewall, Pauses pauses, RulesetEvents events, UniqueFd stop)
    : firewall_(firewall), pauses_(pauses), events_(std::move(events)), stop_(std::move(stop)) {}

RulesGuard::~RulesGuard() {
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

bool RulesGuard::WaitUntil(std::optional<absl::Duration> due, bool& event) {
  pollfd fds[] = {{stop_.get(), POLLIN, 0}, {events_.fd(), POLLIN, 0}};
  int timeout_ms = -1;
  if (due.has_value()) {
    const absl::Duration left = *due - Clock::Real().Monotonic();
    timeout_ms = static_cast<int>(std::clamp<int64_t>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 0, 60'000));
  }
  const int ready = poll(fds, 2, timeout_ms);
  event = ready > 0 && fds[1].revents != 0;
  return ready <= 0 || fds[0].revents == 0;
}

bool RulesGuard::Changed() {
  const absl::StatusOr<RulesetEvents::Batch> batch = events_.Read();
  if (!batch.ok()) {
    LOG(ERROR) << "watching the rules of networks: " << batch.status();
    return false;
  }
  for (const RulesetEvents::Change& change : batch->changes) {
    if (change.ours && !firewall_.Made(change.generation)) return true;
  }
  if (!batch->lost) return false;
  const absl::StatusOr<bool> stands = firewall_.Stands();
  return stands.ok() && !*stands;
}

void RulesGuard::Loop() {
  pthread_setname_np(pthread_self(), "rules-guard");
  absl::Duration pause = pauses_.quiet;
  absl::Duration last = -absl::InfiniteDuration();  // restoration
  absl::Duration latest;                            // for the one that is due
  std::optional<absl::Duration> due;
  bool event = false;
  while (WaitUntil(due, event)) {
    const absl::Duration now = Clock::Real().Monotonic();
    if (event && Changed()) {
      if (!due.has_value()) {
        // Restorations that follow each other closely: another program takes our rules away again.
        const bool again = now - last < absl::Seconds(1) + 10 * pause;
        pause = again ? std::min(2 * pause, pauses_.between_most) : pauses_.quiet;
        latest = now + std::max(pause, pauses_.longest);
      }
      due = std::min(now + pause, latest);
    }
    if (!due.has_value() || now < *due) continue;
    const absl::Status restored = firewall_.Restore();
    last = now;
    due.reset();
    if (restored.ok()) {
      LOG(WARNING) << "another program changed the rules of container networks (table inet "
                   << firewall_.table() << "); they were written anew";
    } else {
      pause = std::clamp(2 * pause, absl::Seconds(1), pauses_.between_most);
      due = latest = now + pause;
      LOG(ERROR) << "writing the rules of container networks anew: " << restored
                 << "; tried again in " << pause;
    }
  }
}

}  // namespace gantry::network
