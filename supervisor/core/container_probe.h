// A health check's probe as one more process of the container. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_PROBE_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_PROBE_H_

#include <functional>
#include <string>

#include "supervisor/core/exec_runner.h"
#include "supervisor/core/health_monitor.h"

namespace gantry::core {

class ContainerProber final : public Prober {
 public:
  // The runner serves this prober alone: Stop() stops it.
  explicit ContainerProber(ExecRunner& runner) : runner_(runner) {}

  void Probe(const std::string& ns, const std::string& container, const HealthOptions& options,
             std::function<void(ProbeResult)> done) override;
  void Stop() override;

 private:
  ExecRunner& runner_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_PROBE_H_
