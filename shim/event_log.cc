#include "shim/event_log.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"

#include "shim/proto_time.h"

namespace gantry::shim {

uint64_t EventLog::Append(v1::Event event) {
  if (!event.has_at()) SetTimestamp(absl::Now(), event.mutable_at());
  std::vector<std::shared_ptr<Listener>> listeners;
  uint64_t number;
  {
    absl::MutexLock lock(&mu_);
    number = ++last_number_;
    event.set_number(number);
    if (event.has_deleted()) {
      // Who deletes a process knows its end.
      for (Kept& kept : events_) {
        if (kept.event.has_exited() && kept.event.exited().exec_id() == event.deleted().exec_id()) {
          kept.must_stay = false;
        }
      }
    }
    const bool must_stay = event.has_exited();
    events_.push_back({std::move(event), must_stay});
    Trim();
    for (const auto& [id, listener] : listeners_) listeners.push_back(listener);
  }
  for (const std::shared_ptr<Listener>& listener : listeners) (*listener)();
  return number;
}

void EventLog::Trim() {
  if (events_.size() <= kMaxEvents) return;
  const auto oldest = std::find_if(events_.begin(), events_.end(),
                                   [](const Kept& kept) { return !kept.must_stay; });
  if (oldest != events_.end()) {
    events_.erase(oldest);
    return;
  }
  if (events_.size() > kMaxExits) events_.pop_front();
}

std::optional<v1::Event> EventLog::NextAfter(uint64_t after) const {
  absl::MutexLock lock(&mu_);
  auto it = std::upper_bound(
      events_.begin(), events_.end(), after,
      [](uint64_t number, const Kept& kept) { return number < kept.event.number(); });
  if (it == events_.end()) return std::nullopt;
  return it->event;
}

void EventLog::Confirm(uint64_t number) {
  absl::MutexLock lock(&mu_);
  while (!events_.empty() && events_.front().event.number() <= number) events_.pop_front();
}

uint64_t EventLog::last_number() const {
  absl::MutexLock lock(&mu_);
  return last_number_;
}

uint64_t EventLog::Listen(Listener listener) {
  absl::MutexLock lock(&mu_);
  const uint64_t id = next_listener_++;
  listeners_.emplace(id, std::make_shared<Listener>(std::move(listener)));
  return id;
}

void EventLog::Unlisten(uint64_t id) {
  absl::MutexLock lock(&mu_);
  listeners_.erase(id);
}

}  // namespace gantry::shim
