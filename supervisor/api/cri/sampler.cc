#include "supervisor/api/cri/sampler.h"

#include <utility>

#include "absl/status/statusor.h"

#include "supervisor/core/pod_service.h"
#include "supervisor/core/task_service.h"

namespace gantry::api::cri {
namespace {

constexpr size_t kMostLooks = 16384;
// Two looks that are closer than this say nothing of a rate.
constexpr int64_t kShortestNanos = 100 * 1000 * 1000;

}  // namespace

std::optional<uint64_t> Sampler::Rate(const std::string& id, const shim::v1::StatsResponse& stats) {
  const int64_t at = ReadAtNanos(stats);
  absl::MutexLock lock(&mu_);
  if (looks_.size() >= kMostLooks) looks_.clear();
  Look& look = looks_[id];
  const int64_t passed = at - look.at_nanos;
  if (look.at_nanos != 0 && passed < kShortestNanos) return look.nano_cores;
  if (look.at_nanos != 0 && stats.cpu_usage_nanos() >= look.cpu_nanos) {
    const double used = static_cast<double>(stats.cpu_usage_nanos() - look.cpu_nanos);
    look.nano_cores = static_cast<uint64_t>(used * 1e9 / static_cast<double>(passed));
  }
  look.at_nanos = at;
  look.cpu_nanos = stats.cpu_usage_nanos();
  return look.nano_cores;
}

std::vector<ContainerSample> Sampler::Sample(const core::CallContext& context,
                                             std::vector<ContainerNow> containers) {
  std::vector<std::string> ids;
  for (const ContainerNow& one : containers) ids.push_back(one.loaded.id());
  std::vector<absl::StatusOr<shim::v1::StatsResponse>> stats = parts_.tasks->Stats(context, ids);
  std::vector<ContainerSample> out;
  for (size_t i = 0; i < containers.size(); ++i) {
    ContainerSample& sample = out.emplace_back();
    sample.container = std::move(containers[i]);
    sample.disk_path = parts_.root_directory;
    if (stats[i].ok()) {
      sample.nano_cores = Rate(ids[i], *stats[i]);
      sample.stats = *std::move(stats[i]);
    }
    const absl::StatusOr<core::DiskUse> disk =
        parts_.pods->DiskUseOf(context, sample.container.loaded);
    if (disk.ok()) sample.disk = *disk;
  }
  return out;
}

void Sampler::CountProcesses(const core::CallContext& context,
                             std::vector<ContainerSample>& samples) {
  for (ContainerSample& sample : samples) {
    const absl::StatusOr<core::ProcessUse> use =
        parts_.pods->ProcessUseOf(context, sample.container.loaded.id());
    if (use.ok()) sample.processes = *use;
  }
}

}  // namespace gantry::api::cri
