#include "supervisor/core/event_bus.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace gantry::core {
namespace {

// containerd's rule: an absolute path of at least one component, each an identifier.
absl::Status CheckTopic(absl::string_view topic) {
  if (topic.size() < 2 || topic.front() != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("event topic \"", topic, "\": must start with '/' and name something"));
  }
  for (absl::string_view part : absl::StrSplit(topic.substr(1), '/')) {
    bool good = !part.empty() && part.size() <= 76 && absl::ascii_isalnum(part.front()) &&
                absl::ascii_isalnum(part.back());
    for (char c : part) good = good && (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-');
    if (!good) {
      return absl::InvalidArgumentError(absl::StrCat("event topic \"", topic, "\": component \"",
                                                     part, "\" is not an identifier"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

EventPtr Subscription::Pop() {
  absl::MutexLock lock(&mu_);
  if (queue_.empty()) return nullptr;
  EventPtr event = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= event->bytes();
  return event;
}

absl::Status Subscription::status() const {
  absl::MutexLock lock(&mu_);
  if (!overflowed_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("event subscriber fell more than ", bounds_.events, " events or ",
                   bounds_.bytes >> 20, " MiB behind and was dropped; subscribe again, read the ",
                   "present state, and read events faster or filter them"));
}

void Subscription::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
  queue_.clear();
  queued_bytes_ = 0;
  ready_ = nullptr;
}

void Subscription::Offer(const EventPtr& event) {
  if (wanted_ && !wanted_(*event)) return;
  absl::MutexLock lock(&mu_);
  if (closed_ || overflowed_) return;
  if (!queue_.empty() &&
      (queue_.size() >= bounds_.events || queued_bytes_ + event->bytes() > bounds_.bytes)) {
    overflowed_ = true;
  } else {
    queue_.push_back(event);
    queued_bytes_ += event->bytes();
  }
  // Called under the lock, so that there is no call after Close() has returned.
  if (ready_ && (overflowed_ || queue_.size() == 1)) ready_();
}

EventBus::EventBus(EventBounds history, EventBounds queue)
    : history_bounds_(history), queue_bounds_(queue) {}

void EventBus::Publish(absl::string_view ns, Event event) {
  event.at = absl::Now();
  event.ns = std::string(ns);
  Deliver(std::move(event));
}

absl::Status EventBus::PublishForeign(absl::string_view ns, ForeignFacts facts, absl::Time at) {
  absl::Status valid = CheckTopic(facts.topic);
  if (!valid.ok()) return valid;
  Event event;
  event.kind = EventKind::kForeign;
  event.low_level = true;
  event.at = at;
  event.ns = std::string(ns);
  event.facts = std::move(facts);
  Deliver(std::move(event));
  return absl::OkStatus();
}

void EventBus::Deliver(Event event) {
  // The bus lock is held while queues are filled: that alone keeps every subscriber's order the
  // same. Filling a queue neither waits nor does I/O.
  absl::MutexLock lock(&mu_);
  event.sequence = next_sequence_++;
  auto shared = std::make_shared<const Event>(std::move(event));
  history_.push_back(shared);
  history_bytes_ += shared->bytes();
  while (history_.size() > history_bounds_.events ||
         (history_.size() > 1 && history_bytes_ > history_bounds_.bytes)) {
    history_bytes_ -= history_.front()->bytes();
    history_.pop_front();
  }
  if (recovering_) recovered_.push_back(shared);
  auto gone = std::remove_if(subscribers_.begin(), subscribers_.end(),
                             [&shared](const std::weak_ptr<Subscription>& weak) {
                               auto subscription = weak.lock();
                               if (!subscription) return true;
                               subscription->Offer(shared);
                               return false;
                             });
  subscribers_.erase(gone, subscribers_.end());
}

std::shared_ptr<Subscription> EventBus::Subscribe(std::function<bool(const Event&)> wanted,
                                                  std::function<void()> ready, absl::Time since) {
  auto subscription = std::make_shared<Subscription>();
  subscription->wanted_ = std::move(wanted);
  subscription->bounds_ = queue_bounds_;
  absl::MutexLock lock(&mu_);
  {
    absl::MutexLock subscription_lock(&subscription->mu_);
    subscription->ready_ = std::move(ready);
  }
  if (since != absl::InfiniteFuture()) {
    for (const EventPtr& event : history_) {
      if (event->at >= since) subscription->Offer(event);
    }
  } else if (absl::Now() < recovered_until_) {
    for (const EventPtr& event : recovered_) subscription->Offer(event);
  } else if (!recovering_) {
    recovered_.clear();
  }
  subscribers_.push_back(subscription);
  return subscription;
}

void EventBus::BeginRecovery() {
  absl::MutexLock lock(&mu_);
  recovering_ = true;
}

void EventBus::EndRecovery(absl::Duration grace) {
  absl::MutexLock lock(&mu_);
  recovering_ = false;
  recovered_until_ = absl::Now() + grace;
}

}  // namespace gantry::core
