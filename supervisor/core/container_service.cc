// The life cycle: start, stop, settle, remove. Creation is in container_create.cc, waiting in container_wait.cc, what follows from a restart
// of the daemon or from a restart policy in container_recovery.cc, lists in container_list.cc, streams and execs in container_exec.cc,
// files in container_files.cc.
#include "supervisor/core/container_service.h"

#include <signal.h>

#include <optional>
#include <utility>

#include "absl/strings/match.h"
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
#include "supervisor/core/container_intent.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/start_failure.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kStopPatience = absl::Seconds(10);
constexpr absl::Duration kKillPatience = absl::Seconds(20);

}  // namespace

ContainerService::ContainerService(const Parts& parts)
    : parts_(parts), restarts_(std::make_unique<Delayed>(parts.stores->clock, *parts.workers)) {}

ContainerService::~ContainerService() = default;

void ContainerService::Stop() { restarts_->Stop(); }

std::string ContainerService::Directory(const std::string& ns, const std::string& id) const {
  return absl::StrCat(parts_.root_directory, "/containers/", ns, "/", id);
}

std::string ContainerService::GeneratedDirectory(const std::string& ns, const std::string& id,
                                                 const v1::ContainerConfig& config) const {
  if (!config.auto_remove()) return Directory(ns, id);
  return absl::StrCat(parts_.state_directory, "/containers/", ns, "/", id);
}

void ContainerService::ReadIntent(Loaded& loaded) {
  if (std::optional<v1::ContainerConfig> config = core::ReadIntent(loaded.record)) {
    loaded.ours = true;
    loaded.config = *std::move(config);
  }
  auto image = loaded.record.extensions().find(kImageExtension);
  record::v1::Descriptor target;
  if (image != loaded.record.extensions().end() && target.ParseFromString(image->second.value())) {
    loaded.image_id = target.digest();
  }
  if (!loaded.ours) {
    loaded.config.set_image(loaded.record.image());
    *loaded.config.mutable_labels() = loaded.record.labels();
  }
}

absl::StatusOr<ContainerService::Loaded> ContainerService::Load(const CallContext& context,
                                                                absl::string_view container) {
  Loaded loaded;
  loaded.scope = metadata::Scope{context.ns, ""};
  Stores& stores = *parts_.stores;
  GANTRY_ASSIGN_OR_RETURN(metadata::NamedContainer found,
                          stores.names.Resolve(loaded.scope, container));
  loaded.name = found.name;
  GANTRY_ASSIGN_OR_RETURN(loaded.record, stores.containers.Get(loaded.scope, found.id));
  GANTRY_ASSIGN_OR_RETURN(auto state, stores.containers.GetState(loaded.scope, found.id));
  if (state.has_value()) loaded.state = *std::move(state);
  ReadIntent(loaded);
  return loaded;
}

absl::StatusOr<ContainerService::Loaded> ContainerService::LoadLocked(const CallContext& context,
                                                                      absl::string_view container,
                                                                      OperationLock& lock) {
  GANTRY_ASSIGN_OR_RETURN(metadata::NamedContainer found,
                          parts_.stores->names.Resolve(metadata::Scope{context.ns, ""}, container));
  lock = locks_.Acquire(context.ns, found.id);
  return Load(context, found.id);
}

absl::StatusOr<std::string> ContainerService::ResolveId(const CallContext& context,
                                                        absl::string_view container) {
  GANTRY_ASSIGN_OR_RETURN(metadata::NamedContainer found,
                          parts_.stores->names.Resolve(metadata::Scope{context.ns, ""}, container));
  return found.id;
}

void ContainerService::Publish(const Loaded& loaded, absl::string_view action,
                               const std::map<std::string, std::string>& attributes) {
  containerd::events::ContainerUpdate event;
  event.set_id(loaded.id());
  event.set_image(loaded.record.image());
  event.set_snapshot_key(loaded.record.snapshot_key());
  *event.mutable_labels() = loaded.record.labels();
  for (const auto& [key, value] : attributes) (*event.mutable_labels())[key] = value;
  (*event.mutable_labels())["gantry.action"] = std::string(action);
  parts_.events->Publish(loaded.scope.ns, "/containers/update", event);
}

absl::StatusOr<int32_t> ContainerService::InitPid(const CallContext& context,
                                                  absl::string_view container) {
  GANTRY_ASSIGN_OR_RETURN(std::string id, ResolveId(context, container));
  absl::StatusOr<Process> process = parts_.tasks->Get(context.ns, id, "");
  if (!process.ok() || process->status != ProcessStatus::kRunning) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container,
                     " does not run, so its namespaces cannot be joined; start it first"));
  }
  return process->pid;
}

