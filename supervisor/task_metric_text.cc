#include "supervisor/task_metric_text.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gantry {
namespace {

using shim::v1::StatsResponse;

// One family: a number of each task of that cgroup version.
struct Family {
  const char* name;
  const char* help;
  uint64_t (*of)(const StatsResponse&);
};

constexpr Family kBoth[] = {
    {"container_pids_current", "Processes and threads.",
     [](const StatsResponse& s) { return s.pids_current(); }},
    {"container_pids_limit", "Processes and threads that are allowed.",
     [](const StatsResponse& s) { return s.pids_limit(); }},
};

constexpr Family kV1[] = {
    {"container_cpu_total_nanoseconds", "CPU time.",
     [](const StatsResponse& s) { return s.cpu_usage_nanos(); }},
    {"container_cpu_kernel_nanoseconds", "CPU time in the kernel.",
     [](const StatsResponse& s) { return s.cpu_system_nanos(); }},
    {"container_cpu_user_nanoseconds", "CPU time outside the kernel.",
     [](const StatsResponse& s) { return s.cpu_user_nanos(); }},
    {"container_cpu_throttle_periods_total", "Periods in which the limit was enforced.",
     [](const StatsResponse& s) { return s.cpu_periods(); }},
    {"container_cpu_throttled_periods_total", "Periods in which it was reached.",
     [](const StatsResponse& s) { return s.cpu_throttled_periods(); }},
    {"container_cpu_throttled_time_nanoseconds", "Time for which it was held back.",
     [](const StatsResponse& s) { return s.cpu_throttled_nanos(); }},
    {"container_memory_usage_usage_bytes", "Memory, page cache included.",
     [](const StatsResponse& s) { return s.memory_usage_bytes(); }},
    {"container_memory_usage_limit_bytes", "Memory that is allowed.",
     [](const StatsResponse& s) { return s.memory_limit_bytes(); }},
    {"container_memory_usage_max_bytes", "The most memory so far.",
     [](const StatsResponse& s) { return s.memory_max_usage_bytes(); }},
    {"container_memory_usage_failcnt_total", "Times the limit was reached.",
     [](const StatsResponse& s) { return s.memory_failcnt(); }},
    {"container_memory_swap_usage_bytes", "Memory and swap.",
     [](const StatsResponse& s) { return s.swap_usage_bytes(); }},
    {"container_memory_swap_limit_bytes", "Memory and swap that are allowed.",
     [](const StatsResponse& s) { return s.swap_limit_bytes(); }},
};

constexpr Family kV2[] = {
    {"container_cpu_usage_usec_microseconds", "CPU time.",
     [](const StatsResponse& s) { return s.cpu_usage_nanos() / 1000; }},
    {"container_cpu_user_usec_microseconds", "CPU time outside the kernel.",
     [](const StatsResponse& s) { return s.cpu_user_nanos() / 1000; }},
    {"container_cpu_system_usec_microseconds", "CPU time in the kernel.",
     [](const StatsResponse& s) { return s.cpu_system_nanos() / 1000; }},
    {"container_cpu_nr_periods_total", "Periods in which the limit was enforced.",
     [](const StatsResponse& s) { return s.cpu_periods(); }},
    {"container_cpu_nr_throttled_total", "Periods in which it was reached.",
     [](const StatsResponse& s) { return s.cpu_throttled_periods(); }},
    {"container_cpu_throttled_usec_microseconds", "Time for which it was held back.",
     [](const StatsResponse& s) { return s.cpu_throttled_nanos() / 1000; }},
    {"container_memory_usage_bytes", "Memory, page cache included.",
     [](const StatsResponse& s) { return s.memory_usage_bytes(); }},
    {"container_memory_usage_limit_bytes", "Memory that is allowed.",
     [](const StatsResponse& s) { return s.memory_limit_bytes(); }},
    {"container_memory_swap_usage_bytes", "Swap.",
     [](const StatsResponse& s) { return s.swap_usage_bytes(); }},
    {"container_memory_swap_limit_bytes", "Swap that is allowed.",
     [](const StatsResponse& s) { return s.swap_limit_bytes(); }},
    {"container_memory_oom_total", "Times the limit could not be kept.",
     [](const StatsResponse& s) {
       const auto it = s.memory_events().find("oom");
       return it == s.memory_events().end() ? 0 : it->second;
     }},
};

// Counters of memory.stat, by the kernel's name; containerd puts "container_memory_" before it and
// calls all of them bytes.
constexpr const char* kStatsV1[] = {
    "cache",
    "rss",
    "rss_huge",
    "mapped_file",
    "dirty",
    "writeback",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "total_rss",
    "total_cache",
    "inactive_anon",
    "active_anon",
    "total_dirty",
    "inactive_file",
    "active_file",
    "unevictable",
    "total_inactive_file",
    "total_active_file",
    "total_mapped_file",
};
constexpr const char* kStatsV2[] = {
    "anon",        "file",        "kernel_stack",   "slab",          "sock",        "shmem",
    "file_mapped", "file_dirty",  "file_writeback", "inactive_anon", "active_anon", "inactive_file",
    "active_file", "unevictable", "pgfault",        "pgmajfault",    "pgscan",      "pgsteal",
};

struct BlockFamily {
  const char* name;
  const char* help;
  uint64_t (*of)(const StatsResponse::BlockIo&);
};
constexpr BlockFamily kBlocksV2[] = {
    {"container_io_rbytes_bytes", "Bytes read.",
     [](const StatsResponse::BlockIo& io) { return io.read_bytes(); }},
    {"container_io_wbytes_bytes", "Bytes written.",
     [](const StatsResponse::BlockIo& io) { return io.write_bytes(); }},
    {"container_io_rios_total", "Reads.",
     [](const StatsResponse::BlockIo& io) { return io.read_ops(); }},
    {"container_io_wios_total", "Writes.",
     [](const StatsResponse::BlockIo& io) { return io.write_ops(); }},
};

using Tasks = std::vector<const TaskStats*>;

void WriteFamily(const Family& family, const Tasks& tasks, api::MetricText& out) {
  if (tasks.empty()) return;
  out.Family(family.name, "gauge", family.help);
  for (const TaskStats* task : tasks) {
    out.Sample(family.name, {{"container_id", task->id}, {"namespace", task->ns}},
               static_cast<double>(family.of(task->stats)));
  }
}

void WriteMemoryStat(const std::string& counter, const Tasks& tasks, api::MetricText& out) {
  const std::string name = absl::StrCat("container_memory_", counter, "_bytes");
  bool first = true;
  for (const TaskStats* task : tasks) {
    const auto it = task->stats.memory_stat().find(counter);
    if (it == task->stats.memory_stat().end()) continue;
    if (first) out.Family(name, "gauge", absl::StrCat("Of memory.stat: ", counter, "."));
    first = false;
    out.Sample(name, {{"container_id", task->id}, {"namespace", task->ns}},
               static_cast<double>(it->second));
  }
}

void WriteBlocks(const BlockFamily& family, const Tasks& tasks, api::MetricText& out) {
  bool first = true;
  for (const TaskStats* task : tasks) {
    for (const StatsResponse::BlockIo& io : task->stats.block_io()) {
      if (first) out.Family(family.name, "gauge", family.help);
      first = false;
      const std::string major = absl::StrCat(io.major()), minor = absl::StrCat(io.minor());
      out.Sample(
          family.name,
          {{"container_id", task->id}, {"namespace", task->ns}, {"major", major}, {"minor", minor}},
          static_cast<double>(family.of(io)));
    }
  }
}

// Reads and writes of a device are one family here, told apart by a label.
void WriteBlocksV1(const char* name, const char* help,
                   std::pair<uint64_t, uint64_t> (*of)(const StatsResponse::BlockIo&),
                   const Tasks& tasks, api::MetricText& out) {
  bool first = true;
  for (const TaskStats* task : tasks) {
    for (const StatsResponse::BlockIo& io : task->stats.block_io()) {
      if (first) out.Family(name, "gauge", help);
      first = false;
      const std::string major = absl::StrCat(io.major()), minor = absl::StrCat(io.minor());
      const std::pair<uint64_t, uint64_t> values = of(io);
      for (const bool write : {false, true}) {
        out.Sample(name,
                   {{"container_id", task->id},
                    {"namespace", task->ns},
                    {"op", write ? "Write" : "Read"},
                    {"device", ""},
                    {"major", major},
                    {"minor", minor}},
                   static_cast<double>(write ? values.second : values.first));
      }
    }
  }
}

}  // namespace

