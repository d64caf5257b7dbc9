#include "supervisor/core/container_steps.h"

#include <signal.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/crash_point.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/containerd/events/container.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/record/v1/record.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/start_failure.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kKillPatience = absl::Seconds(20);

}  // namespace

absl::StatusOr<int32_t> ContainerSteps::InitPid(const CallContext& context,
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

absl::StatusOr<std::string> ContainerSteps::SpecToStart(const CallContext& context,
                                                        const LoadedContainer& loaded) {
  const std::string& stored = loaded.record.spec().value();
  const std::pair<const char*, const std::string*> shared[] = {
      {"network", &loaded.config.network_mode()},
      {"pid", &loaded.config.pid_mode()},
      {"ipc", &loaded.config.ipc_mode()},
      {"uts", &loaded.config.uts_mode()},
      {"cgroup", &loaded.config.cgroupns_mode()}};
  std::optional<oci::RuntimeSpec> spec;
  for (const auto& [type, mode] : shared) {
    absl::string_view other = *mode;
    if (!absl::ConsumePrefix(&other, "container:")) continue;
    GANTRY_ASSIGN_OR_RETURN(int32_t pid, InitPid(context, other));
    if (!spec.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(spec, oci::RuntimeSpec::Parse(stored));
    }
    const absl::string_view file = absl::string_view(type) == "network" ? "net" : type;
    spec->SetNamespace(type, absl::StrCat("/proc/", pid, "/ns/", file));
  }
  return spec.has_value() ? spec->Print() : stored;
}

absl::StatusOr<CreateTask> ContainerSteps::DescribeTask(const CallContext& context,
                                                        const LoadedContainer& loaded) {
  CreateTask task;
  task.container_id = loaded.id();
  GANTRY_ASSIGN_OR_RETURN(task.spec_json, SpecToStart(context, loaded));
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope));
  GANTRY_ASSIGN_OR_RETURN(std::vector<snapshot::Mount> layers,
                          snapshots.Mounts(loaded.record.snapshot_key()));
  task.rootfs = parts_.mount_points->Below(std::move(layers));
  task.discard_rootfs = loaded.config.auto_remove();
  task.runtime = loaded.config.runtime();
  shim::v1::Stdio& stdio = task.stdio;
  stdio.set_terminal(loaded.config.tty());
  stdio.set_attachable(true);
  stdio.set_attach_stdin(loaded.config.open_stdin());
  stdio.set_stdin_once(loaded.config.stdin_once());
  stdio.set_width(loaded.config.console_size().width());
  stdio.set_height(loaded.config.console_size().height());
  if (loaded.config.log().driver() != "none") {
    shim::v1::Log* log = stdio.mutable_log();
    log->set_path(parts_.records->Directory(context.ns, loaded.id()) + "/container.log");
    log->set_format(shim::v1::Log::JSON_FILE);
    log->set_max_size_bytes(parts_.log_max_size_bytes);
    log->set_max_files(parts_.log_max_files);
    for (const auto& [key, value] : loaded.config.log().options()) {
      GANTRY_RETURN_IF_ERROR(ApplyLogOption(key, value, *log));
    }
  }
  return task;
}

absl::Status ContainerSteps::NoteStarted(LoadedContainer& loaded, int32_t pid) {
  loaded.state.set_status(record::v1::ContainerState::RUNNING);
  loaded.state.set_pid(static_cast<uint32_t>(pid));
  loaded.state.set_exit_code(0);
  loaded.state.set_oom_killed(false);
  loaded.state.clear_error();
  loaded.state.clear_finished_at();
  SetTimestamp(absl::Now(), loaded.state.mutable_started_at());
  // The shim is the truth while it runs; this record only matters after a reboot, and a later synced write carries it along.
  return parts_.stores->containers.PutState(loaded.scope, loaded.id(), loaded.state,
                                            metadata::Durability::kBuffered);
}

