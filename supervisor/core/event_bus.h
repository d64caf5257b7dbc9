// Distributes events (event.h) to every subscriber, in the order in which they happened.
//
// Publishing never waits: each subscriber has a queue bounded by count and by bytes, and one that
// does not keep up is ended with kResourceExhausted. The last events are kept, within bounds of
// their own, so that `events --since` can look back, and so that a client that reconnects right
// after a restart of the supervisor still receives the exits found during recovery.
//
// Thread-safe. Callbacks run on the publisher's thread, must not block and must not call back into
// the bus.
#ifndef GANTRY_SUPERVISOR_CORE_EVENT_BUS_H_
#define GANTRY_SUPERVISOR_CORE_EVENT_BUS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/core/event.h"

namespace gantry::core {

// How much may be kept at once: the first bound that is reached counts. One event always has room.
struct EventBounds {
  size_t events;
  size_t bytes;
};

// One listener's queue. Thread-safe; shared by the bus and the listener.
class Subscription {
 public:
  // The next event, if one waits. Null with an OK status(): nothing now. `ready` is called again
  // once there is more.
  EventPtr Pop();
  // kResourceExhausted once the queue overflowed; what was queued before can still be popped.
  absl::Status status() const;
  // No more events; safe to call twice.
  void Close();

 private:
  friend class EventBus;
  void Offer(const EventPtr& event);

  std::function<bool(const Event&)> wanted_;  // const after construction
  EventBounds bounds_;                        // const after construction

  mutable absl::Mutex mu_;
  std::deque<EventPtr> queue_ ABSL_GUARDED_BY(mu_);
  size_t queued_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::function<void()> ready_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool overflowed_ ABSL_GUARDED_BY(mu_) = false;
};

class EventBus {
 public:
  // `history` is kept for looking back; `queue` is each subscriber's. Clients publish events of
  // their own, of up to 16 MiB.
  explicit EventBus(EventBounds history = {2048, 8 << 20}, EventBounds queue = {16384, 16 << 20});

  // Publishes `event` as of now, in its namespace.
  void Publish(absl::string_view ns, Event event);
  // Publishes bytes that a client hands in, with its time. kInvalidArgument: malformed topic.
  absl::Status PublishForeign(absl::string_view ns, ForeignFacts facts, absl::Time at);

  // `wanted` chooses (null: everything); `ready` is called when the queue was empty and no longer
  // is, or has overflowed. History from `since` on is queued first (absl::InfiniteFuture(): none).
  std::shared_ptr<Subscription> Subscribe(std::function<bool(const Event&)> wanted,
                                          std::function<void()> ready,
                                          absl::Time since = absl::InfiniteFuture());

  // Events published between BeginRecovery() and EndRecovery() report what happened while no
  // supervisor ran. They are queued for every subscriber that arrives within `grace` after
  // EndRecovery(): clients of the former run reconnect and must not miss an exit.
  void BeginRecovery();
  void EndRecovery(absl::Duration grace = absl::Seconds(60));

 private:
  void Deliver(Event event);

  const EventBounds history_bounds_;
  const EventBounds queue_bounds_;

  absl::Mutex mu_;
  uint64_t next_sequence_ ABSL_GUARDED_BY(mu_) = 1;
  std::deque<EventPtr> history_ ABSL_GUARDED_BY(mu_);
  size_t history_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<EventPtr> recovered_ ABSL_GUARDED_BY(mu_);
  bool recovering_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time recovered_until_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  std::vector<std::weak_ptr<Subscription>> subscribers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EVENT_BUS_H_
