#include "supervisor/core/container_view.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
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
#include "proto/gantry/v1/container_health.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "re2/re2.h"
#include "snapshotter/layer_diff.h"
#include "supervisor/core/container_filter.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/log_target.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_places.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

void SetTimestamp(absl::Time at, google::protobuf::Timestamp* out) {
  if (at == absl::InfinitePast()) return;
  const int64_t nanos = absl::ToUnixNanos(at);
  out->set_seconds(nanos / 1000000000);
  out->set_nanos(static_cast<int32_t>(nanos % 1000000000));
}

bool Before(const google::protobuf::Timestamp& a, const google::protobuf::Timestamp& b) {
  return std::make_pair(a.seconds(), a.nanos()) < std::make_pair(b.seconds(), b.nanos());
}

// To look up a state by itself costs several times what it costs in a list of all.
constexpr size_t kLookedUpSingly = 200;

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

// What the container wrote, and that with everything below it.
void SetSizes(metadata::SnapshotNamespace& snapshots, const std::string& snapshot_key,
              v1::ContainerSummary& summary) {
  int64_t total = 0;
  std::string key = snapshot_key;
  for (bool own = true; !key.empty(); own = false) {
    absl::StatusOr<snapshot::Usage> usage = snapshots.Usage(key);
    if (!usage.ok()) break;
    if (own) summary.set_size_rw_bytes(usage->size_bytes);
    total += usage->size_bytes;
    absl::StatusOr<snapshot::Info> info = snapshots.Stat(key);
    key = info.ok() ? info->parent : "";
  }
  summary.set_size_rootfs_bytes(total);
}

const Process* TaskOf(const absl::flat_hash_map<std::string, Process>& tasks,
                      absl::string_view id) {
  const auto it = tasks.find(id);
  return it == tasks.end() ? nullptr : &it->second;
}

}  // namespace

v1::ContainerSummary ContainerView::Summarize(const LoadedContainer& loaded,
                                              const Process* task) const {
  v1::ContainerSummary out;
  out.set_id(loaded.id());
  out.set_name(loaded.name);
  out.set_image(loaded.config.image());
  out.set_image_id(loaded.image_id);
  for (const std::string& word : loaded.config.entrypoint().values()) out.add_command(word);
  for (const std::string& word : loaded.config.command()) out.add_command(word);
  *out.mutable_created_at() = loaded.record.created_at();
  if (loaded.state.has_started_at()) *out.mutable_started_at() = loaded.state.started_at();
  if (loaded.state.has_finished_at()) *out.mutable_finished_at() = loaded.state.finished_at();
  out.set_exit_code(loaded.state.exit_code());
  out.set_restart_count(static_cast<int32_t>(loaded.state.restart_count()));
  out.set_oom_killed(loaded.state.oom_killed());
  *out.mutable_labels() = loaded.config.labels();
  const absl::StatusOr<NetworkChoice> network = NetworkOf(loaded.config);
  out.set_network_mode(network.ok() ? network->Print() : loaded.config.network_mode());
  const bool connected = network.ok() && network->kind == NetworkChoice::Kind::kNetwork;
  if (connected) {
    for (const v1::NetworkAttachment& one : AttachmentsOf(network->network, loaded.config))
      out.add_networks(one.network());
  } else {
    out.add_networks(out.network_mode());
  }
  if (parts_.networks != nullptr && connected) {
    CallContext context;
    context.ns = loaded.scope.ns;
    const absl::StatusOr<NetworkPlaces::Held> held = parts_.networks->Holds(context, loaded.id());
    // Without it the container can still be shown.
    if (held.ok()) {
      for (const v1::PublishedPort& port : held->ports) *out.add_ports() = port;
    }
  }
  out.set_platform(loaded.config.platform());
  for (const v1::Mount& mount : loaded.config.mounts()) {
    v1::MountPoint* point = out.add_mounts();
    point->set_type(mount.type() == v1::Mount::TMPFS ? "tmpfs" : "bind");
    point->set_source(mount.source());
    point->set_destination(mount.target());
    point->set_read_write(!mount.read_only());
    point->set_mode(mount.read_only() ? "ro" : "");
    if (mount.type() == v1::Mount::BIND)
      point->set_propagation(mount.propagation().empty() ? "rprivate" : mount.propagation());
  }
  out.set_state(StateOf(loaded.state, loaded.config.restart_policy(), task));
  if (loaded.damaged) out.set_state(v1::CONTAINER_STATE_DEAD);
  if (task != nullptr && task->status != ProcessStatus::kStopped) {
    const std::optional<v1::HealthState> health = parts_.health->Get(loaded.scope.ns, loaded.id());
    if (health.has_value()) out.set_health(health->status());
  }
  if (task != nullptr) {
    out.set_pid(task->pid);
    if (task->status == ProcessStatus::kStopped) {
      out.set_exit_code(task->exit_status);
      out.set_oom_killed(task->oom_killed);
      SetTimestamp(task->exited_at, out.mutable_finished_at());
      out.set_pid(0);
    }
    if (!out.has_started_at()) SetTimestamp(task->started_at, out.mutable_started_at());
  }
  return out;
}

