// Metrics of pods: what the kubelet's own collector would read from the same files.
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "supervisor/api/cri/stats.h"

namespace gantry::api::cri {
namespace {

using Values = std::vector<std::pair<std::string, uint64_t>>;  // by the extra label

// Of containers; `extra` is a label key beside the usual ones, "" for none.
struct Row {
  const char* name;
  const char* help;
  wire::MetricType type;
  const char* extra;
  Values (*values)(const ContainerSample&);
};

constexpr const char* kLabels[] = {"pod", "namespace", "container", "id", "image"};
constexpr uint64_t kNanos = 1000000000;
constexpr uint64_t kCpuPeriod = 100000;

Values One(uint64_t value) { return {{"", value}}; }
const shim::v1::StatsResponse& Stats(const ContainerSample& sample) {
  static const shim::v1::StatsResponse none;
  return sample.stats.has_value() ? *sample.stats : none;
}
uint64_t Memory(const ContainerSample& sample, const char* v2, const char* v1) {
  const auto& all = Stats(sample).memory_stat();
  const auto found = all.find(Stats(sample).cgroup_v2() ? v2 : v1);
  return found == all.end() ? 0 : found->second;
}
uint64_t Limit(uint64_t value) { return value > kNoLimit ? 0 : value; }
core::ProcessUse Processes(const ContainerSample& sample) {
  return sample.processes.value_or(core::ProcessUse());
}
core::DiskUse Disk(const ContainerSample& sample) { return sample.disk.value_or(core::DiskUse()); }
const wire::LinuxContainerResources& Resources(const ContainerSample& sample) {
  return sample.container.config.linux().resources();
}
template <class Get>
Values ByDevice(const ContainerSample& sample, Get get) {
  Values out;
  for (const auto& one : Stats(sample).block_io())
    out.emplace_back(absl::StrCat(one.major(), ":", one.minor()), get(one));
  return out;
}

#define GANTRY_ROW(name, help, type, value)                                             \
  {                                                                                     \
    name, help, type, "", [](const ContainerSample& s) -> Values { return One(value); } \
  }
#define GANTRY_DISK_ROW(name, help, value)                                                  \
  {                                                                                         \
    name, help, wire::COUNTER, "device", [](const ContainerSample& s) -> Values {           \
      return ByDevice(s, [](const shim::v1::StatsResponse::BlockIo& io) { return value; }); \
    }                                                                                       \
  }

// Missing where the kernel does not tell it.
#define GANTRY_PRESSURE_ROW(name, help, resource, wait)                                  \
  {                                                                                      \
    name, help, wire::COUNTER, "", [](const ContainerSample& s) -> Values {              \
      const std::optional<core::Pressure>& pressure = s.pressures.resource;              \
      return pressure.has_value() ? One(pressure->wait.total_nanos / kNanos) : Values(); \
    }                                                                                    \
  }

const Row kRows[] = {
    GANTRY_DISK_ROW("container_blkio_device_usage_total", "Bytes moved to and from a device",
                    io.read_bytes() + io.write_bytes()),
    GANTRY_ROW("container_cpu_cfs_periods_total", "Periods of the CPU limit that have passed",
               wire::COUNTER, Stats(s).cpu_periods()),
    GANTRY_ROW("container_cpu_cfs_throttled_periods_total",
               "Periods in which the CPU limit held the container up", wire::COUNTER,
               Stats(s).cpu_throttled_periods()),
    GANTRY_ROW("container_cpu_cfs_throttled_seconds_total",
               "Time for which the CPU limit held the container up", wire::COUNTER,
               Stats(s).cpu_throttled_nanos() / kNanos),
    GANTRY_ROW("container_cpu_system_seconds_total", "CPU time in the kernel", wire::COUNTER,
               Stats(s).cpu_system_nanos() / kNanos),
    GANTRY_ROW("container_cpu_usage_seconds_total", "CPU time", wire::COUNTER,
               Stats(s).cpu_usage_nanos() / kNanos),
    GANTRY_ROW("container_cpu_user_seconds_total", "CPU time outside the kernel", wire::COUNTER,
               Stats(s).cpu_user_nanos() / kNanos),
    GANTRY_ROW("container_file_descriptors", "Open file descriptors", wire::GAUGE,
               Processes(s).files),
    GANTRY_ROW("container_fs_inodes_free", "Free inodes; unknown", wire::GAUGE, 0),
    GANTRY_ROW("container_fs_inodes_total", "Inodes of the container's layer", wire::GAUGE,
               static_cast<uint64_t>(Disk(s).inodes)),
    GANTRY_ROW("container_fs_limit_bytes", "Limit of the container's layer; 0: none", wire::GAUGE,
               0),
    GANTRY_DISK_ROW("container_fs_reads_bytes_total", "Bytes read", io.read_bytes()),
    GANTRY_DISK_ROW("container_fs_reads_total", "Reads", io.read_ops()),
    GANTRY_ROW("container_fs_usage_bytes", "Size of the container's layer", wire::GAUGE,
               static_cast<uint64_t>(Disk(s).bytes)),
    GANTRY_DISK_ROW("container_fs_writes_bytes_total", "Bytes written", io.write_bytes()),
    GANTRY_DISK_ROW("container_fs_writes_total", "Writes", io.write_ops()),
    {"container_hugetlb_max_usage_bytes", "Most huge pages so far, by their size", wire::GAUGE,
     "pagesize",
     [](const ContainerSample& s) -> Values {
       Values out;
       // What version 2 has by that name is the limit.
       if (Stats(s).cgroup_v2()) return out;
       for (const auto& one : Stats(s).hugetlb())
         out.emplace_back(one.page_size(), one.max_bytes());
       return out;
     }},
    {"container_hugetlb_usage_bytes", "Huge pages, by their size", wire::GAUGE, "pagesize",
     [](const ContainerSample& s) -> Values {
       Values out;
       for (const auto& one : Stats(s).hugetlb())
         out.emplace_back(one.page_size(), one.usage_bytes());
       return out;
     }},
    GANTRY_ROW("container_last_seen", "When these numbers were read", wire::GAUGE,
               static_cast<uint64_t>(absl::ToUnixSeconds(absl::Now()))),
    GANTRY_ROW("container_memory_cache", "Page cache", wire::GAUGE,
               Memory(s, "file", "total_cache")),
    GANTRY_ROW("container_memory_failcnt", "How often the limit was hit", wire::COUNTER,
               Stats(s).memory_failcnt()),
    {"container_memory_failures_total", "Page faults", wire::COUNTER, "failure_type",
     [](const ContainerSample& s) -> Values {
       return {{"pgfault", Memory(s, "pgfault", "total_pgfault")},
               {"pgmajfault", Memory(s, "pgmajfault", "total_pgmajfault")}};
     }},
    GANTRY_ROW("container_memory_kernel_usage", "Memory of the kernel", wire::GAUGE,
               Memory(s, "kernel", "kernel")),
    GANTRY_ROW("container_memory_mapped_file", "Mapped files", wire::GAUGE,
               Memory(s, "file_mapped", "total_mapped_file")),
    GANTRY_ROW("container_memory_max_usage_bytes", "Most memory so far", wire::GAUGE,
               Stats(s).memory_max_usage_bytes()),
    GANTRY_ROW("container_memory_rss", "Anonymous memory", wire::GAUGE,
               Memory(s, "anon", "total_rss")),
    GANTRY_ROW("container_memory_swap", "Swap", wire::GAUGE, Stats(s).swap_usage_bytes()),
    GANTRY_ROW("container_memory_usage_bytes", "Memory, page cache included", wire::GAUGE,
               Stats(s).memory_usage_bytes()),
    GANTRY_ROW("container_memory_working_set_bytes", "Memory without inactive file pages",
               wire::GAUGE, ToStats(s).memory().working_set_bytes().value()),
    GANTRY_ROW("container_oom_events_total", "Processes killed for lack of memory", wire::COUNTER,
               Stats(s).oom_kills()),
    GANTRY_PRESSURE_ROW("container_pressure_cpu_stalled_seconds_total",
                        "Time in which all processes waited for a CPU", cpu, full),
    GANTRY_PRESSURE_ROW("container_pressure_cpu_waiting_seconds_total",
                        "Time in which some process waited for a CPU", cpu, some),
    GANTRY_PRESSURE_ROW("container_pressure_io_stalled_seconds_total",
                        "Time in which all processes waited for a disk", io, full),
    GANTRY_PRESSURE_ROW("container_pressure_io_waiting_seconds_total",
                        "Time in which some process waited for a disk", io, some),
    GANTRY_PRESSURE_ROW("container_pressure_memory_stalled_seconds_total",
                        "Time in which all processes waited for memory", memory, full),
    GANTRY_PRESSURE_ROW("container_pressure_memory_waiting_seconds_total",
                        "Time in which some process waited for memory", memory, some),
    GANTRY_ROW("container_processes", "Processes", wire::GAUGE, Processes(s).processes),
    GANTRY_ROW("container_sockets", "Open sockets", wire::GAUGE, Processes(s).sockets),
    GANTRY_ROW("container_spec_cpu_period", "Period of the CPU limit in microseconds", wire::GAUGE,
               Resources(s).cpu_period() > 0 ? static_cast<uint64_t>(Resources(s).cpu_period())
                                             : kCpuPeriod),
    {"container_spec_cpu_quota", "CPU time in a period, in microseconds; missing: no limit",
     wire::GAUGE, "",
     [](const ContainerSample& s) -> Values {
       const int64_t quota = Resources(s).cpu_quota();
       return quota > 0 ? One(static_cast<uint64_t>(quota)) : Values();
     }},
    GANTRY_ROW("container_spec_cpu_shares", "CPU shares", wire::GAUGE,
               static_cast<uint64_t>(Resources(s).cpu_shares())),
    GANTRY_ROW("container_spec_memory_limit_bytes", "Memory limit; 0: none", wire::GAUGE,
               static_cast<uint64_t>(Resources(s).memory_limit_in_bytes())),
    GANTRY_ROW("container_spec_memory_reservation_limit_bytes",
               "Memory that is kept for it; CRI has no word for it: 0", wire::GAUGE, 0),
    GANTRY_ROW("container_spec_memory_swap_limit_bytes", "Limit of memory and swap; 0: none",
               wire::GAUGE, Limit(Stats(s).swap_limit_bytes())),
    GANTRY_ROW("container_start_time_seconds", "When it was started", wire::GAUGE,
               static_cast<uint64_t>(ToStatus(s.container, nullptr).started_at()) / kNanos),
    GANTRY_ROW("container_threads", "Threads", wire::GAUGE, Processes(s).threads),
    GANTRY_ROW("container_threads_max", "Limit of processes and threads; 0: none", wire::GAUGE,
               Limit(Stats(s).pids_limit())),
    {"container_ulimits_soft", "Soft limits of the first process", wire::GAUGE, "ulimit",
     [](const ContainerSample& s) -> Values {
       return {{"max_open_files", Processes(s).open_files_limit}};
     }},
};

#undef GANTRY_ROW
#undef GANTRY_DISK_ROW
#undef GANTRY_PRESSURE_ROW

// Of the pod.
struct NetworkRow {
  const char* name;
  const char* help;
  uint64_t (shim::v1::StatsResponse::Network::*value)() const;
};
using Device = shim::v1::StatsResponse::Network;
const NetworkRow kNetworkRows[] = {
    {"container_network_receive_bytes_total", "Bytes received", &Device::rx_bytes},
    {"container_network_receive_errors_total", "Errors while receiving", &Device::rx_errors},
    {"container_network_receive_packets_total", "Packets received", &Device::rx_packets},
    {"container_network_receive_packets_dropped_total", "Packets dropped while receiving",
     &Device::rx_dropped},
    {"container_network_transmit_bytes_total", "Bytes sent", &Device::tx_bytes},
    {"container_network_transmit_errors_total", "Errors while sending", &Device::tx_errors},
    {"container_network_transmit_packets_total", "Packets sent", &Device::tx_packets},
    {"container_network_transmit_packets_dropped_total", "Packets dropped while sending",
     &Device::tx_dropped},
};

wire::Metric NewMetric(const char* name, wire::MetricType type,
                       const std::vector<std::string>& labels, const char* extra,
                       const std::string& extra_value, uint64_t value) {
  wire::Metric out;
  out.set_name(name);
  out.set_timestamp(absl::ToUnixNanos(absl::Now()));
  out.set_metric_type(type);
  for (const std::string& label : labels) out.add_label_values(label);
  if (*extra != '\0') out.add_label_values(extra_value);
  out.mutable_value()->set_value(value);
  return out;
}

}  // namespace

std::vector<wire::MetricDescriptor> MetricDescriptors() {
  std::vector<wire::MetricDescriptor> out;
  const auto add = [&out](const char* name, const char* help, const char* extra) {
    wire::MetricDescriptor& one = out.emplace_back();
    one.set_name(name);
    one.set_help(help);
    for (const char* label : kLabels) one.add_label_keys(label);
    if (*extra != '\0') one.add_label_keys(extra);
  };
  for (const Row& row : kRows) add(row.name, row.help, row.extra);
  for (const NetworkRow& row : kNetworkRows) add(row.name, row.help, "interface");
  return out;
}

wire::PodSandboxMetrics ToMetrics(const core::Pod& pod,
                                  const std::vector<ContainerSample>& samples) {
  wire::PodSandboxMetrics out;
  out.set_pod_sandbox_id(pod.id);
  const std::vector<std::string> of_pod = {pod.config->name(), pod.config->group(), "POD", pod.id,
                                           ""};
  bool network = false;
  for (const ContainerSample& sample : samples) {
    wire::ContainerMetrics& container = *out.add_container_metrics();
    container.set_container_id(sample.container.loaded.id());
    const std::vector<std::string> labels = {
        pod.config->name(), pod.config->group(), sample.container.config.metadata().name(),
        sample.container.loaded.id(), ToContainerItem(sample.container).image().image()};
    for (const Row& row : kRows) {
      for (const auto& [extra, value] : row.values(sample)) {
        *container.add_metrics() = NewMetric(row.name, row.type, labels, row.extra, extra, value);
      }
    }
    if (network || !sample.stats.has_value() || pod.config->host_network()) continue;
    network = true;
    for (const Device& device : sample.stats->networks()) {
      if (device.name() == "lo") continue;
      for (const NetworkRow& row : kNetworkRows) {
        *out.add_metrics() = NewMetric(row.name, wire::COUNTER, of_pod, "interface", device.name(),
                                       (device.*row.value)());
      }
    }
  }
  return out;
}

}  // namespace gantry::api::cri