absl::StatusOr<std::string> ContainerService::SpecToStart(const CallContext& context,
                                                          const Loaded& loaded) {
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

absl::StatusOr<CreateTask> ContainerService::DescribeTask(const CallContext& context,
                                                          const Loaded& loaded) {
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
    log->set_path(Directory(context.ns, loaded.id()) + "/container.log");
    log->set_format(shim::v1::Log::JSON_FILE);
    log->set_max_size_bytes(parts_.log_max_size_bytes);
    log->set_max_files(parts_.log_max_files);
    for (const auto& [key, value] : loaded.config.log().options()) {
      GANTRY_RETURN_IF_ERROR(ApplyLogOption(key, value, *log));
    }
  }
  return task;
}

absl::Status ContainerService::NoteStarted(Loaded& loaded, int32_t pid) {
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

void ContainerService::NoteStartFailed(Loaded& loaded, const absl::Status& why) {
  if (loaded.state.status() == record::v1::ContainerState::RUNNING)
    loaded.state.set_status(record::v1::ContainerState::STOPPED);
  loaded.state.set_error(std::string(why.message()));
  loaded.state.set_exit_code(StartFailureCode(why));
  absl::Status stored = parts_.stores->containers.PutState(loaded.scope, loaded.id(), loaded.state,
                                                           metadata::Durability::kBuffered);
  if (!stored.ok())
    LOG(ERROR) << "ns=" << loaded.scope.ns << " id=" << loaded.id() << " " << stored;
}

absl::StatusOr<int32_t> ContainerService::StartLocked(
    const CallContext& context, Loaded& loaded, std::function<void(runtime::Shim&)> before_create) {
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

absl::StatusOr<v1::StartContainerResponse> ContainerService::Start(
    const CallContext& context, const v1::StartContainerRequest& request) {
  parts_.tasks->AnnounceStart();
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, request.container(), lock));
  v1::StartContainerResponse response;
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped &&
      task->status != ProcessStatus::kCreated) {
    response.set_already_running(true);
    return response;
  }
  loaded.state.set_restart_count(0);
  GANTRY_RETURN_IF_ERROR(StartLocked(context, loaded).status());
  return response;
}

