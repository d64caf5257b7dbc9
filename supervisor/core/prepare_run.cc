#include "supervisor/core/prepare_run.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

#include "base/status_macros.h"
#include "proto/shim/v1/shim.pb.h"
#include "snapshotter/id_mapped.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/device_requests.h"
#include "supervisor/core/link_environment.h"
#include "supervisor/core/live_name_files.h"
#include "supervisor/core/log_options.h"
#include "supervisor/core/log_target.h"
#include "supervisor/core/mount_sharing.h"
#include "supervisor/core/name_files.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_names.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/place_choice.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

// What its links on the default bridge add to its environment, as the others are now.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> LinkVariables(
    const RunPreparer::Parts& parts, const CallContext& context, const LoadedContainer& loaded,
    const NetworkChoice& network) {
  std::vector<std::pair<std::string, std::string>> all;
  // On other networks docker never had them.
  if (network.kind != NetworkChoice::Kind::kNetwork || network.network != "bridge") return all;
  for (const std::string& link : loaded.config.links()) {
    GANTRY_ASSIGN_OR_RETURN(const LoadedContainer other,
                            parts.records->Load(context, LinkTarget(link)));
    GANTRY_ASSIGN_OR_RETURN(const NetworkPlaces::Held held,
                            parts.networks->Holds(context, other.id()));
    LinkedContainer linked;
    linked.alias = LinkAlias(link);
    for (const v1::NetworkEndpoint& endpoint : held.endpoints) {
      if (endpoint.network() == network.network) linked.address = endpoint.ip_address();
    }
    // One that does not run has no address yet.
    if (linked.address.empty()) continue;
    linked.exposed_ports = {other.config.exposed_ports().begin(),
                            other.config.exposed_ports().end()};
    linked.env = {other.config.env().begin(), other.config.env().end()};
    for (auto& variable : LinkEnvironment(loaded.ShownName(), linked))
      all.push_back(std::move(variable));
  }
  return all;
}

// Path of the user namespace that owns what it shares with another container; "": it shares nothing
// that has an owner.
absl::StatusOr<std::string> SharedUserNamespace(
    const v1::ContainerConfig& config, const NetworkChoice& network,
    const std::function<absl::StatusOr<int32_t>(absl::string_view container)>& pid_of) {
  for (const std::string& mode : {network.Print(), config.pid_mode(), config.ipc_mode()}) {
    absl::string_view other = mode;
    if (!absl::ConsumePrefix(&other, "container:")) continue;
    GANTRY_ASSIGN_OR_RETURN(const int32_t pid, pid_of(other));
    return absl::StrCat("/proc/", pid, "/ns/user");
  }
  return std::string();
}

// Writes the path of the network namespace into a spec as we print it, without taking it apart: one
// has some 30 kB, of which this is the only part that changes at each start. Quotes inside of texts
// are escaped, so that the words can be nothing else. False: they are not there just once.
bool PutNetns(const std::string& netns, std::string& spec) {
  static const std::string kFresh = R"({"type":"network"})";
  const size_t at = spec.find(kFresh);
  if (at == std::string::npos || spec.find(kFresh, at + 1) != std::string::npos ||
      netns.find_first_of("\"\\") != std::string::npos)
    return false;
  spec.replace(at, kFresh.size(), absl::StrCat(R"({"path":")", netns, R"(","type":"network"})"));
  return true;
}

}  // namespace

