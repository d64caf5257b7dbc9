// Threads for calls that block: made when needed, gone when idle, because a waiting thread is
// memory in every shim.
//
// Thread-safe.
#ifndef GANTRY_SHIM_WORKER_THREADS_H_
#define GANTRY_SHIM_WORKER_THREADS_H_

#include <deque>
#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace gantry::shim {

class WorkerThreads {
 public:
  explicit WorkerThreads(int max_threads) : max_threads_(max_threads) {}
  // Waits for what runs; what is queued runs too.
  ~WorkerThreads();
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  // At once if fewer than `max_threads` are busy, otherwise as soon as one is free.
  void Run(std::function<void()> task) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void ThreadMain() ABSL_LOCKS_EXCLUDED(mu_);

  const int max_threads_;

  absl::Mutex mu_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  int threads_ ABSL_GUARDED_BY(mu_) = 0;
  int idle_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_WORKER_THREADS_H_