absl::StatusOr<std::vector<std::string>> ContainerView::MayBeActive(const CallContext& context,
                                                                    const Tasks& tasks) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> ids,
                          parts_.records->WaitingToRestart(context.ns));
  for (const auto& [id, task] : tasks) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

absl::StatusOr<std::vector<LoadedContainer>> ContainerView::LoadActive(const CallContext& context,
                                                                       const Tasks& tasks) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> ids, MayBeActive(context, tasks));
  std::vector<LoadedContainer> all;
  for (const std::string& id : ids) {
    absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, id);
    if (absl::IsNotFound(loaded.status())) continue;  // removed meanwhile
    GANTRY_RETURN_IF_ERROR(loaded.status());
    all.push_back(*std::move(loaded));
  }
  return all;
}

absl::StatusOr<v1::ListContainersResponse> ContainerView::ListIds(
    const CallContext& context, const v1::ListContainersRequest& request,
    const ContainerFilter& filter, const Tasks& tasks, bool active_only) {
  const metadata::Scope scope{context.ns, ""};
  absl::flat_hash_map<std::string, std::string> names;
  if (!filter.matches_all()) {
    GANTRY_RETURN_IF_ERROR(
        parts_.stores->names.List(scope, [&names](const metadata::NamedContainer& named) {
          names.emplace(named.id, named.name);
          return absl::OkStatus();
        }));
  }
  struct Shown {
    std::pair<int64_t, int32_t> created_at;
    std::string id;
  };
  std::vector<Shown> shown;
  v1::ContainerSummary summary;
  // `state` is null if it is damaged.
  const auto look = [&](absl::string_view id,
                        const record::v1::ContainerState* state) -> absl::Status {
    const Process* task = TaskOf(tasks, id);
    v1::ContainerState word = v1::CONTAINER_STATE_DEAD;
    if (state != nullptr) {
      // The policy matters only between an end and its record.
      v1::RestartPolicy policy;
      if (task != nullptr && task->status == ProcessStatus::kStopped) {
        const absl::StatusOr<LoadedContainer> loaded =
            parts_.records->Load(context, std::string(id));
        if (loaded.ok()) policy = loaded->config.restart_policy();
      }
      word = StateOf(*state, policy, task);
    }
    if (active_only && !IsActive(word)) return absl::OkStatus();
    if (!filter.matches_all()) {
      const auto name = names.find(id);
      summary.set_id(id.data(), id.size());
      summary.set_name(name == names.end() ? "" : name->second);
      summary.set_state(word);
      summary.set_exit_code(task != nullptr && task->status == ProcessStatus::kStopped
                                ? task->exit_status
                            : state != nullptr ? state->exit_code()
                                               : 0);
      summary.clear_created_at();
      if (state != nullptr) *summary.mutable_created_at() = state->created_at();
      if (!filter.Matches(summary)) return absl::OkStatus();
    }
    Shown& row = shown.emplace_back();
    if (state != nullptr)
      row.created_at = {state->created_at().seconds(), state->created_at().nanos()};
    row.id = std::string(id);
    return absl::OkStatus();
  };
  std::vector<std::string> ids;
  if (active_only) {
    GANTRY_ASSIGN_OR_RETURN(ids, MayBeActive(context, tasks));
  }
  if (active_only && ids.size() <= kLookedUpSingly) {
    for (const std::string& id : ids) {
      const absl::StatusOr<std::optional<record::v1::ContainerState>> state =
          parts_.stores->containers.GetState(scope, id);
      if (absl::IsDataLoss(state.status())) continue;  // dead
      GANTRY_RETURN_IF_ERROR(state.status());
      if (state->has_value()) GANTRY_RETURN_IF_ERROR(look(id, &**state));
    }
  } else {
    GANTRY_RETURN_IF_ERROR(parts_.stores->containers.ListStates(scope, look));
  }
  std::sort(shown.begin(), shown.end(),
            [](const Shown& a, const Shown& b) { return b.created_at < a.created_at; });
  if (request.limit() > 0 && shown.size() > static_cast<size_t>(request.limit()))
    shown.resize(static_cast<size_t>(request.limit()));
  v1::ListContainersResponse response;
  response.mutable_containers()->Reserve(static_cast<int>(shown.size()));
  for (Shown& row : shown) response.add_containers()->set_id(std::move(row.id));
  return response;
}