void WriteTaskStats(const std::vector<TaskStats>& tasks, api::MetricText& out) {
  Tasks all, v1, v2;
  for (const TaskStats& task : tasks) {
    all.push_back(&task);
    (task.stats.cgroup_v2() ? v2 : v1).push_back(&task);
  }
  for (const Family& family : kBoth) WriteFamily(family, all, out);
  // A host has one version of both; where names are the same in both, there is no second family of
  // that name.
  if (!v1.empty()) {
    for (const Family& family : kV1) WriteFamily(family, v1, out);
    for (const char* counter : kStatsV1) WriteMemoryStat(counter, v1, out);
    WriteBlocksV1(
        "container_blkio_io_service_bytes_recursive_bytes", "Bytes read and written.",
        [](const StatsResponse::BlockIo& io) {
          return std::pair(io.read_bytes(), io.write_bytes());
        },
        v1, out);
    WriteBlocksV1(
        "container_blkio_io_serviced_recursive_total", "Reads and writes.",
        [](const StatsResponse::BlockIo& io) { return std::pair(io.read_ops(), io.write_ops()); },
        v1, out);
  } else {
    for (const Family& family : kV2) WriteFamily(family, v2, out);
    for (const char* counter : kStatsV2) WriteMemoryStat(counter, v2, out);
    for (const BlockFamily& family : kBlocksV2) WriteBlocks(family, v2, out);
  }
}

}  // namespace gantry
