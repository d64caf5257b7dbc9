#include "base/executor.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

#include "base/new_thread.h"

namespace gantry {

Executor::Executor(absl::string_view name, size_t max_threads, absl::Duration linger)
    : name_(name.substr(0, 15)), max_threads_(max_threads == 0 ? 1 : max_threads), linger_(linger) {
  Schedule([] {});  // makes the first thread
}

Executor::~Executor() {
  std::thread last;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return threads_.empty(); };
    mu_.Await(absl::Condition(&none));
    last = std::move(ended_);
  }
  if (last.joinable()) last.join();
}

size_t Executor::threads() const {
  absl::MutexLock lock(&mu_);
  return threads_.size();
}

bool Executor::Schedule(absl::AnyInvocable<void()> work) {
  absl::MutexLock lock(&mu_);
  if (stopping_) return false;
  queue_.push_back(std::move(work));
  if (queue_.size() <= idle_ || threads_.size() == max_threads_) return true;
  // A thread inherits the mask it is made under: signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const auto self = threads_.emplace(threads_.end());
  absl::StatusOr<std::thread> thread = NewThread([this, self] { Run(self); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (thread.ok()) {
    *self = *std::move(thread);
  } else {
    threads_.erase(self);  // those there are will come to it
  }
  return true;
}

void Executor::WaitIdle() {
  absl::MutexLock lock(&mu_);
  const auto quiet = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return queue_.empty() && running_ == 0;
  };
  mu_.Await(absl::Condition(&quiet));
}

void Executor::Run(Threads::iterator self) {
  ::pthread_setname_np(::pthread_self(), name_.c_str());
  std::thread before;
  {
    absl::MutexLock lock(&mu_);
    const auto has_news = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return !queue_.empty() || stopping_;
    };
    for (;;) {
      ++idle_;
      // The last thread stays, because it may be impossible to make one when there is work again.
      mu_.AwaitWithTimeout(absl::Condition(&has_news),
                           threads_.size() == 1 ? absl::InfiniteDuration() : linger_);
      --idle_;
      if (queue_.empty()) {
        if (threads_.size() == 1 && !stopping_) continue;
        break;
      }
      absl::AnyInvocable<void()> work = std::move(queue_.front());
      queue_.pop_front();
      ++running_;
      mu_.Unlock();
      work();
      // What the work holds is released before it counts as done.
      work = nullptr;
      mu_.Lock();
      --running_;
    }
    // Each that leaves joins the one that left before it, and the destructor the last.
    before = std::exchange(ended_, std::move(*self));
    threads_.erase(self);
  }
  if (before.joinable()) before.join();
}

}  // namespace gantry