absl::StatusOr<CreateTask> RunPreparer::PrepareRun(const CallContext& context,
                                                   const LoadedContainer& loaded) {
  CreateTask task;
  task.container_id = loaded.id();
  task.runtime = loaded.config.runtime();
  task.discard_rootfs = loaded.config.auto_remove();

  for (const v1::Mount& mount : loaded.config.mounts()) {
    if (mount.type() == v1::Mount::BIND)
      GANTRY_RETURN_IF_ERROR(CheckPropagation(mount.source(), mount.propagation()));
  }
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice network, NetworkOf(loaded.config));
  const IdMaps ids = IdsOf(loaded.config);
  std::string users;
  if (!ids.empty()) {
    GANTRY_ASSIGN_OR_RETURN(
        users, SharedUserNamespace(loaded.config, network, [&](absl::string_view container) {
          return InitPid(context, container);
        }));
  }
  NetworkPlaces::Entered place;
  if (network.kind == NetworkChoice::Kind::kNetwork) {
    if (parts_.networks == nullptr) return absl::UnimplementedError("there are no networks");
    NetworkClient client = ClientOf(loaded.id(), loaded.ShownName(), loaded.config);
    client.user_namespace = users;
    GANTRY_ASSIGN_OR_RETURN(
        place, parts_.networks->BeginToEnter(context, client, network.network, loaded.config));
  }
  absl::Cleanup undo = [&] {
    place.making.reset();  // waits: nothing may be made any more when it is undone
    EndRun(context, loaded);
  };
  if (parts_.volumes != nullptr) GANTRY_RETURN_IF_ERROR(parts_.volumes->Enter(context, loaded));
  task.netns = place.netns;
  task.resolver = place.resolver;

  // A container of a pod is shown the pod's.
  if (loaded.record.sandbox().empty()) {
    NamesOfNetworks names;
    names.addresses = place.addresses;
    names.resolver = place.has_names;
    GANTRY_RETURN_IF_ERROR(WriteFilesOfRun(context, loaded, network, std::move(names)));
    GANTRY_RETURN_IF_ERROR(GiveNameFilesTo(
        ids, parts_.records->GeneratedDirectory(context.ns, loaded.id(), loaded.config)));
    if (parts_.generated_files_bytes > 0) {
      task.bounded_directory =
          parts_.records->GeneratedDirectory(context.ns, loaded.id(), loaded.config);
      task.bounded_bytes = parts_.generated_files_bytes;
    }
  }

  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> layers,
                          snapshots.Mounts(loaded.record.snapshot_key()));
  task.rootfs = snapshot::WithIds(parts_.mount_points->Below(std::move(layers)), ids);
  if (users.empty()) users = place.user_namespace;

  GANTRY_ASSIGN_OR_RETURN(task.spec_json, SpecOfRun(context, loaded, network, place.netns));
  if (!users.empty()) {
    GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec, oci::RuntimeSpec::Parse(task.spec_json));
    spec.SetNamespace("user", users);
    task.spec_json = spec.Print();
  }
  GANTRY_ASSIGN_OR_RETURN(task.stdio, StdioOfRun(loaded));
  std::move(undo).Cancel();
  // Devices and rules need not be there before the shim is.
  if (place.making != nullptr) {
    task.ready = [making = std::move(place.making)] { return making->Wait(); };
  }
  return task;
}

absl::Status RunPreparer::WriteFilesOfRun(const CallContext& context, const LoadedContainer& loaded,
                                          const NetworkChoice& network, NamesOfNetworks names) {
  const std::string directory =
      parts_.records->GeneratedDirectory(context.ns, loaded.id(), loaded.config);
  if (network.kind == NetworkChoice::Kind::kContainer) {
    GANTRY_ASSIGN_OR_RETURN(const std::string id,
                            parts_.records->ResolveId(context, network.container));
    GANTRY_ASSIGN_OR_RETURN(const LoadedContainer other, parts_.records->Load(context, id));
    const std::string live = LiveNameFiles(*parts_.tasks, context.ns, other.id());
    return CopyNameFiles(
        live.empty() ? parts_.records->GeneratedDirectory(context.ns, other.id(), other.config)
                     : live,
        directory);
  }
  if (parts_.networks != nullptr && NeedsHostGateway(loaded.config)) {
    GANTRY_ASSIGN_OR_RETURN(names.host_gateways, parts_.networks->HostGateways(context));
  }
  return WriteNameFiles(directory, loaded.config, loaded.id(), names);
}

void RunPreparer::EndPreparation(const LoadedContainer& loaded) {
  if (parts_.volumes != nullptr) parts_.volumes->Started(loaded);
}

void RunPreparer::EndRun(const CallContext& context, const LoadedContainer& loaded) {
  if (parts_.volumes != nullptr) {
    parts_.volumes->Started(loaded);
    parts_.volumes->Leave(context, loaded);
  }
  if (parts_.networks == nullptr) return;
  const absl::Status gone = parts_.networks->Leave(context, loaded.id());
  LOG_IF(WARNING, !gone.ok()) << "ns=" << context.ns << " id=" << loaded.id()
                              << " leaving its networks: " << gone;
}

absl::StatusOr<int32_t> RunPreparer::InitPid(const CallContext& context,
                                             absl::string_view container) {
  GANTRY_ASSIGN_OR_RETURN(std::string id, parts_.records->ResolveId(context, container));
  absl::StatusOr<Process> process = parts_.tasks->Get(context.ns, id, "");
  if (!process.ok() || process->status != ProcessStatus::kRunning) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container,
                     " does not run, so its namespaces cannot be joined; start it first"));
  }
  return process->pid;
}

