#include "supervisor/core/container_view.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/brief_containers.h"
#include "supervisor/core/container_filter.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/log_target.h"
#include "supervisor/core/manifest_record.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

bool Before(const google::protobuf::Timestamp& a, const google::protobuf::Timestamp& b) {
  return std::make_pair(a.seconds(), a.nanos()) < std::make_pair(b.seconds(), b.nanos());
}

// To look up a state by itself costs several times what it costs in a list of all.
constexpr size_t kLookedUpSingly = 200;

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

void SetPlaces(const NetworkPlaces::Held& held, v1::ContainerSummary& summary) {
  for (const v1::PublishedPort& port : held.ports) *summary.add_ports() = port;
  for (const v1::NetworkEndpoint& one : held.endpoints) *summary.add_endpoints() = one;
}

bool ActiveOnly(const v1::ListContainersRequest& request, const ContainerFilter& filter) {
  const bool any_state = request.all() || request.limit() > 0 || filter.names_states();
  return !any_state || filter.wants_active_only();
}

const Process* TaskOf(const absl::flat_hash_map<std::string, Process>& tasks,
                      absl::string_view id) {
  const auto it = tasks.find(id);
  return it == tasks.end() ? nullptr : &it->second;
}

}  // namespace

v1::MountPoint ContainerView::MountPointOf(const LoadedContainer& loaded,
                                           const v1::Mount& mount) const {
  v1::MountPoint point;
  point.set_source(mount.source());
  point.set_destination(mount.target());
  point.set_read_write(!mount.read_only());
  point.set_mode(ModeOf(mount));
  switch (mount.type()) {
    case v1::Mount::TMPFS:
      point.set_type("tmpfs");
      break;
    case v1::Mount::VOLUME:
      point.set_type("volume");
      point.set_name(mount.volume_name());
      point.set_driver(mount.volume_driver().empty() ? "local" : mount.volume_driver());
      if (parts_.volumes != nullptr)
        point.set_source(parts_.volumes->DataDirectory(loaded.scope.ns, mount.volume_name()));
      // docker's mode of a volume that has a name.
      if (point.mode().empty() && !mount.source().empty()) point.set_mode("z");
      break;
    case v1::Mount::IMAGE:
      point.set_type("image");
      break;
    default:
      point.set_type("bind");
      point.set_propagation(mount.propagation().empty() ? "rprivate" : mount.propagation());
      break;
  }
  return point;
}

ListedRecord ContainerView::Describe(LoadedContainer& loaded) const {
  ListedRecord described;
  v1::ContainerSummary& out = described.summary;
  out.set_id(loaded.id());
  out.set_image(loaded.config.image());
  out.set_image_id(std::move(loaded.image_id));
  if (loaded.config.entrypoint().values().empty()) {
    out.mutable_command()->Swap(loaded.config.mutable_command());
  } else {
    for (const std::string& word : loaded.config.entrypoint().values()) out.add_command(word);
    for (const std::string& word : loaded.config.command()) out.add_command(word);
  }
  *out.mutable_created_at() = loaded.record.created_at();
  out.mutable_labels()->swap(*loaded.config.mutable_labels());
  const absl::StatusOr<NetworkChoice> network = NetworkOf(loaded.config);
  out.set_network_mode(network.ok() ? network->Print() : loaded.config.network_mode());
  if (network.ok() && network->kind == NetworkChoice::Kind::kNetwork) {
    for (const v1::NetworkAttachment& one : AttachmentsOf(network->network, loaded.config))
      out.add_networks(one.network());
  } else {
    out.add_networks(out.network_mode());
  }
  for (const v1::NetworkAttachment& one : loaded.config.networks()) {
    if (one.gateway_priority() != 0 || !one.ipv4_address().empty() || !one.ipv6_address().empty() ||
        !one.link_local_addresses().empty())
      *out.add_attachments() = one;
  }
  out.mutable_annotations()->swap(*loaded.config.mutable_annotations());
  if (std::optional<v1::ImageManifest> manifest = ReadManifest(loaded.record))
    *out.mutable_image_manifest() = *std::move(manifest);
  out.set_platform(loaded.config.platform());
  for (const v1::Mount& mount : loaded.config.mounts())
    *out.add_mounts() = MountPointOf(loaded, mount);
  described.restart_policy = loaded.config.restart_policy();
  described.snapshotter = loaded.record.snapshotter();
  described.snapshot_key = loaded.record.snapshot_key();
  described.damaged = loaded.damaged;
  return described;
}