absl::StatusOr<bool> ContainerService::SettleLocked(const CallContext& context, Loaded& loaded) {
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

absl::StatusOr<bool> ContainerService::SettleExit(const CallContext& context,
                                                  const std::string& container) {
  // Whoever saw the end in a stream may be ahead of the event that tells us of it; the event is on its way.
  constexpr absl::Duration kEventUnderWay = absl::Seconds(3);
  absl::StatusOr<std::string> id = ResolveId(context, container);
  if (absl::IsNotFound(id.status())) return true;
  if (!id.ok()) return id.status();
  absl::Status heard = parts_.tasks->Wait(context, *id, "", kEventUnderWay).status();
  if (absl::IsDeadlineExceeded(heard)) return false;  // it runs again already
  OperationLock lock;
  absl::StatusOr<Loaded> loaded = LoadLocked(context, container, lock);
  if (absl::IsNotFound(loaded.status())) return true;
  if (!loaded.ok()) return loaded.status();
  return SettleLocked(context, *loaded);
}

void ContainerService::OnExit(const std::string& ns, const Process& process) {
  CallContext context;
  context.ns = ns;
  if (!process.exec_id.empty()) {
    // Execs of ours clean up after themselves; those of containerd's clients belong to them.
    if (!absl::StartsWith(process.exec_id, kExecPrefix)) return;
    absl::StatusOr<Exit> gone =
        parts_.tasks->Delete(context, process.container_id, process.exec_id);
    if (!gone.ok() && !absl::IsNotFound(gone.status())) {
      LOG(WARNING) << "ns=" << ns << " id=" << process.container_id << " exec=" << process.exec_id
                   << " " << gone.status();
    }
    return;
  }
  OperationLock lock = locks_.Acquire(ns, process.container_id);
  absl::StatusOr<Loaded> loaded = Load(context, process.container_id);
  if (!loaded.ok() || !loaded->ours) return;
  absl::StatusOr<bool> removed = false;
  if (parts_.tasks->Get(ns, loaded->id(), "").ok()) {
    removed = SettleLocked(context, *loaded);
  } else if (loaded->state.status() == record::v1::ContainerState::RUNNING) {
    // The shim died and the task went with it: what is known of the end is what the event said.
    loaded->state.set_status(record::v1::ContainerState::STOPPED);
    loaded->state.set_pid(0);
    loaded->state.set_exit_code(process.exit_status);
    loaded->state.set_oom_killed(process.oom_killed);
    loaded->state.set_error(process.reason);
    SetTimestamp(process.exited_at, loaded->state.mutable_finished_at());
    absl::Status stored =
        parts_.stores->containers.PutState(loaded->scope, loaded->id(), loaded->state);
    if (!stored.ok()) removed = stored;
    if (stored.ok() && loaded->config.auto_remove()) {
      absl::Status gone = RemoveLocked(context, *loaded, false);
      if (gone.ok())
        removed = true;
      else
        removed = gone;
    }
  }
  if (!removed.ok()) {
    LOG(ERROR) << "ns=" << ns << " id=" << process.container_id
               << " settling its exit: " << removed.status();
    return;
  }
  if (!*removed) ScheduleRestart(*loaded);
}

absl::Status ContainerService::SendSignal(const CallContext& context, const Loaded& loaded,
                                          int signal) {
  PublishKill(loaded, signal);
  return parts_.tasks->Kill(context, loaded.id(), "", static_cast<uint32_t>(signal), false);
}

void ContainerService::PublishKill(const Loaded& loaded, int signal) {
  Publish(loaded, "kill", {{"gantry.signal", absl::StrCat(signal)}});
}

absl::Status ContainerService::StopLocked(const CallContext& context, Loaded& loaded,
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
  Publish(loaded, "stop");
  return absl::OkStatus();
}

absl::StatusOr<v1::StopContainerResponse> ContainerService::Stop(
    const CallContext& context, const v1::StopContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, request.container(), lock));
  v1::StopContainerResponse response;
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    // It may be waiting for its restart policy; a person who says stop means that, too.
    if (loaded.ours && !loaded.state.stopped_by_user()) {
      loaded.state.set_stopped_by_user(true);
      GANTRY_RETURN_IF_ERROR(
          parts_.stores->containers.PutState(loaded.scope, loaded.id(), loaded.state));
    }
    response.set_not_running(true);
    return response;
  }
  absl::Duration patience = kStopPatience;
  if (loaded.config.has_stop_timeout_seconds())
    patience = absl::Seconds(loaded.config.stop_timeout_seconds());
  if (request.has_timeout_seconds()) patience = absl::Seconds(request.timeout_seconds());
  if (patience < absl::ZeroDuration()) patience = absl::InfiniteDuration();
  bool killed = false;
  GANTRY_RETURN_IF_ERROR(StopLocked(context, loaded, request.signal(), patience, &killed));
  GANTRY_RETURN_IF_ERROR(SettleLocked(context, loaded).status());
  response.set_killed(killed);
  return response;
}

absl::Status ContainerService::Kill(const CallContext& context, const std::string& container,
                                    const std::string& signal) {
  // No operation lock: a kill must get through while a stop waits.
  GANTRY_ASSIGN_OR_RETURN(int number, ParseSignal(signal.empty() ? "KILL" : signal));
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, Load(context, container));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not running"));
  }
  if (loaded.ours && number == SIGKILL) {
    loaded.state.set_stopped_by_user(true);
    GANTRY_RETURN_IF_ERROR(parts_.stores->containers.PutState(
        loaded.scope, loaded.id(), loaded.state, metadata::Durability::kBuffered));
    if (task->status == ProcessStatus::kPaused)
      GANTRY_RETURN_IF_ERROR(parts_.tasks->Resume(context, loaded.id()));
  }
  return SendSignal(context, loaded, number);
}

absl::Status ContainerService::Restart(const CallContext& context,
                                       const v1::RestartContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, request.container(), lock));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    absl::Duration patience = kStopPatience;
    if (loaded.config.has_stop_timeout_seconds())
      patience = absl::Seconds(loaded.config.stop_timeout_seconds());
    if (request.has_timeout_seconds()) patience = absl::Seconds(request.timeout_seconds());
    if (patience < absl::ZeroDuration()) patience = absl::InfiniteDuration();
    // Its end must not remove it: it comes back.
    const bool auto_remove = loaded.config.auto_remove();
    loaded.config.set_auto_remove(false);
    GANTRY_RETURN_IF_ERROR(StopLocked(context, loaded, request.signal(), patience, nullptr));
    GANTRY_RETURN_IF_ERROR(SettleLocked(context, loaded).status());
    loaded.config.set_auto_remove(auto_remove);
  }
  loaded.state.set_restart_count(0);
  GANTRY_RETURN_IF_ERROR(StartLocked(context, loaded).status());
  Publish(loaded, "restart");
  return absl::OkStatus();
}

