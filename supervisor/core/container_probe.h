// A health check's probe as one more process of the container.
//
// Thread-safe. Probes under way when this is destroyed must have been waited for
// (HealthMonitor::Stop() does).
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_PROBE_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_PROBE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "base/clock.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/health_monitor.h"
#include "supervisor/core/task_service.h"

namespace gantry {
class Executor;
}

namespace gantry::core {

class ContainerProber final : public Prober {
 public:
  ContainerProber(ExecService& execs, TaskService& tasks, Executor& workers, const Clock& clock)
      : execs_(execs), tasks_(tasks), workers_(workers), clock_(clock), timeouts_(clock, workers) {}

  void Probe(const std::string& ns, const std::string& container, const HealthOptions& options,
             std::function<void(ProbeResult)> done) override;
  void Stop() override;

 private:
  class Run;

  ExecService& execs_;
  TaskService& tasks_;
  Executor& workers_;
  const Clock& clock_;
  Delayed timeouts_;
  absl::Mutex mu_;
  std::vector<std::weak_ptr<Run>> runs_ ABSL_GUARDED_BY(mu_);  // under way, or gone
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_PROBE_H_
