// What containers and pods use, in CRI's messages. Pure.
#ifndef GANTRY_SUPERVISOR_API_CRI_STATS_H_
#define GANTRY_SUPERVISOR_API_CRI_STATS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/cri/v1/metrics.pb.h"
#include "proto/cri/v1/stats.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/api/cri/translate.h"
#include "supervisor/core/cgroup_use.h"
#include "supervisor/core/pod_figures.h"
#include "supervisor/core/pod_service.h"

namespace gantry::api::cri {

// One look at a container. What is not known is absent.
struct ContainerSample {
  ContainerNow container;
  std::optional<shim::v1::StatsResponse> stats;
  std::optional<uint64_t> nano_cores;  // since an earlier look
  std::optional<core::DiskUse> disk;
  std::optional<core::ProcessUse> processes;
  core::Pressures pressures;
  std::string disk_path;  // where the container's files are
};

// One look at the control group that a pod's containers are in.
struct PodSample {
  core::CgroupUse use;
  std::optional<uint64_t> nano_cores;  // since an earlier look
};

// A limit above it is the kernel's word for none.
inline constexpr uint64_t kNoLimit = uint64_t{1} << 62;

int64_t ReadAtNanos(const shim::v1::StatsResponse& stats);

wire::ContainerStats ToStats(const ContainerSample& sample);
// Without `own`, of a pod whose client names no group for it, its numbers are the sums of its
// containers'.
wire::PodSandboxStats ToPodStats(const core::Pod& pod, const std::vector<ContainerSample>& samples,
                                 const std::optional<PodSample>& own);

// What ToMetrics() answers with; the label keys are in the order of its label values.
std::vector<wire::MetricDescriptor> MetricDescriptors();
wire::PodSandboxMetrics ToMetrics(const core::Pod& pod,
                                  const std::vector<ContainerSample>& samples);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_STATS_H_
