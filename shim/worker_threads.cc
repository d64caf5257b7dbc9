#include "shim/worker_threads.h"

#include <system_error>
#include <thread>
#include <utility>

#include "absl/time/time.h"

namespace gantry::shim {
namespace {

constexpr absl::Duration kIdleTime = absl::Seconds(1);

}  // namespace

WorkerThreads::~WorkerThreads() {
  absl::MutexLock lock(&mu_);
  stopping_ = true;
  const auto none_left = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return threads_ == 0; };
  mu_.Await(absl::Condition(&none_left));
}

void WorkerThreads::Run(std::function<void()> task) {
  absl::MutexLock lock(&mu_);
  queue_.push_back(std::move(task));
  if (static_cast<int>(queue_.size()) <= idle_ || threads_ == max_threads_) return;
  try {
    std::thread([this] { ThreadMain(); }).detach();
    ++threads_;
  } catch (const std::system_error&) {
    // No thread could be made: one of the running threads will do this work. Without any, the shim
    // cannot go on.
    if (threads_ == 0) throw;
  }
}

void WorkerThreads::ThreadMain() {
  absl::MutexLock lock(&mu_);
  const auto work_or_end = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !queue_.empty() || stopping_;
  };
  for (;;) {
    ++idle_;
    const bool work = mu_.AwaitWithTimeout(absl::Condition(&work_or_end), kIdleTime);
    --idle_;
    if (!work || queue_.empty()) break;
    std::function<void()> task = std::move(queue_.front());
    queue_.pop_front();
    mu_.Unlock();
    task();
    task = nullptr;
    mu_.Lock();
  }
  --threads_;
}

}  // namespace gantry::shim