void ContainerView::SetState(const std::string& ns, const record::v1::ContainerState& state,
                             v1::ContainerState word, const Process* task,
                             v1::ContainerSummary& out) const {
  if (state.has_started_at()) *out.mutable_started_at() = state.started_at();
  if (state.has_finished_at()) *out.mutable_finished_at() = state.finished_at();
  out.set_exit_code(state.exit_code());
  out.set_restart_count(static_cast<int32_t>(state.restart_count()));
  out.set_oom_killed(state.oom_killed());
  out.set_state(word);
  if (task == nullptr) return;
  if (task->status != ProcessStatus::kStopped)
    out.set_health(parts_.health->Word(ns, task->container_id));
  out.set_pid(task->pid);
  if (task->status == ProcessStatus::kStopped) {
    out.set_exit_code(task->exit_status);
    out.set_oom_killed(task->oom_killed);
    SetTimestamp(task->exited_at, out.mutable_finished_at());
    out.set_pid(0);
  }
  if (!out.has_started_at()) SetTimestamp(task->started_at, out.mutable_started_at());
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
  return SomeBriefly(*parts_.stores, context.ns, ids);
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

absl::StatusOr<ContainerFilter> ContainerView::FilterOf(const CallContext& context,
                                                        const v1::ListContainersRequest& request) {
  return ContainerFilter::Parse(
      request.filters(),
      [&](const std::string& container) -> absl::StatusOr<absl::Time> {
        GANTRY_ASSIGN_OR_RETURN(LoadedContainer other, parts_.records->Load(context, container));
        return absl::FromUnixSeconds(other.record.created_at().seconds()) +
               absl::Nanoseconds(other.record.created_at().nanos());
      },
      [&](const std::string& image) -> std::string {
        const absl::StatusOr<distribution::Reference> reference =
            distribution::Reference::Parse(image);
        if (!reference.ok()) return "";
        const auto record = parts_.stores->images.Get({context.ns, ""}, reference->canonical());
        return record.ok() ? record->target().digest() : "";
      });
}

ContainerView::Tasks ContainerView::TasksOf(const std::string& ns) const {
  Tasks tasks;
  for (auto& [of, process] : parts_.tasks->List(ns))
    tasks.emplace(process.container_id, std::move(process));
  return tasks;
}

absl::StatusOr<v1::ListContainersResponse> ContainerView::List(
    const CallContext& context, const v1::ListContainersRequest& request) {
  v1::ListContainersResponse response;
  if (request.ids_only()) {
    GANTRY_ASSIGN_OR_RETURN(const ContainerFilter filter, FilterOf(context, request));
    if (!filter.needs_record())
      return ListIds(context, request, filter, TasksOf(context.ns), ActiveOnly(request, filter));
  }
  GANTRY_RETURN_IF_ERROR(Each(context, request, [&response](v1::ContainerSummary& summary) {
    response.add_containers()->Swap(&summary);
  }));
  return response;
}

absl::Status ContainerView::Each(const CallContext& context,
                                 const v1::ListContainersRequest& request,
                                 const std::function<void(v1::ContainerSummary&)>& visit) {
  GANTRY_ASSIGN_OR_RETURN(const ContainerFilter filter, FilterOf(context, request));
  const Tasks tasks = TasksOf(context.ns);
  const bool active_only = ActiveOnly(request, filter);
  absl::flat_hash_map<std::string, NetworkPlaces::Held> held;
  if (parts_.networks != nullptr) {
    absl::StatusOr<absl::flat_hash_map<std::string, NetworkPlaces::Held>> found =
        parts_.networks->HoldAll(context);
    // Without it the containers can still be shown.
    if (found.ok()) held = *std::move(found);
  }
  std::vector<Row> rows;
  v1::ContainerSummary summary;
  const auto fill = [&](const Row& row) {
    summary = row.record->summary;
    summary.set_name(row.name);
    SetState(context.ns, row.state, row.word, row.task, summary);
    if (const auto places = held.find(summary.id()); places != held.end())
      SetPlaces(places->second, summary);
  };
  const auto add = [&](Row row, bool damaged) {
    row.task = TaskOf(tasks, row.record->summary.id());
    row.word = damaged ? v1::CONTAINER_STATE_DEAD
                       : StateOf(row.state, row.record->restart_policy, row.task);
    if (active_only && !IsActive(row.word)) return;
    if (!filter.matches_all()) {
      fill(row);
      if (!filter.Matches(summary)) return;
    }
    rows.push_back(std::move(row));
  };
  if (active_only) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<LoadedContainer> active, LoadActive(context, tasks));
    for (LoadedContainer& loaded : active) {
      auto record = std::make_shared<const ListedRecord>(Describe(loaded));
      add({std::move(record), std::move(loaded.state), std::move(loaded.name)}, loaded.damaged);
    }
  } else {
    ListedRecords::Pass pass(listed_, context.ns);
    const metadata::Scope scope{context.ns, ""};
    LoadedContainer loaded;
    GANTRY_RETURN_IF_ERROR(EachStored(*parts_.stores, context.ns, [&](StoredContainer& stored) {
      std::shared_ptr<const ListedRecord> record = pass.Of(stored.id, stored.record, [&] {
        ReadBriefly(scope, stored.id, stored.record, loaded);
        return Describe(loaded);
      });
      const bool damaged = record->damaged || stored.state_damaged;
      add({std::move(record), std::move(stored.state), std::move(stored.name)}, damaged);
    }));
    pass.Keep();
  }
  std::vector<const Row*> shown;
  shown.reserve(rows.size());
  for (const Row& row : rows) shown.push_back(&row);
  std::sort(shown.begin(), shown.end(), [](const Row* a, const Row* b) {
    return Before(b->record->summary.created_at(), a->record->summary.created_at());
  });
  if (request.limit() > 0 && shown.size() > static_cast<size_t>(request.limit()))
    shown.resize(static_cast<size_t>(request.limit()));
  for (const Row* row : shown) {
    fill(*row);
    if (request.size() && !row->record->snapshot_key.empty()) {
      absl::StatusOr<metadata::SnapshotNamespace> of =
          parts_.stores->Snapshots(row->record->snapshotter, {context.ns, ""});
      if (of.ok()) SetSizes(*of, row->record->snapshot_key, summary);
    }
    visit(summary);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::ContainerDetails> ContainerView::Inspect(const CallContext& context,
                                                            const std::string& container,
                                                            bool size) {
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  v1::ContainerDetails details;
  const Process* const now = task.ok() ? &*task : nullptr;
  LoadedContainer taken = loaded;
  ListedRecord described = Describe(taken);
  *details.mutable_summary() = std::move(described.summary);
  details.mutable_summary()->set_name(loaded.name);
  SetState(context.ns, loaded.state,
           loaded.damaged ? v1::CONTAINER_STATE_DEAD
                          : StateOf(loaded.state, loaded.config.restart_policy(), now),
           now, *details.mutable_summary());
  if (parts_.networks != nullptr) {
    const absl::StatusOr<NetworkPlaces::Held> held = parts_.networks->Holds(context, loaded.id());
    // Without its places the container can still be shown.
    if (held.ok()) SetPlaces(*held, *details.mutable_summary());
  }
  details.mutable_endpoints()->Swap(details.mutable_summary()->mutable_endpoints());
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
  details.set_error(loaded.state.error());
  if (task.ok() && !task->reason.empty()) details.set_error(task->reason);
  if (loaded.state.removing() && !loaded.state.removal_waits_for().empty())
    details.set_error(absl::StrCat("removal waits for: ", loaded.state.removal_waits_for()));
  if (loaded.damaged)
    details.set_error(std::string(ContainerRecords::CheckReadable(loaded).message()));
  details.set_driver(loaded.record.snapshotter());
  details.set_snapshot_key(loaded.record.snapshot_key());
  if (!loaded.ours) {
    details.set_runtime(loaded.record.runtime().name());
  } else if (!loaded.config.runtime().empty()) {
    details.set_runtime(loaded.config.runtime());
  } else if (const absl::StatusOr<runtime::RuntimeInfo> chosen = parts_.runtimes->Resolve("");
             chosen.ok()) {
    details.set_runtime(chosen->name);
  }
  if (loaded.ours && loaded.config.cgroupns_mode().empty())
    details.mutable_config()->set_cgroupns_mode("private");
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

}  // namespace gantry::core
