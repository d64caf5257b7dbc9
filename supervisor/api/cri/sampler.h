// Looks at what containers use, and remembers the last look at each, for rates.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_CRI_SAMPLER_H_
#define GANTRY_SUPERVISOR_API_CRI_SAMPLER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "supervisor/api/cri/cri_door.h"
#include "supervisor/api/cri/stats.h"
#include "supervisor/core/call_context.h"

namespace gantry::api::cri {

class Sampler {
 public:
  explicit Sampler(const CriParts& parts) : parts_(parts) {}

  // A container whose shim does not answer is there without numbers.
  std::vector<ContainerSample> Sample(const core::CallContext& context,
                                      std::vector<ContainerNow> containers);
  // Of the pod's own control group; nothing if its client names none.
  std::optional<PodSample> Sample(const core::Pod& pod);
  // Fills in `processes`, which takes a walk through /proc.
  void CountProcesses(const core::CallContext& context, std::vector<ContainerSample>& samples);

  // Of all containers that have not ended and that the filter selects.
  absl::StatusOr<std::vector<ContainerSample>> Samples(const core::CallContext& in,
                                                       const wire::ContainerStatsFilter& filter);
  // Of the pod's running containers.
  absl::StatusOr<std::vector<ContainerSample>> SamplesOf(const core::CallContext& in,
                                                         const core::Pod& pod);
  // Of all pods that are ready, with their containers.
  absl::StatusOr<std::vector<wire::PodSandboxStats>> PodStats(
      const core::CallContext& in, const wire::PodSandboxStatsFilter& filter);
  absl::StatusOr<std::vector<wire::PodSandboxMetrics>> PodMetrics(const core::CallContext& in);

 private:
  struct Look {
    int64_t at_nanos = 0;
    uint64_t cpu_nanos = 0;
    std::optional<uint64_t> nano_cores;
  };
  // Of CPU time `cpu_nanos` at the time `at_nanos`.
  std::optional<uint64_t> Rate(const std::string& id, int64_t at_nanos, uint64_t cpu_nanos);

  const CriParts parts_;
  absl::Mutex mu_;
  std::map<std::string, Look> looks_ ABSL_GUARDED_BY(mu_);  // by container or pod
};

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_SAMPLER_H_