void ContainerSteps::NoteStartFailed(LoadedContainer& loaded, const absl::Status& why) {
  if (loaded.state.status() == record::v1::ContainerState::RUNNING)
    loaded.state.set_status(record::v1::ContainerState::STOPPED);
  loaded.state.set_error(std::string(why.message()));
  loaded.state.set_exit_code(StartFailureCode(why));
  absl::Status stored = parts_.stores->containers.PutState(loaded.scope, loaded.id(), loaded.state,
                                                           metadata::Durability::kBuffered);
  if (!stored.ok())
    LOG(ERROR) << "ns=" << loaded.scope.ns << " id=" << loaded.id() << " " << stored;
}

absl::StatusOr<int32_t> ContainerSteps::StartLocked(
    const CallContext& context, LoadedContainer& loaded,
    std::function<void(runtime::Shim&)> before_create) {
  // A task that ended and was not settled yet is in the way of a new one.
  GANTRY_RETURN_IF_ERROR(SettleLocked(context, loaded).status());
  if (!loaded.ours) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", loaded.id(),
                     " was made by another client of the containerd API; start it with that one"));
  }
  loaded.state.set_stopped_by_user(false);
  GANTRY_ASSIGN_OR_RETURN(CreateTask task, DescribeTask(context, loaded));
  task.start = true;
  task.stdio.set_await_client(before_create != nullptr);
  task.before_create = std::move(before_create);
  absl::StatusOr<int32_t> pid = parts_.tasks->Create(context, task);
  if (!pid.ok()) {
    absl::StatusOr<oci::ProcessSpec> process = oci::ProcessSpec();
    absl::StatusOr<oci::RuntimeSpec> spec = oci::RuntimeSpec::Parse(loaded.record.spec().value());
    if (spec.ok() && spec->document().contains("process"))
      process = oci::ProcessFromJson(spec->document()["process"]);
    const absl::Status why = NamingTheContainer(pid.status(), loaded.ShownName(),
                                                process.ok() ? *process : oci::ProcessSpec());
    NoteStartFailed(loaded, why);
    return why;
  }
  GANTRY_RETURN_IF_ERROR(NoteStarted(loaded, *pid));
  return *pid;
}

absl::StatusOr<bool> ContainerSteps::SettleLocked(const CallContext& context,
                                                  LoadedContainer& loaded) {
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status != ProcessStatus::kStopped || !loaded.ours) return false;
  loaded.state.set_status(record::v1::ContainerState::STOPPED);
  loaded.state.set_pid(0);
  loaded.state.set_exit_code(task->exit_status);
  loaded.state.set_oom_killed(task->oom_killed);
  if (!task->reason.empty()) loaded.state.set_error(task->reason);
  SetTimestamp(task->exited_at, loaded.state.mutable_finished_at());
  const bool remove = loaded.config.auto_remove();
  // With auto_remove the record goes in a moment; it need not be right for that long.
  if (!remove) {
    GANTRY_RETURN_IF_ERROR(parts_.stores->containers.PutState(
        loaded.scope, loaded.id(), loaded.state, metadata::Durability::kBuffered));
  }
  absl::StatusOr<Exit> gone = parts_.tasks->Delete(context, loaded.id(), "");
  if (!gone.ok() && !absl::IsNotFound(gone.status())) return gone.status();
  if (!remove) return false;
  GANTRY_RETURN_IF_ERROR(RemoveLocked(context, loaded, false));
  return true;
}

absl::Status ContainerSteps::SendSignal(const CallContext& context, const LoadedContainer& loaded,
                                        int signal) {
  PublishKill(loaded, signal);
  return parts_.tasks->Kill(context, loaded.id(), "", static_cast<uint32_t>(signal), false);
}

void ContainerSteps::PublishKill(const LoadedContainer& loaded, int signal) {
  parts_.records->Publish(loaded, "kill", {{"gantry.signal", absl::StrCat(signal)}});
}