absl::StatusOr<std::string> RunPreparer::SpecOfRun(const CallContext& context,
                                                   const LoadedContainer& loaded,
                                                   const NetworkChoice& network,
                                                   const std::string& netns) {
  const std::string& stored = loaded.record.spec().value();
  struct Shared {
    const char* type;  // in the spec
    const char* file;  // below /proc/PID/ns
    std::string mode;
  };
  const Shared namespaces[] = {{"network", "net", network.Print()},
                               {"pid", "pid", loaded.config.pid_mode()},
                               {"ipc", "ipc", loaded.config.ipc_mode()},
                               {"uts", "uts", loaded.config.uts_mode()},
                               {"cgroup", "cgroup", loaded.config.cgroupns_mode()}};
  std::optional<oci::RuntimeSpec> spec;
  for (const Shared& one : namespaces) {
    absl::string_view other = one.mode;
    if (!absl::ConsumePrefix(&other, "container:")) continue;
    GANTRY_ASSIGN_OR_RETURN(int32_t pid, InitPid(context, other));
    if (!spec.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(spec, oci::RuntimeSpec::Parse(stored));
    }
    spec->SetNamespace(one.type, absl::StrCat("/proc/", pid, "/ns/", one.file));
  }
  if (loaded.config.device_requests_size() > 0 && parts_.devices != nullptr) {
    if (!spec.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(spec, oci::RuntimeSpec::Parse(stored));
    }
    GANTRY_RETURN_IF_ERROR(AddDevices(loaded.config, *parts_.devices, *spec));
  }
  if (!netns.empty()) {
    if (!spec.has_value()) {
      std::string placed = stored;
      if (PutNetns(netns, placed)) return placed;
      GANTRY_ASSIGN_OR_RETURN(spec, oci::RuntimeSpec::Parse(stored));
    }
    spec->SetNamespace("network", netns);
  }
  GANTRY_ASSIGN_OR_RETURN(const auto variables, LinkVariables(parts_, context, loaded, network));
  if (!variables.empty()) {
    if (!spec.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(spec, oci::RuntimeSpec::Parse(stored));
    }
    // What it was given itself counts.
    const std::vector<std::string> own = spec->env();
    for (const auto& [name, value] : variables) {
      const std::string prefix = name + "=";
      if (std::none_of(own.begin(), own.end(), [&prefix](const std::string& entry) {
            return absl::StartsWith(entry, prefix);
          }))
        spec->SetEnv(name, value);
    }
  }
  return spec.has_value() ? spec->Print() : stored;
}

absl::StatusOr<shim::v1::Stdio> RunPreparer::StdioOfRun(const LoadedContainer& loaded) {
  shim::v1::Stdio stdio;
  stdio.set_terminal(loaded.config.tty());
  stdio.set_attachable(true);
  stdio.set_attach_stdin(loaded.config.open_stdin());
  stdio.set_stdin_once(loaded.config.stdin_once());
  stdio.set_width(loaded.config.console_size().width());
  stdio.set_height(loaded.config.console_size().height());
  // Else its processes could not open their own streams by name, as /dev/stdout.
  const IdMaps ids = IdsOf(loaded.config);
  stdio.set_owner_uid(HostIdOf(ids.uids, 0).value_or(0));
  stdio.set_owner_gid(HostIdOf(ids.gids, 0).value_or(0));
  const std::optional<LogTarget> target = LogTargetOf(*parts_.records, loaded);
  if (!target.has_value()) return stdio;
  shim::v1::Log* log = stdio.mutable_log();
  log->set_path(target->path);
  log->set_format(target->format);
  if (target->format == shim::v1::Log::CRI) return stdio;  // rotated by its reader
  log->set_max_size_bytes(parts_.log_max_size_bytes);
  log->set_max_files(parts_.log_max_files);
  LogCollector collector;
  GANTRY_RETURN_IF_ERROR(
      ApplyLogOptions(loaded.config, LogOwnerOf(loaded.id(), loaded.ShownName(), loaded.image_id),
                      *log, collector));
  GANTRY_RETURN_IF_ERROR(
      PlaceCollector(target->path, IsCollector(loaded.config.log().driver()), collector));
  return stdio;
}

}  // namespace gantry::core
