// What a container does: its processes, its use of resources, what it has changed.
#include <unistd.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/utf8.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "re2/re2.h"
#include "snapshotter/layer_diff.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {
namespace {

// ps runs on the host, as root: only what chooses and formats rows may reach it, and nothing that
// makes the answer unreadable.
absl::Status CheckPsArguments(const std::vector<std::string>& arguments) {
  constexpr size_t kMost = 64;
  static const LazyRE2 kRenamesPid = {R"((^|[\s,o])pid=)"};
  static const LazyRE2 kWithoutTable = {
      R"(--(help|info|version|no-headers?|no-headings?)(=.*)?|-?V)"};
  if (arguments.size() > kMost) return absl::InvalidArgumentError("top: too many arguments for ps");
  for (const std::string& argument : arguments) {
    if (argument.find('\0') != std::string::npos || argument.size() > 256)
      return absl::InvalidArgumentError("top: malformed argument for ps");
    if (RE2::PartialMatch(argument, *kRenamesPid)) {
      return absl::InvalidArgumentError(
          absl::StrCat("top: ps argument \"", argument, "\" renames the PID column"));
    }
    if (RE2::FullMatch(argument, *kWithoutTable)) {
      return absl::InvalidArgumentError(
          absl::StrCat("top: ps argument \"", argument, "\" leaves no table of processes"));
    }
  }
  return absl::OkStatus();
}

// Jiffies of all CPUs together, in nanoseconds.
uint64_t HostCpuNanos() {
  absl::StatusOr<std::string> text = ReadFile("/proc/stat", 1 << 20);
  if (!text.ok()) return 0;
  uint64_t ticks = 0;
  std::vector<absl::string_view> words =
      absl::StrSplit(text->substr(0, text->find('\n')), ' ', absl::SkipEmpty());
  for (size_t i = 1; i < words.size() && i <= 8; ++i) {
    uint64_t value = 0;
    if (absl::SimpleAtoi(words[i], &value)) ticks += value;
  }
  return ticks * (1000000000ull / static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
}

uint64_t StatOr(const google::protobuf::Map<std::string, uint64_t>& stat, const char* name) {
  auto it = stat.find(name);
  return it == stat.end() ? 0 : it->second;
}

}  // namespace

absl::StatusOr<v1::TopResponse> ContainerView::Top(const CallContext& context,
                                                   const v1::TopRequest& request) {
  std::vector<std::string> arguments(request.ps_args().begin(), request.ps_args().end());
  if (arguments.empty()) arguments = {"-ef"};
  GANTRY_RETURN_IF_ERROR(CheckPsArguments(arguments));
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->Load(context, request.container()));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", request.container(), " is not running"));
  }
  GANTRY_ASSIGN_OR_RETURN(shim::v1::PidsResponse pids, parts_.tasks->Pids(context, loaded.id()));
  std::set<int> wanted;
  for (const auto& process : pids.processes()) wanted.insert(process.pid());
  Command command;
  command.argv = {"ps"};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.timeout = absl::Seconds(10);
  GANTRY_ASSIGN_OR_RETURN(CommandResult result, RunCommand(command, "", 8 << 20, context.cancel));
  if (!result.status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("top: ps: ", result.status.ToString(), ": ",
                                                   absl::StripTrailingAsciiWhitespace(result.err)));
  }
  v1::TopResponse response;
  int pid_column = -1;
  for (absl::string_view line : absl::StrSplit(ToValidUtf8(result.out), '\n', absl::SkipEmpty())) {
    std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (response.titles().empty()) {
      for (size_t i = 0; i < fields.size(); ++i) {
        response.add_titles(std::string(fields[i]));
        if (fields[i] == "PID") pid_column = static_cast<int>(i);
      }
      if (pid_column < 0)
        return absl::InvalidArgumentError("top: the chosen ps output has no PID column");
      continue;
    }
    int pid = 0;
    if (static_cast<int>(fields.size()) <= pid_column ||
        !absl::SimpleAtoi(fields[pid_column], &pid) || wanted.count(pid) == 0)
      continue;
    // The last column (the command) holds everything that is left of the line.
    const int columns = response.titles_size();
    v1::StringList* row = response.add_processes();
    for (int i = 0; i < columns && i < static_cast<int>(fields.size()); ++i) {
      if (i + 1 == columns) {
        row->add_values(
            std::string(line.substr(static_cast<size_t>(fields[i].data() - line.data()))));
      } else {
        row->add_values(std::string(fields[i]));
      }
    }
  }
  parts_.records->Publish(loaded, "top");
  return response;
}