absl::Status ContainerSteps::StopLocked(const CallContext& context, LoadedContainer& loaded,
                                        const std::string& signal, absl::Duration patience,
                                        bool* killed) {
  std::string name = signal;
  if (name.empty())
    name = loaded.config.stop_signal().empty() ? "TERM" : loaded.config.stop_signal();
  GANTRY_ASSIGN_OR_RETURN(int number, ParseSignal(name));
  loaded.state.set_stopped_by_user(true);
  GANTRY_RETURN_IF_ERROR(parts_.stores->containers.PutState(loaded.scope, loaded.id(), loaded.state,
                                                            metadata::Durability::kBuffered));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  // A frozen process acts on no signal.
  if (task.ok() && task->status == ProcessStatus::kPaused)
    GANTRY_RETURN_IF_ERROR(parts_.tasks->Resume(context, loaded.id()));
  absl::Status sent = SendSignal(context, loaded, number);
  if (!sent.ok() && !absl::IsNotFound(sent)) return sent;
  absl::Status ended = parts_.tasks->Wait(context, loaded.id(), "", patience).status();
  if (absl::IsDeadlineExceeded(ended)) {
    if (killed != nullptr) *killed = true;
    sent = SendSignal(context, loaded, SIGKILL);
    if (!sent.ok() && !absl::IsNotFound(sent)) return sent;
    ended = parts_.tasks->Wait(context, loaded.id(), "", kKillPatience).status();
    if (absl::IsDeadlineExceeded(ended)) {
      return absl::UnavailableError(absl::StrCat(
          "container ", loaded.id(), ": still there ", absl::FormatDuration(kKillPatience),
          " after SIGKILL; a process of it hangs in the kernel (see `ctl top`)"));
    }
  }
  if (!ended.ok() && !absl::IsNotFound(ended)) return ended;
  parts_.records->Publish(loaded, "stop");
  return absl::OkStatus();
}

absl::Status ContainerSteps::RemoveLocked(const CallContext& context, LoadedContainer& loaded,
                                          bool force) {
  Stores& stores = *parts_.stores;
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok()) {
    const bool runs =
        task->status != ProcessStatus::kStopped && task->status != ProcessStatus::kCreated;
    if (runs && !force) {
      return absl::FailedPreconditionError(absl::StrCat(
          "container ", loaded.id(), " is running; stop it first or remove it with --force"));
    }
    // From here on the container goes, whatever happens to us: a restart finds this and finishes.
    loaded.state.set_removing(true);
    loaded.state.set_stopped_by_user(true);
    if (loaded.ours)
      GANTRY_RETURN_IF_ERROR(stores.containers.PutState(loaded.scope, loaded.id(), loaded.state));
    CrashPoint("removal.recorded");
    if (runs) PublishKill(loaded, SIGKILL);
    absl::StatusOr<Exit> gone = parts_.tasks->Delete(context, loaded.id(), "", /*force=*/true);
    if (!gone.ok() && !absl::IsNotFound(gone.status())) return gone.status();
  }
  if (!loaded.record.snapshot_key().empty() && loaded.ours) {
    GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                            stores.Snapshots(loaded.record.snapshotter(), loaded.scope));
    absl::Status removed = snapshots.Remove(loaded.record.snapshot_key());
    if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  }
  CrashPoint("snapshot.removed");
  parts_.subjects->Departs(context.ns, loaded.id());
  // A record of that kind which a power cut brings back is removed at the next start.
  absl::Status deleted =
      stores.containers.Delete(loaded.scope, loaded.id(),
                               loaded.config.auto_remove() ? metadata::Durability::kBuffered
                                                           : metadata::Durability::kSynced);
  CrashPoint("container.forgotten");
  if (!deleted.ok() && !absl::IsNotFound(deleted)) return deleted;
  if (loaded.ours) {
    // Nobody waits for it: the id is never used again, and what a crash leaves the next start sweeps.
    parts_.workers->Schedule(
        [ns = context.ns, id = loaded.id(),
         directory = parts_.records->Directory(context.ns, loaded.id()),
         generated = parts_.records->GeneratedDirectory(context.ns, loaded.id(), loaded.config)] {
          absl::Status files = RemoveTree(generated);
          if (files.ok() && directory != generated) files = RemoveTree(directory);
          if (!files.ok())
            LOG(WARNING) << "ns=" << ns << " id=" << id
                         << " files left until the next start: " << files;
        });
  }
  containerd::events::ContainerDelete event;
  event.set_id(loaded.id());
  parts_.events->Publish(context.ns, "/containers/delete", event);

  v1::WaitContainerResponse response;
  response.set_exit_code(loaded.state.exit_code());
  parts_.removals->Answer(context.ns, loaded.id(), response);
  return absl::OkStatus();
}

}  // namespace gantry::core
