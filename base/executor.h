// A bounded pool of threads.
//
// Threads are made as work arrives and have every signal blocked. Work starts in the order it was
// scheduled. Destruction refuses new work, finishes what is queued and joins; it must not happen on
// a thread of the pool.
//
// Thread-safe.

#ifndef GANTRY_BASE_EXECUTOR_H_
#define GANTRY_BASE_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace gantry {

class Executor {
 public:
  // `name` shows in /proc/PID/task/*/comm, cut to 15 characters.
  Executor(absl::string_view name, size_t max_threads);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Runs `work` on a thread of the pool. Never blocks; `work` must not throw and must not wait for
  // other work of the same pool. False: the executor is being destroyed and `work` will not run.
  bool Schedule(absl::AnyInvocable<void()> work);

  // Returns once nothing is queued and nothing runs.
  void WaitIdle();

  size_t max_threads() const { return max_threads_; }

 private:
  void Run();

  const std::string name_;
  const size_t max_threads_;

  absl::Mutex mu_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
  size_t idle_ ABSL_GUARDED_BY(mu_) = 0;
  size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry

#endif  // GANTRY_BASE_EXECUTOR_H_