namespace {

// Interfaces and devices, each by itself and all together.
void CountTraffic(const shim::v1::StatsResponse& raw, v1::ContainerStats& stats) {
  for (const auto& network : raw.networks()) {
    v1::InterfaceCounters* counters = stats.add_interfaces();
    counters->set_name(network.name());
    counters->set_rx_bytes(network.rx_bytes());
    counters->set_rx_packets(network.rx_packets());
    counters->set_rx_errors(network.rx_errors());
    counters->set_rx_dropped(network.rx_dropped());
    counters->set_tx_bytes(network.tx_bytes());
    counters->set_tx_packets(network.tx_packets());
    counters->set_tx_errors(network.tx_errors());
    counters->set_tx_dropped(network.tx_dropped());
    stats.set_network_rx_bytes(stats.network_rx_bytes() + network.rx_bytes());
    stats.set_network_tx_bytes(stats.network_tx_bytes() + network.tx_bytes());
  }
  std::sort(stats.mutable_interfaces()->begin(), stats.mutable_interfaces()->end(),
            [](const v1::InterfaceCounters& a, const v1::InterfaceCounters& b) {
              return a.name() < b.name();
            });
  for (const auto& device : raw.block_io()) {
    v1::BlockDeviceCounters* counters = stats.add_devices();
    counters->set_major(device.major());
    counters->set_minor(device.minor());
    counters->set_read_bytes(device.read_bytes());
    counters->set_write_bytes(device.write_bytes());
    counters->set_read_operations(device.read_ops());
    counters->set_write_operations(device.write_ops());
    stats.set_block_read_bytes(stats.block_read_bytes() + device.read_bytes());
    stats.set_block_write_bytes(stats.block_write_bytes() + device.write_bytes());
  }
}

}  // namespace

absl::StatusOr<v1::StatsResponse> ContainerView::Stats(
    const CallContext& context, const v1::StatsRequest& request,
    std::map<std::string, v1::ContainerStats>& previous) {
  struct Wanted {
    std::string id, name;
    bool running;
  };
  std::vector<Wanted> wanted;
  if (request.containers().empty()) {
    v1::ListContainersRequest list;
    list.set_all(request.all());
    GANTRY_ASSIGN_OR_RETURN(v1::ListContainersResponse listed, List(context, list));
    for (const v1::ContainerSummary& container : listed.containers()) {
      wanted.push_back({container.id(), container.name(),
                        container.state() == v1::CONTAINER_STATE_RUNNING ||
                            container.state() == v1::CONTAINER_STATE_PAUSED});
    }
  } else {
    for (const std::string& text : request.containers()) {
      GANTRY_ASSIGN_OR_RETURN(metadata::NamedContainer found,
                              parts_.stores->names.Resolve(metadata::Scope{context.ns, ""}, text));
      absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, found.id, "");
      wanted.push_back(
          {found.id, found.name, task.ok() && task->status != ProcessStatus::kStopped});
    }
  }
  const uint64_t memory_total =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  v1::StatsResponse response;
  std::map<std::string, v1::ContainerStats> latest;
  std::vector<std::string> running;
  for (const Wanted& one : wanted) {
    if (one.running) running.push_back(one.id);
  }
  // All at once: a shim that does not answer costs its own figures, and two seconds.
  std::vector<absl::StatusOr<shim::v1::StatsResponse>> answers =
      parts_.tasks->Stats(context, running);
  size_t next_answer = 0;
  for (const Wanted& one : wanted) {
    v1::ContainerStats stats;
    stats.set_id(one.id);
    stats.set_name(one.name);
    stats.set_running(one.running);
    stats.set_online_cpus(static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN)));
    if (one.running) {
      const absl::StatusOr<shim::v1::StatsResponse>& raw = answers[next_answer++];
      if (!raw.ok()) continue;
      *stats.mutable_read_at() = raw->read_at();
      stats.set_cpu_total_nanos(raw->cpu_usage_nanos());
      stats.set_cpu_user_nanos(raw->cpu_user_nanos());
      stats.set_cpu_system_nanos(raw->cpu_system_nanos());
      stats.set_host_cpu_nanos(HostCpuNanos());
      stats.set_cpu_periods(raw->cpu_periods());
      stats.set_throttled_periods(raw->cpu_throttled_periods());
      stats.set_throttled_nanos(raw->cpu_throttled_nanos());
      const uint64_t inactive =
          StatOr(raw->memory_stat(), raw->cgroup_v2() ? "inactive_file" : "total_inactive_file");
      stats.set_memory_usage_bytes(raw->memory_usage_bytes() > inactive
                                       ? raw->memory_usage_bytes() - inactive
                                       : raw->memory_usage_bytes());
      stats.set_memory_limit_bytes(std::min(raw->memory_limit_bytes(), memory_total));
      if (stats.memory_limit_bytes() == 0) stats.set_memory_limit_bytes(memory_total);
      stats.set_memory_max_usage_bytes(raw->memory_max_usage_bytes());
      *stats.mutable_memory_stat() = raw->memory_stat();
      stats.set_memory_failures(raw->memory_failcnt());
      *stats.mutable_per_cpu_nanos() = raw->cpu_per_cpu_nanos();
      CountTraffic(*raw, stats);
      stats.set_pids_current(raw->pids_current());
      stats.set_pids_limit(raw->pids_limit() == UINT64_MAX ? 0 : raw->pids_limit());
      if (stats.memory_limit_bytes() > 0) {
        stats.set_memory_percent(100.0 * static_cast<double>(stats.memory_usage_bytes()) /
                                 static_cast<double>(stats.memory_limit_bytes()));
      }
      auto before = previous.find(one.id);
      if (before != previous.end()) {
        *stats.mutable_previous_read_at() = before->second.read_at();
        stats.set_previous_cpu_total_nanos(before->second.cpu_total_nanos());
        stats.set_previous_host_cpu_nanos(before->second.host_cpu_nanos());
        const double used = static_cast<double>(stats.cpu_total_nanos()) -
                            static_cast<double>(before->second.cpu_total_nanos());
        const double host = static_cast<double>(stats.host_cpu_nanos()) -
                            static_cast<double>(before->second.host_cpu_nanos());
        if (used > 0 && host > 0) stats.set_cpu_percent(used / host * stats.online_cpus() * 100.0);
      }
    }
    latest[one.id] = stats;
    *response.add_containers() = std::move(stats);
  }
  previous = std::move(latest);
  return response;
}