absl::StatusOr<v1::ListContainersResponse> ContainerView::List(
    const CallContext& context, const v1::ListContainersRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(
      const ContainerFilter filter,
      ContainerFilter::Parse(
          request.filters(),
          [&](const std::string& container) -> absl::StatusOr<absl::Time> {
            GANTRY_ASSIGN_OR_RETURN(LoadedContainer other,
                                    parts_.records->Load(context, container));
            return absl::FromUnixSeconds(other.record.created_at().seconds()) +
                   absl::Nanoseconds(other.record.created_at().nanos());
          },
          [&](const std::string& image) -> std::string {
            const absl::StatusOr<distribution::Reference> reference =
                distribution::Reference::Parse(image);
            if (!reference.ok()) return "";
            const auto record = parts_.stores->images.Get({context.ns, ""}, reference->canonical());
            return record.ok() ? record->target().digest() : "";
          }));
  Tasks tasks;
  for (auto& [ns, process] : parts_.tasks->List(context.ns))
    tasks.emplace(process.container_id, std::move(process));
  const bool any_state = request.all() || request.limit() > 0 || filter.names_states();
  const bool active_only = !any_state || filter.wants_active_only();
  if (request.ids_only() && !filter.needs_record())
    return ListIds(context, request, filter, tasks, active_only);

  GANTRY_ASSIGN_OR_RETURN(std::vector<LoadedContainer> all, active_only
                                                                ? LoadActive(context, tasks)
                                                                : parts_.records->LoadAll(context));
  std::sort(all.begin(), all.end(), [](const LoadedContainer& a, const LoadedContainer& b) {
    return Before(b.record.created_at(), a.record.created_at());
  });
  v1::ListContainersResponse response;
  for (const LoadedContainer& loaded : all) {
    v1::ContainerSummary summary = Summarize(loaded, TaskOf(tasks, loaded.id()));
    if (active_only && !IsActive(summary.state())) continue;
    if (!filter.Matches(summary)) continue;
    if (request.size() && !loaded.record.snapshot_key().empty()) {
      absl::StatusOr<metadata::SnapshotNamespace> snapshots =
          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope);
      if (snapshots.ok()) SetSizes(*snapshots, loaded.record.snapshot_key(), summary);
    }
    *response.add_containers() = std::move(summary);
    if (request.limit() > 0 && response.containers_size() >= request.limit()) break;
  }
  return response;
}

