#include "supervisor/core/prepare_run.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

#include "base/status_macros.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/log_options.h"
#include "supervisor/core/log_target.h"
#include "supervisor/core/name_files.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {

absl::StatusOr<CreateTask> RunPreparer::PrepareRun(const CallContext& context,
                                                   const LoadedContainer& loaded) {
  CreateTask task;
  task.container_id = loaded.id();
  task.runtime = loaded.config.runtime();
  task.discard_rootfs = loaded.config.auto_remove();

  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice network, NetworkOf(loaded.config));
  NetworkPlaces::Entered place;
  if (network.kind == NetworkChoice::Kind::kNetwork) {
    if (parts_.networks == nullptr) return absl::UnimplementedError("there are no networks");
    const NetworkClient client = {loaded.id(), loaded.ShownName(), loaded.config.hostname()};
    GANTRY_ASSIGN_OR_RETURN(
        place, parts_.networks->Enter(context, client, network.network, loaded.config));
  }
  absl::Cleanup undo = [&] { EndRun(context, loaded); };
  if (parts_.volumes != nullptr) GANTRY_RETURN_IF_ERROR(parts_.volumes->Enter(context, loaded));
  task.netns = place.netns;
  task.resolver = place.resolver;

  // A container of a pod is shown the pod's.
  if (loaded.record.sandbox().empty()) {
    NamesOfNetworks names;
    names.addresses = place.addresses;
    names.resolver = place.has_names;
    GANTRY_RETURN_IF_ERROR(WriteFilesOfRun(context, loaded, network, std::move(names)));
  }

  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> layers,
                          snapshots.Mounts(loaded.record.snapshot_key()));
  task.rootfs = parts_.mount_points->Below(std::move(layers));

  GANTRY_ASSIGN_OR_RETURN(task.spec_json, SpecOfRun(context, loaded, network, place.netns));
  GANTRY_ASSIGN_OR_RETURN(task.stdio, StdioOfRun(loaded));
  std::move(undo).Cancel();
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
    return CopyNameFiles(parts_.records->GeneratedDirectory(context.ns, other.id(), other.config),
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
  if (!netns.empty()) {
    if (!spec.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(spec, oci::RuntimeSpec::Parse(stored));
    }
    spec->SetNamespace("network", netns);
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
