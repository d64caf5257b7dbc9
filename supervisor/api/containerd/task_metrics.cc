#include "supervisor/api/containerd/task_metrics.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

#include "proto/containerd/cgroup1/metrics.pb.h"
#include "proto/containerd/cgroup2/metrics.pb.h"
#include "supervisor/api/containerd/wire.h"

namespace gantry::api::containerd_api {
namespace {

namespace v1 = io::containerd::cgroups::v1;
namespace v2 = io::containerd::cgroups::v2;

using Counters = google::protobuf::Map<std::string, uint64_t>;

uint64_t Counter(const Counters& counters, const std::string& name) {
  auto it = counters.find(name);
  return it == counters.end() ? 0 : it->second;
}

// The kernel's counters whose names are those of the message's fields.
void SetByName(const Counters& counters, google::protobuf::Message* out) {
  for (const auto& [name, value] : counters) {
    const google::protobuf::FieldDescriptor* field = out->GetDescriptor()->FindFieldByName(name);
    if (field == nullptr || field->is_repeated() ||
        field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_UINT64)
      continue;
    out->GetReflection()->SetUInt64(out, field, value);
  }
}

template <typename Network>
void SetNetwork(const shim::v1::StatsResponse::Network& from, Network* out) {
  out->set_name(from.name());
  out->set_rx_bytes(from.rx_bytes());
  out->set_rx_packets(from.rx_packets());
  out->set_rx_errors(from.rx_errors());
  out->set_rx_dropped(from.rx_dropped());
  out->set_tx_bytes(from.tx_bytes());
  out->set_tx_packets(from.tx_packets());
  out->set_tx_errors(from.tx_errors());
  out->set_tx_dropped(from.tx_dropped());
}

v2::Metrics Unified(const shim::v1::StatsResponse& stats) {
  v2::Metrics out;
  out.mutable_pids()->set_current(stats.pids_current());
  out.mutable_pids()->set_limit(stats.pids_limit());

  v2::CPUStat* cpu = out.mutable_cpu();
  cpu->set_usage_usec(stats.cpu_usage_nanos() / 1000);
  cpu->set_user_usec(stats.cpu_user_nanos() / 1000);
  cpu->set_system_usec(stats.cpu_system_nanos() / 1000);
  cpu->set_nr_periods(stats.cpu_periods());
  cpu->set_nr_throttled(stats.cpu_throttled_periods());
  cpu->set_throttled_usec(stats.cpu_throttled_nanos() / 1000);

  v2::MemoryStat* memory = out.mutable_memory();
  SetByName(stats.memory_stat(), memory);
  // Names that have changed between kernel and message.
  if (memory->workingset_refault() == 0) {
    memory->set_workingset_refault(Counter(stats.memory_stat(), "workingset_refault_anon") +
                                   Counter(stats.memory_stat(), "workingset_refault_file"));
  }
  if (memory->workingset_activate() == 0) {
    memory->set_workingset_activate(Counter(stats.memory_stat(), "workingset_activate_anon") +
                                    Counter(stats.memory_stat(), "workingset_activate_file"));
  }
  memory->set_usage(stats.memory_usage_bytes());
  memory->set_usage_limit(stats.memory_limit_bytes());
  memory->set_max_usage(stats.memory_max_usage_bytes());
  memory->set_swap_usage(stats.swap_usage_bytes());
  memory->set_swap_limit(stats.swap_limit_bytes());
  SetByName(stats.memory_events(), out.mutable_memory_events());

  // There even when empty: nerdctl reads them without a look.
  out.mutable_io();
  out.mutable_rdma();
  for (const auto& from : stats.block_io()) {
    v2::IOEntry* entry = out.mutable_io()->add_usage();
    entry->set_major(from.major());
    entry->set_minor(from.minor());
    entry->set_rbytes(from.read_bytes());
    entry->set_wbytes(from.write_bytes());
    entry->set_rios(from.read_ops());
    entry->set_wios(from.write_ops());
  }
  for (const auto& from : stats.hugetlb()) {
    v2::HugeTlbStat* entry = out.add_hugetlb();
    entry->set_pagesize(from.page_size());
    entry->set_current(from.usage_bytes());
    entry->set_max(from.max_bytes());
    entry->set_failcnt(from.failcnt());
  }
  for (const auto& from : stats.networks()) SetNetwork(from, out.add_network());
  return out;
}

void AddBlkio(const shim::v1::StatsResponse::BlockIo& from, const char* op, uint64_t value,
              google::protobuf::RepeatedPtrField<v1::BlkIOEntry>* out) {
  v1::BlkIOEntry* entry = out->Add();
  entry->set_op(op);
  entry->set_major(from.major());
  entry->set_minor(from.minor());
  entry->set_value(value);
}

v1::Metrics Hierarchies(const shim::v1::StatsResponse& stats) {
  v1::Metrics out;
  out.mutable_pids()->set_current(stats.pids_current());
  out.mutable_pids()->set_limit(stats.pids_limit());

  v1::CPUUsage* usage = out.mutable_cpu()->mutable_usage();
  usage->set_total(stats.cpu_usage_nanos());
  usage->set_user(stats.cpu_user_nanos());
  usage->set_kernel(stats.cpu_system_nanos());
  for (uint64_t nanos : stats.cpu_per_cpu_nanos()) usage->add_per_cpu(nanos);
  v1::Throttle* throttling = out.mutable_cpu()->mutable_throttling();
  throttling->set_periods(stats.cpu_periods());
  throttling->set_throttled_periods(stats.cpu_throttled_periods());
  throttling->set_throttled_time(stats.cpu_throttled_nanos());

  v1::MemoryStat* memory = out.mutable_memory();
  SetByName(stats.memory_stat(), memory);
  for (const char* prefix : {"", "total_"}) {
    // The kernel writes these without underscores.
    const auto set = [&](const char* kernel_name, const char* field_name) {
      const google::protobuf::FieldDescriptor* field =
          memory->GetDescriptor()->FindFieldByName(absl::StrCat(prefix, field_name));
      memory->GetReflection()->SetUInt64(
          memory, field, Counter(stats.memory_stat(), absl::StrCat(prefix, kernel_name)));
    };
    set("pgpgin", "pg_pg_in");
    set("pgpgout", "pg_pg_out");
    set("pgfault", "pg_fault");
    set("pgmajfault", "pg_maj_fault");
  }
  memory->set_hierarchical_swap_limit(Counter(stats.memory_stat(), "hierarchical_memsw_limit"));
  memory->mutable_usage()->set_usage(stats.memory_usage_bytes());
  memory->mutable_usage()->set_max(stats.memory_max_usage_bytes());
  memory->mutable_usage()->set_limit(stats.memory_limit_bytes());
  memory->mutable_usage()->set_failcnt(stats.memory_failcnt());
  memory->mutable_swap()->set_usage(stats.swap_usage_bytes());
  memory->mutable_swap()->set_limit(stats.swap_limit_bytes());
  memory->mutable_kernel();
  memory->mutable_kernel_tcp();
  out.mutable_memory_oom_control()->set_oom_kill(stats.oom_kills());

  // There even when empty, like the others: nerdctl reads them without a look.
  out.mutable_rdma();
  v1::BlkIOStat* blkio = out.mutable_blkio();
  for (const auto& from : stats.block_io()) {
    AddBlkio(from, "Read", from.read_bytes(), blkio->mutable_io_service_bytes_recursive());
    AddBlkio(from, "Write", from.write_bytes(), blkio->mutable_io_service_bytes_recursive());
    AddBlkio(from, "Read", from.read_ops(), blkio->mutable_io_serviced_recursive());
    AddBlkio(from, "Write", from.write_ops(), blkio->mutable_io_serviced_recursive());
  }
  for (const auto& from : stats.hugetlb()) {
    v1::HugetlbStat* entry = out.add_hugetlb();
    entry->set_pagesize(from.page_size());
    entry->set_usage(from.usage_bytes());
    entry->set_max(from.max_bytes());
    entry->set_failcnt(from.failcnt());
  }
  for (const auto& from : stats.networks()) SetNetwork(from, out.add_network());
  return out;
}

}  // namespace

google::protobuf::Any MetricsOf(const shim::v1::StatsResponse& stats) {
  if (stats.cgroup_v2()) return AnyOf(Unified(stats));
  return AnyOf(Hierarchies(stats));
}

}  // namespace gantry::api::containerd_api
