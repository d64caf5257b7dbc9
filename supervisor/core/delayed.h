// Work for later: one thread that hands each piece to an executor when its time has come.
//
// Delays are monotonic. Work that is still waiting when this is destroyed never runs. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_DELAYED_H_
#define GANTRY_SUPERVISOR_CORE_DELAYED_H_

#include <functional>
#include <map>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/clock.h"

namespace gantry {
class Executor;
}

namespace gantry::core {

class Delayed {
 public:
  Delayed(const Clock& clock, Executor& workers) : clock_(clock), workers_(workers) {}
  ~Delayed() { Stop(); }
  // After Stop() nothing runs any more.
  void Stop();
  void At(absl::Duration delay, std::function<void()> work);

 private:
  void Loop();

  const Clock& clock_;
  Executor& workers_;

  absl::Mutex mu_;
  absl::CondVar changed_;
  std::multimap<absl::Duration, std::function<void()>> waiting_
      ABSL_GUARDED_BY(mu_);  // by monotonic time
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);  // made with the first work
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_DELAYED_H_