absl::StatusOr<v1::ContainerDetails> ContainerView::Inspect(const CallContext& context,
                                                            const std::string& container,
                                                            bool size) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  v1::ContainerDetails details;
  *details.mutable_summary() = Summarize(loaded, task.ok() ? &*task : nullptr);
  *details.mutable_config() = loaded.config;
  absl::StatusOr<oci::RuntimeSpec> spec = oci::RuntimeSpec::Parse(loaded.record.spec().value());
  if (spec.ok()) {
    std::vector<std::string> args = spec->args();
    if (!args.empty()) {
      details.set_path(args.front());
      for (size_t i = 1; i < args.size(); ++i) details.add_args(args[i]);
    }
    details.set_cgroup_path(spec->cgroups_path());
    if (!loaded.ours) {
      for (const std::string& word : args) details.mutable_summary()->add_command(word);
    }
  }
  if (std::optional<v1::HealthState> health = parts_.health->Get(context.ns, loaded.id()))
    *details.mutable_health() = *std::move(health);
  if (parts_.networks != nullptr && task.ok()) {
    const absl::StatusOr<NetworkPlaces::Held> held = parts_.networks->Holds(context, loaded.id());
    if (held.ok()) {
      for (const v1::NetworkEndpoint& one : held->endpoints) *details.add_endpoints() = one;
    }
  }
  details.set_error(loaded.state.error());
  if (task.ok() && !task->reason.empty()) details.set_error(task->reason);
  if (loaded.state.removing() && !loaded.state.removal_waits_for().empty())
    details.set_error(absl::StrCat("removal waits for: ", loaded.state.removal_waits_for()));
  if (loaded.damaged)
    details.set_error(std::string(ContainerRecords::CheckReadable(loaded).message()));
  details.set_driver(loaded.record.snapshotter());
  details.set_snapshot_key(loaded.record.snapshot_key());
  details.set_runtime(!loaded.config.runtime().empty() ? loaded.config.runtime()
                      : loaded.ours                    ? parts_.default_runtime
                                                       : loaded.record.runtime().name());
  details.set_pod_id(loaded.record.sandbox());
  if (loaded.ours) {
    const std::optional<LogTarget> log = LogTargetOf(*parts_.records, loaded);
    if (log.has_value()) details.set_log_path(log->path);
    const std::string generated =
        parts_.records->GeneratedDirectory(context.ns, loaded.id(), loaded.config);
    details.set_hostname_path(generated + "/hostname");
    details.set_hosts_path(generated + "/hosts");
    details.set_resolv_conf_path(generated + "/resolv.conf");
  }
  if (task.ok()) {
    absl::StatusOr<std::string> bundle = parts_.tasks->BundleDirectory(context.ns, loaded.id());
    if (bundle.ok()) details.set_bundle_path(*bundle);
    absl::StatusOr<std::shared_ptr<runtime::Shim>> shim =
        parts_.tasks->Shim(context.ns, loaded.id());
    if (shim.ok()) details.set_shim_pid((*shim)->process().pid);
    for (const Process& exec : parts_.tasks->Execs(context.ns, loaded.id())) {
      if (exec.status != ProcessStatus::kStopped) details.add_exec_ids(exec.exec_id);
    }
  }
  absl::StatusOr<metadata::SnapshotNamespace> snapshots =
      parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope);
  if (snapshots.ok() && !loaded.record.snapshot_key().empty()) {
    absl::StatusOr<std::vector<snapshot::Mount>> mounts =
        snapshots->Mounts(loaded.record.snapshot_key());
    if (mounts.ok() && mounts->size() == 1) {
      for (const std::string& option : mounts->front().options) {
        std::pair<absl::string_view, absl::string_view> pair =
            absl::StrSplit(option, absl::MaxSplits('=', 1));
        static const std::map<absl::string_view, const char*> kNames = {
            {"lowerdir", "LowerDir"}, {"upperdir", "UpperDir"}, {"workdir", "WorkDir"}};
        auto name = kNames.find(pair.first);
        if (name != kNames.end())
          (*details.mutable_graph_driver_data())[name->second] = std::string(pair.second);
      }
    }
    if (size) SetSizes(*snapshots, loaded.record.snapshot_key(), *details.mutable_summary());
  }
  return details;
}

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
  for (absl::string_view line : absl::StrSplit(result.out, '\n', absl::SkipEmpty())) {
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
      for (const auto& network : raw->networks()) {
        stats.set_network_rx_bytes(stats.network_rx_bytes() + network.rx_bytes());
        stats.set_network_tx_bytes(stats.network_tx_bytes() + network.tx_bytes());
      }
      for (const auto& device : raw->block_io()) {
        stats.set_block_read_bytes(stats.block_read_bytes() + device.read_bytes());
        stats.set_block_write_bytes(stats.block_write_bytes() + device.write_bytes());
      }
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
