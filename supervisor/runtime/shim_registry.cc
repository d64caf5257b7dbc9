#include "supervisor/runtime/shim_registry.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "supervisor/runtime/shim_launcher.h"

namespace gantry::runtime {

Shim::~Shim() { ReapIfChild(pidfd_.get()); }

absl::Status Shim::KillShim() {
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0) != 0 && errno != ESRCH) {
    return ErrnoToStatus(errno, absl::StrCat("kill shim of ", key().ToString()));
  }
  return absl::OkStatus();
}

absl::Status Shim::WaitGone(absl::Duration timeout) {
  const absl::Duration deadline = Clock::Real().Monotonic() + timeout;
  while (true) {
    const absl::Duration left = deadline - Clock::Real().Monotonic();
    pollfd wait = {pidfd_.get(), POLLIN, 0};
    const int millis =
        left > absl::ZeroDuration()
            ? static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))))
            : 0;
    const int ready = poll(&wait, 1, millis);
    if (ready > 0) {
      ReapIfChild(pidfd_.get());
      return absl::OkStatus();
    }
    if (ready < 0 && errno != EINTR) {
      return ErrnoToStatus(errno, absl::StrCat("wait for shim of ", key().ToString()));
    }
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat("shim of ", key().ToString(), ", pid ",
                                                      process_.pid, ", still lives after ",
                                                      absl::FormatDuration(timeout)));
    }
  }
}

struct ShimRegistry::State {
  OnShimGone on_gone;
  UniqueFd epoll;
  UniqueFd wake;  // readable: stop

  mutable absl::Mutex mu;
  std::map<TaskKey, uint64_t> tickets ABSL_GUARDED_BY(mu);
  std::map<uint64_t, std::shared_ptr<Shim>> shims ABSL_GUARDED_BY(mu);
  uint64_t next_ticket ABSL_GUARDED_BY(mu) = 1;  // 0 is the wake descriptor

  std::thread thread;

  void Run();
};

void ShimRegistry::State::Run() {
  pthread_setname_np(pthread_self(), "shim-registry");
  while (true) {
    epoll_event events[64];
    const int count = epoll_wait(epoll.get(), events, 64, -1);
    if (count < 0) {
      PCHECK(errno == EINTR) << "epoll_wait";
      continue;
    }
    for (int i = 0; i < count; ++i) {
      const uint64_t ticket = events[i].data.u64;
      if (ticket == 0) return;
      std::shared_ptr<Shim> gone;
      {
        // A ticket is never given twice: an event for a shim removed meanwhile finds nothing.
        absl::MutexLock lock(&mu);
        const auto it = shims.find(ticket);
        if (it == shims.end()) continue;
        gone = std::move(it->second);
        shims.erase(it);
        tickets.erase(gone->key());
      }
      epoll_ctl(epoll.get(), EPOLL_CTL_DEL, gone->pidfd(), nullptr);
      ReapIfChild(gone->pidfd());
      on_gone(std::move(gone));
    }
  }
}

ShimRegistry::ShimRegistry(OnShimGone on_gone) : state_(std::make_unique<State>()) {
  state_->on_gone = std::move(on_gone);
  state_->epoll = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  state_->wake = UniqueFd(eventfd(0, EFD_CLOEXEC));
  PCHECK(state_->epoll.valid() && state_->wake.valid()) << "no descriptors at start";
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  PCHECK(epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, state_->wake.get(), &event) == 0);
  state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

ShimRegistry::~ShimRegistry() { Stop(); }

void ShimRegistry::Stop() {
  if (!state_->thread.joinable()) return;
  const uint64_t one = 1;
  PCHECK(write(state_->wake.get(), &one, sizeof(one)) == sizeof(one));
  state_->thread.join();
}

absl::Status ShimRegistry::Add(std::shared_ptr<Shim> shim) {
  absl::MutexLock lock(&state_->mu);
  const uint64_t ticket = state_->next_ticket;
  if (!state_->tickets.emplace(shim->key(), ticket).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("task ", shim->key().ToString(), " has a shim already"));
  }
  // Registered under the lock: the thread cannot look the ticket up before it is in the map.
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = ticket;
  if (epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, shim->pidfd(), &event) != 0) {
    const absl::Status status =
        ErrnoToStatus(errno, absl::StrCat("watch shim of ", shim->key().ToString()));
    state_->tickets.erase(shim->key());
    return status;
  }
  ++state_->next_ticket;
  state_->shims.emplace(ticket, std::move(shim));
  return absl::OkStatus();
}

std::shared_ptr<Shim> ShimRegistry::Find(const TaskKey& key) const {
  absl::MutexLock lock(&state_->mu);
  const auto it = state_->tickets.find(key);
  return it == state_->tickets.end() ? nullptr : state_->shims.at(it->second);
}

std::shared_ptr<Shim> ShimRegistry::Remove(const TaskKey& key) {
  std::shared_ptr<Shim> removed;
  {
    absl::MutexLock lock(&state_->mu);
    const auto it = state_->tickets.find(key);
    if (it == state_->tickets.end()) return nullptr;
    const auto shim = state_->shims.find(it->second);
    removed = std::move(shim->second);
    state_->shims.erase(shim);
    state_->tickets.erase(it);
  }
  epoll_ctl(state_->epoll.get(), EPOLL_CTL_DEL, removed->pidfd(), nullptr);
  return removed;
}

std::vector<std::shared_ptr<Shim>> ShimRegistry::List() const {
  absl::MutexLock lock(&state_->mu);
  std::vector<std::shared_ptr<Shim>> shims;
  shims.reserve(state_->tickets.size());
  for (const auto& [key, ticket] : state_->tickets) shims.push_back(state_->shims.at(ticket));
  return shims;
}

}  // namespace gantry::runtime
