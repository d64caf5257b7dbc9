// The shim's numbered events, kept until the supervisor has seen them.
//
// A supervisor that comes back asks for what happened after the last number it knows; asking
// confirms everything up to there. What is kept is bounded: beyond kMaxEvents the oldest are
// forgotten, exits of processes that were not deleted yet last, and numbers are then missing from
// the stream. An exit the supervisor has answered with Delete is known to it.
//
// Thread-safe. Listeners are called without a lock held, on the thread that appends.
#ifndef GANTRY_SHIM_EVENT_LOG_H_
#define GANTRY_SHIM_EVENT_LOG_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "proto/shim/v1/shim.pb.h"

namespace gantry::shim {

class EventLog {
 public:
  static constexpr size_t kMaxEvents = 512;
  static constexpr size_t kMaxExits = 4096;

  using Listener = std::function<void()>;

  EventLog() = default;
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Numbers the event, stamps it with the time unless it has one, keeps it, and tells the
  // listeners.
  uint64_t Append(v1::Event event) ABSL_LOCKS_EXCLUDED(mu_);

  // The oldest kept event with a number above `after`.
  std::optional<v1::Event> NextAfter(uint64_t after) const ABSL_LOCKS_EXCLUDED(mu_);
  // The supervisor has everything up to and including `number`.
  void Confirm(uint64_t number) ABSL_LOCKS_EXCLUDED(mu_);
  // Of the newest event, 0 for none.
  uint64_t last_number() const ABSL_LOCKS_EXCLUDED(mu_);

  // `listener` is called after each Append() from now on until Unlisten(), which does not wait for
  // calls under way.
  uint64_t Listen(Listener listener) ABSL_LOCKS_EXCLUDED(mu_);
  void Unlisten(uint64_t id) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Kept {
    v1::Event event;
    // An exit that the supervisor is not known to know of.
    bool must_stay;
  };
  void Trim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  std::deque<Kept> events_ ABSL_GUARDED_BY(mu_);
  uint64_t last_number_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, std::shared_ptr<Listener>> listeners_ ABSL_GUARDED_BY(mu_);
  uint64_t next_listener_ ABSL_GUARDED_BY(mu_) = 1;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_EVENT_LOG_H_
