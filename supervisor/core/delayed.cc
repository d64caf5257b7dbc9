#include "supervisor/core/delayed.h"

#include <utility>

#include "glog/logging.h"

#include "base/executor.h"
#include "base/new_thread.h"

namespace gantry::core {

void Delayed::Stop() {
  std::thread thread;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    waiting_.clear();
    changed_.Signal();
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

void Delayed::At(absl::Duration delay, std::function<void()> work) {
  absl::MutexLock lock(&mu_);
  if (stopping_) return;
  waiting_.emplace(clock_.Monotonic() + delay, std::move(work));
  if (!thread_.joinable()) {
    absl::StatusOr<std::thread> thread = NewThread([this] { Loop(); });
    if (thread.ok()) {
      thread_ = *std::move(thread);
    } else {
      LOG(ERROR) << "restarts and health checks wait for the next one: " << thread.status();
    }
  }
  changed_.Signal();
}

void Delayed::Loop() {
  absl::MutexLock lock(&mu_);
  while (!stopping_) {
    const absl::Duration now = clock_.Monotonic();
    auto next = waiting_.begin();
    if (next == waiting_.end()) {
      changed_.Wait(&mu_);
    } else if (next->first > now) {
      changed_.WaitWithTimeout(&mu_, next->first - now);
    } else {
      workers_.Schedule(std::move(next->second));
      waiting_.erase(next);
    }
  }
}

}  // namespace gantry::core
