// A bounded pool of threads.
//
// Threads are made as work arrives, have every signal blocked, and end when they had nothing to do
// for a while. Work starts in the order it was scheduled. Destruction refuses new work, finishes
// what is queued and joins; it must not happen on a thread of the pool.
//
// Thread-safe.

#ifndef GANTRY_BASE_EXECUTOR_H_
#define GANTRY_BASE_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <list>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry {

class Executor {
 public:
  // `name` shows in /proc/PID/task/*/comm, cut to 15 characters.
  // A thread ends after `linger` without work, but for the last one: where the kernel gives no more
  // threads, work waits for those there are. The first is made here.
  Executor(absl::string_view name, size_t max_threads, absl::Duration linger = absl::Seconds(2));
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs `work` on a thread of the pool. Never blocks; `work` must not throw and must not wait for
  // other work of the same pool. False: the executor is being destroyed and `work` will not run.
  bool Schedule(absl::AnyInvocable<void()> work);

  // Returns once nothing is queued and nothing runs.
  void WaitIdle();

  size_t max_threads() const { return max_threads_; }

  // Threads there are now, those on their way out not counted.
  size_t threads() const;

 private:
  using Threads = std::list<std::thread>;
  // One thread; `self` is where it stands in threads_.
  void Run(Threads::iterator self);

  const std::string name_;
  const size_t max_threads_;
  const absl::Duration linger_;

  mutable absl::Mutex mu_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mu_);
  Threads threads_ ABSL_GUARDED_BY(mu_);
  std::thread ended_ ABSL_GUARDED_BY(mu_);  // the last one that left, to be joined by the next
  size_t idle_ ABSL_GUARDED_BY(mu_) = 0;
  size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry

#endif  // GANTRY_BASE_EXECUTOR_H_