absl::StatusOr<v1::DiffResponse> ContainerView::Diff(const CallContext& context,
                                                     const std::string& container) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  if (loaded.record.snapshot_key().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container, " has no root file system of ours"));
  }
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope));
  GANTRY_ASSIGN_OR_RETURN(snapshot::Info info, snapshots.Stat(loaded.record.snapshot_key()));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> newer,
                          snapshots.Mounts(loaded.record.snapshot_key()));
  std::vector<snapshot::Mount> older;
  const std::string view = absl::StrCat(loaded.id(), "-diff-", absl::ToUnixNanos(absl::Now()));
  if (!info.parent.empty()) {
    GANTRY_ASSIGN_OR_RETURN(older, snapshots.View(view, info.parent, {}));
  }
  // Mount points the runtime had to make are not the container's doing, nor that their directory
  // changed for them.
  std::set<std::string> made = {"/dev",          "/proc",      "/sys",
                                "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};
  for (const v1::Mount& mount : loaded.config.mounts()) made.insert(mount.target());
  std::vector<snapshot::Change> changes;
  absl::Status listed = snapshot::ListChanges(
      older, newer,
      [&](const snapshot::Change& change) {
        if (!loaded.ours || change.kind != snapshot::ChangeKind::kAdded ||
            made.count(change.path) == 0)
          changes.push_back(change);
        return absl::OkStatus();
      },
      context.cancel);
  v1::DiffResponse response;
  for (size_t i = 0; i < changes.size(); ++i) {
    const bool has_changes_below =
        i + 1 < changes.size() && absl::StartsWith(changes[i + 1].path, changes[i].path + "/");
    const bool holds_mount_point = std::any_of(
        made.begin(), made.end(),
        [&](const std::string& path) { return absl::StartsWith(path, changes[i].path + "/"); });
    if (loaded.ours && changes[i].kind == snapshot::ChangeKind::kModified && holds_mount_point &&
        !has_changes_below)
      continue;
    v1::DiffResponse::Change* out = response.add_changes();
    out->set_kind(static_cast<v1::DiffResponse::Kind>(changes[i].kind));
    // Names of files are bytes; a message holds text.
    out->set_path(ToValidUtf8(changes[i].path));
  }
  if (!info.parent.empty()) {
    absl::Status removed = snapshots.Remove(view);
    if (listed.ok()) listed = removed;
  }
  GANTRY_RETURN_IF_ERROR(listed);
  return response;
}

}  // namespace gantry::core
