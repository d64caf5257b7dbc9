#include "shim/event_log.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "shim/proto_time.h"

namespace gantry::shim {
namespace {

bool IsExitOf(const v1::Event& event, absl::string_view exec_id) {
  return event.has_exited() && event.exited().exec_id() == exec_id;
}

}  // namespace

uint64_t EventLog::Append(v1::Event event) {
  if (!event.has_at()) SetTimestamp(absl::Now(), event.mutable_at());
  std::vector<std::shared_ptr<Listener>> listeners;
  uint64_t number;
  {
    absl::MutexLock lock(&mu_);
    number = ++last_number_;
    event.set_number(number);
    events_.push_back(std::move(event));
    Trim();
    for (const auto& [id, listener] : listeners_) listeners.push_back(listener);
  }
  for (const std::shared_ptr<Listener>& listener : listeners) (*listener)();
  return number;
}

void EventLog::Trim() {
  if (events_.size() <= kMaxEvents) return;
  // The exit of an exec id whose deletion is listed too is known to the supervisor, like everything else but exits.
  const auto must_stay = [&](const v1::Event& event) {
    if (!event.has_exited()) return false;
    return std::none_of(events_.begin(), events_.end(), [&](const v1::Event& other) {
      return other.has_deleted() && other.number() > event.number() &&
             IsExitOf(event, other.deleted().exec_id());
    });
  };
  for (auto it = events_.begin(); it != events_.end(); ++it) {
    if (!must_stay(*it)) {
      events_.erase(it);
      return;
    }
  }
  if (events_.size() > kMaxExits) events_.pop_front();
}

std::optional<v1::Event> EventLog::NextAfter(uint64_t after) const {
  absl::MutexLock lock(&mu_);
  auto it = std::upper_bound(
      events_.begin(), events_.end(), after,
      [](uint64_t number, const v1::Event& event) { return number < event.number(); });
  if (it == events_.end()) return std::nullopt;
  return *it;
}

void EventLog::Confirm(uint64_t number) {
  absl::MutexLock lock(&mu_);
  while (!events_.empty() && events_.front().number() <= number) events_.pop_front();
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
