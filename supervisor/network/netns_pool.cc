#include "supervisor/network/netns_pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>

#include "absl/status/status.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

constexpr int kLongest = 5;  // pauses that a fill waits at most

}  // namespace

absl::StatusOr<OpenNetns> MakeContainerNetns() {
  OpenNetns made;
  GANTRY_ASSIGN_OR_RETURN(
      made.fd, NewNetns([&made]() -> absl::Status {
        // A kernel without IPv6 has no such file.
        if (const UniqueFd file(
                open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC));
            file.valid() && write(file.get(), "1", 1) != 1)
          return absl::InternalError("IPv6 cannot be turned off for a namespace's devices");
        GANTRY_ASSIGN_OR_RETURN(made.inside, Links::Open());
        return made.inside->SetUp("lo");
      }));
  return made;
}

NetnsPool::~NetnsPool() {
  std::thread last;
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
    last = std::move(thread_);
  }
  if (last.joinable()) last.join();
}

size_t NetnsPool::size() const {
  absl::MutexLock lock(&mu_);
  return ready_.size();
}

absl::StatusOr<OpenNetns> NetnsPool::Take() {
  {
    absl::MutexLock lock(&mu_);
    last_taken_ = Clock::Real().Monotonic();
    if (taken_++ == 0) first_taken_ = last_taken_;
    if (!running_) {
      // The one before has ended, or is about to.
      if (thread_.joinable()) thread_.join();
      absl::StatusOr<std::thread> thread = NewThread([this] { Loop(); });
      // Without it each is made when it is needed.
      running_ = thread.ok();
      if (thread.ok()) thread_ = *std::move(thread);
    }
    if (!ready_.empty()) {
      OpenNetns one = std::move(ready_.back());
      ready_.pop_back();
      return one;
    }
  }
  return make_();
}

void NetnsPool::Loop() {
  pthread_setname_np(pthread_self(), "netns-pool");
  std::vector<OpenNetns> old;  // closed without the lock: the kernel takes them down then
  absl::MutexLock lock(&mu_);
  while (!stop_) {
    const absl::Duration now = Clock::Real().Monotonic();
    if (now - last_taken_ >= limits_.idle) break;
    if (taken_ > 0) {
      const absl::Duration due =
          std::min(last_taken_ + limits_.quiet, first_taken_ + kLongest * limits_.quiet);
      if (now < due) {
        mu_.AwaitWithTimeout(absl::Condition(&stop_), due - now);
        continue;
      }
      // As many as were taken between two fills; fewer only little by little.
      wanted_ = std::clamp(std::max(taken_, wanted_ - 1), size_t{1}, limits_.most);
      taken_ = 0;
    }
    if (ready_.size() >= wanted_) {
      const auto needed = [this]()
                              ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stop_ || taken_ > 0; };
      mu_.AwaitWithTimeout(absl::Condition(&needed), last_taken_ + limits_.idle - now);
      continue;
    }
    mu_.Unlock();
    absl::StatusOr<OpenNetns> made = make_();
    mu_.Lock();
    if (!made.ok()) {
      // The next start meets the same and answers it.
      LOG(WARNING) << "no network namespace could be made ahead: " << made.status();
      break;
    }
    ready_.push_back(*std::move(made));
  }
  old.swap(ready_);
  wanted_ = 1;
  taken_ = 0;
  running_ = false;
}

}  // namespace gantry::network
