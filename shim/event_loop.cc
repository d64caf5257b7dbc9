#include "shim/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/errno_status.h"

namespace gantry::shim {
namespace {

int64_t MonotonicNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// epoll hands back 64 bits: the descriptor, and the low half of its watcher's generation.
uint64_t Tag(int fd, uint64_t generation) { return generation << 32 | static_cast<uint32_t>(fd); }

}  // namespace

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wake)
    : epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      scratch_(std::make_unique_for_overwrite<char[]>(kScratchBytes)) {}

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoToStatus(errno, "epoll");
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return ErrnoToStatus(errno, "eventfd");
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = Tag(wake.get(), 0);
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return ErrnoToStatus(errno, "epoll: watch eventfd");
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

absl::Status EventLoop::Watch(int fd, uint32_t events, IoCallback callback) {
  Unwatch(fd);
  Watcher watcher;
  watcher.generation = next_generation_++ & 0xffffffff;
  watcher.callback = std::make_shared<IoCallback>(std::move(callback));
  if (events != 0) {
    epoll_event event = {};
    event.events = events;
    event.data.u64 = Tag(fd, watcher.generation);
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return ErrnoToStatus(errno, "epoll: watch");
    }
    watcher.in_epoll = true;
    watcher.events = events;
  }
  watchers_[fd] = std::move(watcher);
  return absl::OkStatus();
}

void EventLoop::Apply(int fd, Watcher& watcher, uint32_t events) {
  if (watcher.events == events) return;
  epoll_event event = {};
  event.events = events;
  event.data.u64 = Tag(fd, watcher.generation);
  // Without events the descriptor leaves epoll, which would go on reporting hang-ups otherwise.
  const int operation =
      events == 0 ? EPOLL_CTL_DEL : (watcher.in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
  if (events != 0 || watcher.in_epoll) epoll_ctl(epoll_.get(), operation, fd, &event);
  watcher.in_epoll = events != 0;
  watcher.events = events;
}

void EventLoop::SetEvents(int fd, uint32_t events) {
  auto it = watchers_.find(fd);
  if (it != watchers_.end()) Apply(fd, it->second, events);
}

void EventLoop::Unwatch(int fd) {
  auto it = watchers_.find(fd);
  if (it == watchers_.end()) return;
  Apply(fd, it->second, 0);
  watchers_.erase(it);
}

EventLoop::TimerId EventLoop::After(absl::Duration delay, Task task) {
  const TimerId id = next_timer_++;
  const int64_t due = MonotonicNanos() + absl::ToInt64Nanoseconds(delay);
  timers_.emplace(std::make_pair(due, id), std::move(task));
  timer_due_.emplace(id, due);
  return id;
}

void EventLoop::CancelTimer(TimerId id) {
  auto it = timer_due_.find(id);
  if (it == timer_due_.end()) return;
  timers_.erase({it->second, id});
  timer_due_.erase(it);
}

void EventLoop::Post(Task task) {
  absl::MutexLock lock(&mu_);
  posted_.push_back(std::move(task));
  // One write wakes the loop for all that is posted until it looks.
  if (posted_.size() == 1) eventfd_write(wake_.get(), 1);
}

void EventLoop::Stop() {
  absl::MutexLock lock(&mu_);
  stopped_ = true;
  eventfd_write(wake_.get(), 1);
}

int EventLoop::NextTimeoutMillis() const {
  if (timers_.empty()) return -1;
  const int64_t left = timers_.begin()->first.first - MonotonicNanos();
  if (left <= 0) return 0;
  return static_cast<int>(std::min<int64_t>(left / 1'000'000 + 1, 1 << 30));
}

void EventLoop::RunTimers() {
  const int64_t now = MonotonicNanos();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    Task task = std::move(timers_.begin()->second);
    timer_due_.erase(timers_.begin()->first.second);
    timers_.erase(timers_.begin());
    task();
  }
}

void EventLoop::RunPosted() {
  std::vector<Task> tasks;
  {
    absl::MutexLock lock(&mu_);
    tasks.swap(posted_);
  }
  for (Task& task : tasks) task();
}

void EventLoop::Run() {
  std::array<epoll_event, 16> events;
  for (;;) {
    {
      absl::MutexLock lock(&mu_);
      if (stopped_) return;
    }
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 NextTimeoutMillis());
    for (int i = 0; i < count; ++i) {
      const int fd = static_cast<int>(events[i].data.u64 & 0xffffffff);
      const uint64_t generation = events[i].data.u64 >> 32;
      if (fd == wake_.get()) {
        eventfd_t ignored;
        eventfd_read(wake_.get(), &ignored);
        RunPosted();
        continue;
      }
      auto it = watchers_.find(fd);
      if (it == watchers_.end() || it->second.generation != generation || !it->second.in_epoll) {
        continue;
      }
      // A copy of the owner: the callback may unwatch itself.
      const std::shared_ptr<IoCallback> callback = it->second.callback;
      (*callback)(events[i].events);
    }
    RunTimers();
  }
}

}  // namespace gantry::shim
