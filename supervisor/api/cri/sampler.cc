#include "supervisor/api/cri/sampler.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"

#include "base/status_macros.h"
#include "supervisor/api/cri/container_now.h"
#include "supervisor/core/cgroup_use.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_figures.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/task_service.h"

namespace gantry::api::cri {
namespace {

constexpr size_t kMostLooks = 16384;
// Two looks that are closer than this say nothing of a rate.
constexpr int64_t kShortestNanos = 100 * 1000 * 1000;

}  // namespace

std::optional<uint64_t> Sampler::Rate(const std::string& id, int64_t at, uint64_t cpu_nanos) {
  absl::MutexLock lock(&mu_);
  if (looks_.size() >= kMostLooks) looks_.clear();
  Look& look = looks_[id];
  const int64_t passed = at - look.at_nanos;
  if (look.at_nanos != 0 && passed < kShortestNanos) return look.nano_cores;
  if (look.at_nanos != 0 && cpu_nanos >= look.cpu_nanos) {
    const double used = static_cast<double>(cpu_nanos - look.cpu_nanos);
    look.nano_cores = static_cast<uint64_t>(used * 1e9 / static_cast<double>(passed));
  }
  look.at_nanos = at;
  look.cpu_nanos = cpu_nanos;
  return look.nano_cores;
}

std::vector<ContainerSample> Sampler::Sample(const core::CallContext& context,
                                             std::vector<ContainerNow> containers) {
  std::vector<std::string> ids;
  for (const ContainerNow& one : containers) ids.push_back(one.loaded.id());
  std::vector<absl::StatusOr<shim::v1::StatsResponse>> stats =
      parts_.tasks->view().Stats(context, ids);
  std::vector<ContainerSample> out;
  for (size_t i = 0; i < containers.size(); ++i) {
    ContainerSample& sample = out.emplace_back();
    sample.container = std::move(containers[i]);
    sample.disk_path = parts_.root_directory;
    if (stats[i].ok()) {
      sample.nano_cores = Rate(ids[i], ReadAtNanos(*stats[i]), stats[i]->cpu_usage_nanos());
      const std::optional<core::Process>& task = sample.container.task;
      if (task.has_value() && task->pid > 0) sample.pressures = core::ReadPressures(task->pid);
      sample.stats = *std::move(stats[i]);
    }
    const absl::StatusOr<core::DiskUse> disk =
        parts_.pod_figures->DiskUseOf(context, sample.container.loaded);
    if (disk.ok()) sample.disk = *disk;
  }
  return out;
}

std::optional<PodSample> Sampler::Sample(const core::Pod& pod) {
  if (pod.config->cgroup_parent().empty()) return std::nullopt;
  std::optional<core::CgroupUse> use = core::ReadCgroupUse(pod.config->cgroup_parent());
  if (!use.has_value()) return std::nullopt;
  PodSample sample;
  if (use->cpu_nanos.has_value())
    sample.nano_cores = Rate(pod.id, absl::ToUnixNanos(use->at), *use->cpu_nanos);
  sample.use = *std::move(use);
  return sample;
}

void Sampler::CountProcesses(const core::CallContext& context,
                             std::vector<ContainerSample>& samples) {
  for (ContainerSample& sample : samples) {
    const absl::StatusOr<core::ProcessUse> use =
        parts_.pod_figures->ProcessUseOf(context, sample.container.loaded.id());
    if (use.ok()) sample.processes = *use;
  }
}

absl::StatusOr<std::vector<ContainerSample>> Sampler::Samples(
    const core::CallContext& in, const wire::ContainerStatsFilter& filter) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<core::LoadedContainer> all, parts_.pod_containers->List(in));
  std::vector<ContainerNow> wanted;
  for (core::LoadedContainer& loaded : all) {
    if (!absl::StartsWith(loaded.id(), filter.id())) continue;
    if (!absl::StartsWith(loaded.record.sandbox(), filter.pod_sandbox_id())) continue;
    ContainerNow now = WithTask(*parts_.tasks, std::move(loaded));
    if (StateOf(now) == wire::CONTAINER_EXITED) continue;
    if (LabelsFit(now.config.labels(), filter.label_selector())) wanted.push_back(std::move(now));
  }
  return Sample(in, std::move(wanted));
}

absl::StatusOr<std::vector<ContainerSample>> Sampler::SamplesOf(const core::CallContext& in,
                                                                const core::Pod& pod) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<core::LoadedContainer> all,
                          parts_.pod_containers->List(in, pod.id));
  std::vector<ContainerNow> running;
  for (core::LoadedContainer& loaded : all) {
    ContainerNow now = WithTask(*parts_.tasks, std::move(loaded));
    if (StateOf(now) == wire::CONTAINER_RUNNING) running.push_back(std::move(now));
  }
  return Sample(in, std::move(running));
}

absl::StatusOr<std::vector<wire::PodSandboxStats>> Sampler::PodStats(
    const core::CallContext& in, const wire::PodSandboxStatsFilter& filter) {
  std::vector<wire::PodSandboxStats> out;
  for (const core::Pod& pod : parts_.pods->List(in)) {
    if (!pod.ready || !absl::StartsWith(pod.id, filter.id())) continue;
    if (!LabelsFit(pod.config->labels(), filter.label_selector())) continue;
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ContainerSample> samples, SamplesOf(in, pod));
    out.push_back(ToPodStats(pod, samples, Sample(pod)));
  }
  return out;
}

absl::StatusOr<std::vector<wire::PodSandboxMetrics>> Sampler::PodMetrics(
    const core::CallContext& in) {
  std::vector<wire::PodSandboxMetrics> out;
  for (const core::Pod& pod : parts_.pods->List(in)) {
    if (!pod.ready) continue;
    GANTRY_ASSIGN_OR_RETURN(std::vector<ContainerSample> samples, SamplesOf(in, pod));
    CountProcesses(in, samples);
    out.push_back(ToMetrics(pod, samples));
  }
  return out;
}

}  // namespace gantry::api::cri
