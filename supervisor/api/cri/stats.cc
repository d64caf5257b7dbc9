#include "supervisor/api/cri/stats.h"

#include <algorithm>

#include "absl/time/clock.h"

namespace gantry::api::cri {
namespace {

// Limits above this are none: v1 says so by a number of pages.
constexpr char kDefaultInterface[] = "eth0";

uint64_t Counter(const shim::v1::StatsResponse& stats, const char* v2, const char* v1) {
  const auto found = stats.memory_stat().find(stats.cgroup_v2() ? v2 : v1);
  return found == stats.memory_stat().end() ? 0 : found->second;
}

uint64_t WorkingSet(const shim::v1::StatsResponse& stats) {
  const uint64_t inactive = Counter(stats, "inactive_file", "total_inactive_file");
  return stats.memory_usage_bytes() - std::min(stats.memory_usage_bytes(), inactive);
}

void FillMemory(const shim::v1::StatsResponse& stats, wire::MemoryUsage& out) {
  out.set_timestamp(ReadAtNanos(stats));
  const uint64_t working_set = WorkingSet(stats);
  out.mutable_working_set_bytes()->set_value(working_set);
  const uint64_t limit = stats.memory_limit_bytes();
  out.mutable_available_bytes()->set_value(
      limit == 0 || limit > kNoLimit ? 0 : limit - std::min(limit, working_set));
  out.mutable_usage_bytes()->set_value(stats.memory_usage_bytes());
  out.mutable_rss_bytes()->set_value(Counter(stats, "anon", "total_rss"));
  out.mutable_page_faults()->set_value(Counter(stats, "pgfault", "total_pgfault"));
  out.mutable_major_page_faults()->set_value(Counter(stats, "pgmajfault", "total_pgmajfault"));
}

void FillWait(const core::Pressure::Wait& in, wire::PsiData& out) {
  out.set_total(in.total_nanos);
  out.set_avg10(in.share_10);
  out.set_avg60(in.share_60);
  out.set_avg300(in.share_300);
}

wire::PsiStats ToPsi(const core::Pressure& in) {
  wire::PsiStats out;
  FillWait(in.some, *out.mutable_some());
  FillWait(in.full, *out.mutable_full());
  return out;
}

// Of what the kernel tells, into the statistics of a container or a pod.
template <class Stats>
void FillPressures(const core::Pressures& in, int64_t at, Stats& out) {
  if (in.cpu.has_value()) *out.mutable_cpu()->mutable_psi() = ToPsi(*in.cpu);
  if (in.memory.has_value()) *out.mutable_memory()->mutable_psi() = ToPsi(*in.memory);
  if (!in.io.has_value()) return;
  out.mutable_io()->set_timestamp(at);
  *out.mutable_io()->mutable_psi() = ToPsi(*in.io);
}

// A pod's own group, with all that was ever in it.
void FillOwn(const PodSample& own, wire::LinuxPodSandboxStats& out) {
  const core::CgroupUse& use = own.use;
  const int64_t at = absl::ToUnixNanos(use.at);
  const auto counter = [&use](const char* v2, const char* v1) {
    const auto found = use.memory_stat.find(use.v2 ? v2 : v1);
    return found == use.memory_stat.end() ? 0 : found->second;
  };
  if (use.cpu_nanos.has_value()) {
    wire::CpuUsage& cpu = *out.mutable_cpu();
    cpu.Clear();
    cpu.set_timestamp(at);
    cpu.mutable_usage_core_nano_seconds()->set_value(*use.cpu_nanos);
    if (own.nano_cores.has_value()) cpu.mutable_usage_nano_cores()->set_value(*own.nano_cores);
  }
  if (use.memory_bytes.has_value()) {
    wire::MemoryUsage& memory = *out.mutable_memory();
    memory.Clear();
    memory.set_timestamp(at);
    const uint64_t usage = *use.memory_bytes;
    const uint64_t working_set =
        usage - std::min(usage, counter("inactive_file", "total_inactive_file"));
    const uint64_t limit = use.memory_limit_bytes;
    memory.mutable_usage_bytes()->set_value(usage);
    memory.mutable_working_set_bytes()->set_value(working_set);
    memory.mutable_available_bytes()->set_value(
        limit > kNoLimit ? 0 : limit - std::min(limit, working_set));
    memory.mutable_rss_bytes()->set_value(counter("anon", "total_rss"));
    memory.mutable_page_faults()->set_value(counter("pgfault", "total_pgfault"));
    memory.mutable_major_page_faults()->set_value(counter("pgmajfault", "total_pgmajfault"));
  }
  if (use.tasks.has_value()) {
    out.mutable_process()->set_timestamp(at);
    out.mutable_process()->mutable_process_count()->set_value(*use.tasks);
  }
  FillPressures(use.pressures, at, out);
}

void Add(const wire::UInt64Value& from, wire::UInt64Value* to) {
  to->set_value(to->value() + from.value());
}

void FillInterface(const shim::v1::StatsResponse::Network& in, wire::NetworkInterfaceUsage& out) {
  out.set_name(in.name());
  out.mutable_rx_bytes()->set_value(in.rx_bytes());
  out.mutable_rx_errors()->set_value(in.rx_errors());
  out.mutable_tx_bytes()->set_value(in.tx_bytes());
  out.mutable_tx_errors()->set_value(in.tx_errors());
}

}  // namespace

int64_t ReadAtNanos(const shim::v1::StatsResponse& stats) {
  return stats.read_at().seconds() * 1000000000 + stats.read_at().nanos();
}

wire::ContainerStats ToStats(const ContainerSample& sample) {
  wire::ContainerStats out;
  wire::ContainerAttributes& attributes = *out.mutable_attributes();
  attributes.set_id(sample.container.loaded.id());
  *attributes.mutable_metadata() = sample.container.config.metadata();
  *attributes.mutable_labels() = sample.container.config.labels();
  *attributes.mutable_annotations() = sample.container.config.annotations();
  if (sample.stats.has_value()) {
    const shim::v1::StatsResponse& stats = *sample.stats;
    out.mutable_cpu()->set_timestamp(ReadAtNanos(stats));
    out.mutable_cpu()->mutable_usage_core_nano_seconds()->set_value(stats.cpu_usage_nanos());
    if (sample.nano_cores.has_value())
      out.mutable_cpu()->mutable_usage_nano_cores()->set_value(*sample.nano_cores);
    FillMemory(stats, *out.mutable_memory());
    wire::SwapUsage& swap = *out.mutable_swap();
    swap.set_timestamp(ReadAtNanos(stats));
    swap.mutable_swap_usage_bytes()->set_value(stats.swap_usage_bytes());
    const uint64_t limit = stats.swap_limit_bytes();
    swap.mutable_swap_available_bytes()->set_value(
        limit > kNoLimit ? 0 : limit - std::min(limit, stats.swap_usage_bytes()));
    FillPressures(sample.pressures, ReadAtNanos(stats), out);
  }
  if (sample.disk.has_value()) {
    wire::FilesystemUsage& layer = *out.mutable_writable_layer();
    layer.set_timestamp(absl::ToUnixNanos(sample.disk->at));
    layer.mutable_fs_id()->set_mountpoint(sample.disk_path);
    layer.mutable_used_bytes()->set_value(static_cast<uint64_t>(sample.disk->bytes));
    layer.mutable_inodes_used()->set_value(static_cast<uint64_t>(sample.disk->inodes));
  }
  return out;
}

wire::PodSandboxStats ToPodStats(const core::Pod& pod, const std::vector<ContainerSample>& samples,
                                 const std::optional<PodSample>& own) {
  wire::PodSandboxStats out;
  const wire::PodSandboxStatus status = ToSandboxStatus(pod);
  wire::PodSandboxAttributes& attributes = *out.mutable_attributes();
  attributes.set_id(pod.id);
  *attributes.mutable_metadata() = status.metadata();
  *attributes.mutable_labels() = status.labels();
  *attributes.mutable_annotations() = status.annotations();

  wire::LinuxPodSandboxStats& sums = *out.mutable_linux();
  const int64_t now = absl::ToUnixNanos(absl::Now());
  sums.mutable_cpu()->set_timestamp(now);
  sums.mutable_memory()->set_timestamp(now);
  sums.mutable_process()->set_timestamp(now);
  uint64_t processes = 0;
  bool network = false;
  for (const ContainerSample& sample : samples) {
    const wire::ContainerStats one = ToStats(sample);
    *sums.add_containers() = one;
    if (!sample.stats.has_value()) continue;
    wire::CpuUsage& cpu = *sums.mutable_cpu();
    Add(one.cpu().usage_core_nano_seconds(), cpu.mutable_usage_core_nano_seconds());
    if (one.cpu().has_usage_nano_cores())
      Add(one.cpu().usage_nano_cores(), cpu.mutable_usage_nano_cores());
    wire::MemoryUsage& memory = *sums.mutable_memory();
    Add(one.memory().working_set_bytes(), memory.mutable_working_set_bytes());
    Add(one.memory().available_bytes(), memory.mutable_available_bytes());
    Add(one.memory().usage_bytes(), memory.mutable_usage_bytes());
    Add(one.memory().rss_bytes(), memory.mutable_rss_bytes());
    Add(one.memory().page_faults(), memory.mutable_page_faults());
    Add(one.memory().major_page_faults(), memory.mutable_major_page_faults());
    processes += sample.stats->pids_current();
    if (network || pod.config->host_network()) continue;
    // All of them have the pod's.
    network = true;
    sums.mutable_network()->set_timestamp(ReadAtNanos(*sample.stats));
    for (const shim::v1::StatsResponse::Network& device : sample.stats->networks()) {
      if (device.name() == "lo") continue;
      if (device.name() == kDefaultInterface) {
        FillInterface(device, *sums.mutable_network()->mutable_default_interface());
      } else {
        FillInterface(device, *sums.mutable_network()->add_interfaces());
      }
    }
  }
  sums.mutable_process()->mutable_process_count()->set_value(processes);
  if (own.has_value()) FillOwn(*own, sums);
  return out;
}

}  // namespace gantry::api::cri