absl::Status ContainerService::Pause(const CallContext& context, const std::string& container) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, container, lock));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status == ProcessStatus::kStopped) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not running"));
  }
  if (task->status == ProcessStatus::kPaused) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", container, " is already paused"));
  }
  return parts_.tasks->Pause(context, loaded.id());
}

absl::Status ContainerService::Unpause(const CallContext& context, const std::string& container) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, container, lock));
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status != ProcessStatus::kPaused) {
    return absl::FailedPreconditionError(absl::StrCat("container ", container, " is not paused"));
  }
  return parts_.tasks->Resume(context, loaded.id());
}

absl::Status ContainerService::RemoveLocked(const CallContext& context, Loaded& loaded,
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
        [ns = context.ns, id = loaded.id(), directory = Directory(context.ns, loaded.id()),
         generated = GeneratedDirectory(context.ns, loaded.id(), loaded.config)] {
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

  std::vector<std::shared_ptr<PendingAnswer>> told;
  {
    absl::MutexLock lock(&mu_);
    auto [begin, end] = removals_.equal_range({context.ns, loaded.id()});
    for (auto it = begin; it != end; ++it) told.push_back(it->second);
    removals_.erase(begin, end);
  }
  v1::WaitContainerResponse response;
  response.set_exit_code(loaded.state.exit_code());
  for (auto& wait : told) wait->Answer(response);
  return absl::OkStatus();
}

absl::StatusOr<v1::RemoveContainerResponse> ContainerService::Remove(
    const CallContext& context, const v1::RemoveContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, request.container(), lock));
  GANTRY_RETURN_IF_ERROR(RemoveLocked(context, loaded, request.force()));
  v1::RemoveContainerResponse response;
  response.set_id(loaded.id());
  return response;
}

absl::Status ContainerService::Rename(const CallContext& context, const std::string& container,
                                      const std::string& new_name) {
  GANTRY_RETURN_IF_ERROR(CheckContainerName(new_name));
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, container, lock));
  const std::string old_name = loaded.name;
  GANTRY_RETURN_IF_ERROR(parts_.stores->names.Rename(loaded.scope, loaded.id(), new_name));
  loaded.name = new_name;
  Publish(loaded, "rename", {{"gantry.old-name", old_name}, {"gantry.name", new_name}});
  return absl::OkStatus();
}

absl::StatusOr<v1::UpdateContainerResponse> ContainerService::Update(
    const CallContext& context, const v1::UpdateContainerRequest& request) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(Loaded loaded, LoadLocked(context, request.container(), lock));
  if (!loaded.ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", loaded.id(), " was made by another client; update it with that one"));
  }
  loaded.config.mutable_resources()->MergeFrom(request.resources());
  if (request.has_restart_policy())
    *loaded.config.mutable_restart_policy() = request.restart_policy();
  GANTRY_RETURN_IF_ERROR(CheckContainerConfig(loaded.config));
  GANTRY_ASSIGN_OR_RETURN(oci::Resources change, ToResources(request.resources()));
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec,
                          oci::RuntimeSpec::Parse(loaded.record.spec().value()));
  oci::Resources merged;
  auto& linux_json = spec.document()["linux"];
  if (linux_json.contains("resources")) {
    GANTRY_ASSIGN_OR_RETURN(merged, oci::ResourcesFromJson(linux_json["resources"]));
  }
  oci::MergeResources(merged, change);
  GANTRY_RETURN_IF_ERROR(oci::CheckResources(merged));
  const nlohmann::json printed = oci::ResourcesToJson(merged);
  for (auto it = printed.begin(); it != printed.end(); ++it)
    linux_json["resources"][it.key()] = it.value();

  // The running container first: a limit the kernel refuses must not be on record.
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    GANTRY_RETURN_IF_ERROR(parts_.tasks->Update(context, loaded.id(), oci::PrintResources(change)));
  }
  loaded.record.mutable_spec()->set_value(spec.Print());
  WriteIntent(loaded.config, loaded.record);
  GANTRY_RETURN_IF_ERROR(
      parts_.stores->containers.Update(loaded.scope, loaded.record, {"spec", "extensions"})
          .status());
  Publish(loaded, "update");
  return v1::UpdateContainerResponse();
}

}  // namespace gantry::core
