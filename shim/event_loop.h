// The shim's one epoll loop: file descriptors, timers, and work posted from other threads.
//
// Thread-compatible and owned by the thread that calls Run(), except Post() and Stop(), which are
// thread-safe. Before Run() any one thread may set things up. Callbacks run on the loop's thread;
// they may watch, unwatch and post freely, also the descriptor they are called for.
#ifndef GANTRY_SHIM_EVENT_LOOP_H_
#define GANTRY_SHIM_EVENT_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "base/unique_fd.h"

namespace gantry::shim {

class EventLoop {
 public:
  using IoCallback = std::function<void(uint32_t events)>;
  using Task = std::function<void()>;
  // Never 0.
  using TimerId = uint64_t;

  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Calls back with EPOLL* events while `fd` is ready for `events` (level-triggered; errors and
  // hang-ups always count). `events` 0 watches nothing at all until SetEvents(). The descriptor
  // stays the caller's, who unwatches before closing it.
  absl::Status Watch(int fd, uint32_t events, IoCallback callback);
  void SetEvents(int fd, uint32_t events);
  // Not being watched is fine.
  void Unwatch(int fd);

  // Once, after `delay` of monotonic time.
  TimerId After(absl::Duration delay, Task task);
  // Fired or unknown timers are ignored.
  void CancelTimer(TimerId id);

  // Runs `task` on the loop's thread, in the order posted. After Stop() tasks may be dropped.
  void Post(Task task) ABSL_LOCKS_EXCLUDED(mu_);

  // For the callback that runs, until it returns: bytes to read into. One for all streams, because
  // each page touched counts once per container.
  absl::Span<char> scratch() { return {scratch_.get(), kScratchBytes}; }

  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Watcher {
    uint64_t generation =
        0;  // tells a reused descriptor number from the one an event was queued for
    uint32_t events = 0;
    bool in_epoll = false;
    std::shared_ptr<IoCallback> callback;
  };

  static constexpr size_t kScratchBytes = 32 * 1024;

  EventLoop(UniqueFd epoll, UniqueFd wake);
  void Apply(int fd, Watcher& watcher, uint32_t events);
  int NextTimeoutMillis() const;
  void RunTimers();
  void RunPosted() ABSL_LOCKS_EXCLUDED(mu_);

  const UniqueFd epoll_;
  const UniqueFd wake_;  // eventfd

  const std::unique_ptr<char[]> scratch_;

  std::unordered_map<int, Watcher> watchers_;
  uint64_t next_generation_ = 1;
  // By due time in monotonic nanoseconds, then id.
  std::map<std::pair<int64_t, TimerId>, Task> timers_;
  std::unordered_map<TimerId, int64_t> timer_due_;
  TimerId next_timer_ = 1;

  absl::Mutex mu_;
  std::vector<Task> posted_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_EVENT_LOOP_H_
