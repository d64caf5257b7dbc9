#include "supervisor/core/container_removal.h"

#include <signal.h>

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/volume_holds.h"
#include "supervisor/core/volume_service.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kLongestPause = absl::Minutes(1);

}  // namespace

absl::Status ContainerRemoval::RemoveLocked(const CallContext& context, LoadedContainer& loaded,
                                            bool force, VolumesGo volumes) {
  const bool volumes_go =
      volumes == VolumesGo::kYes || loaded.state.volumes_go() || loaded.config.auto_remove();
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  const v1::ContainerState state =
      StateOf(loaded.state, loaded.config.restart_policy(), task.ok() ? &*task : nullptr);
  if (!force) {
    if (IsActive(state)) {
      const std::string name = loaded.name.empty() ? loaded.id() : loaded.name;
      return absl::FailedPreconditionError(
          absl::StrCat("cannot remove container \"/", name, "\": container is ", StateName(state),
                       state == v1::CONTAINER_STATE_PAUSED
                           ? " and must be unpaused first, or force remove"
                           : ": stop the container before removing or force remove"));
    }
    if (state == v1::CONTAINER_STATE_DEAD) {
      return absl::FailedPreconditionError(
          absl::StrCat("container ", loaded.id(),
                       " may still run, because its shim does not answer; force its removal"));
    }
  }
  absl::Status removed;
  if (task.ok()) {
    // From here on the container goes, also if the daemon dies now. After a power cut, before which
    // no caller was told of a removal, it may be there: the write that deletes the record is synced,
    // and carries this one along.
    removed = parts_.records->UpdateState(
        loaded,
        [volumes_go](record::v1::ContainerState& change) {
          change.set_removing(true);
          change.set_volumes_go(volumes_go);
          change.set_stopped_by_user(true);
          change.clear_restart_at();
        },
        metadata::Durability::kBuffered);
    CrashPoint("removal.recorded");
    if (IsActive(state) || state == v1::CONTAINER_STATE_DEAD)
      parts_.records->Publish(loaded, "kill", {{"signal", absl::StrCat(SIGKILL)}});
  }
  if (removed.ok()) removed = RemoveParts(context, loaded, volumes_go);
  if (removed.ok()) return removed;
  TryAgain(loaded, volumes_go, removed);
  return absl::UnavailableError(
      absl::StrCat("container ", loaded.id(),
                   ": its removal goes on by itself; it waits for: ", removed.message()));
}

absl::Status ContainerRemoval::RemoveParts(const CallContext& context, LoadedContainer& loaded,
                                           bool volumes_go) {
  Stores& stores = *parts_.stores;
  if (parts_.tasks->view().Exists(context.ns, loaded.id())) {
    const absl::Status gone =
        parts_.tasks->Delete(context, loaded.id(), "", /*force=*/true).status();
    if (!gone.ok() && !absl::IsNotFound(gone)) return gone;
  }
  if (parts_.networks != nullptr)
    GANTRY_RETURN_IF_ERROR(parts_.networks->Leave(context, loaded.id()));
  if (parts_.run_volumes != nullptr) parts_.run_volumes->Leave(context, loaded);
  if (!loaded.record.snapshot_key().empty() && loaded.ours) {
    GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                            stores.Snapshots(loaded.record.snapshotter(), loaded.scope));
    const absl::Status removed = snapshots.Remove(loaded.record.snapshot_key());
    if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  }
  CrashPoint("snapshot.removed");
  std::vector<std::string> volumes;
  if (volumes_go && parts_.volumes != nullptr) volumes = AnonymousVolumes(loaded.config);
  if (!volumes.empty()) GANTRY_RETURN_IF_ERROR(parts_.volumes->holds().NoteGoing(context, volumes));
  parts_.subjects->Departs(context.ns, loaded.id());
  // The record of a container that removes itself, which a power cut brings back, is removed at the
  // next start.
  const absl::Status deleted =
      stores.containers.Delete(loaded.scope, loaded.id(),
                               loaded.config.auto_remove() ? metadata::Durability::kBuffered
                                                           : metadata::Durability::kSynced);
  CrashPoint("container.forgotten");
  if (!deleted.ok() && !absl::IsNotFound(deleted)) return deleted;
  if (!volumes.empty()) parts_.volumes->holds().RemoveUnused(context, volumes);
  {
    absl::MutexLock lock(&mu_);
    failed_.erase({context.ns, loaded.id()});
  }
  if (loaded.ours || loaded.damaged) {
    // Nothing waits for it: the id is never used again. What a crash leaves the next start sweeps,
    // what cannot be removed now the next collection.
    std::vector<std::string> directories = {parts_.records->Directory(context.ns, loaded.id())};
    v1::ContainerConfig config = loaded.config;
    if (loaded.damaged) config.set_auto_remove(true);  // it may have been
    const std::string generated =
        parts_.records->GeneratedDirectory(context.ns, loaded.id(), config);
    if (generated != directories.front()) directories.push_back(generated);
    parts_.workers->Schedule([records = parts_.records, ns = context.ns, id = loaded.id(),
                              directories = std::move(directories)] {
      for (const std::string& directory : directories) {
        if (const absl::Status files = RemoveTree(directory); !files.ok())
          LOG(WARNING) << "ns=" << ns << " id=" << id
                       << " files left until the next collection: " << files;
      }
    });
  }
  parts_.events->Publish(context.ns, Event(EventKind::kContainer, action::kDestroy, loaded.id()));
  v1::WaitContainerResponse response;
  response.set_exit_code(loaded.state.exit_code());
  parts_.tasks->waits().EndNextExitWaits(context.ns, loaded.id());
  parts_.waits->AnswerAll({context.ns, loaded.id()}, response);
  parts_.starts->AnswerAll({context.ns, loaded.id()},
                           absl::NotFoundError(absl::StrCat("container ", loaded.id(),
                                                            " was removed before it was started")));
  return absl::OkStatus();
}

void ContainerRemoval::TryAgain(const LoadedContainer& loaded, bool volumes_go,
                                const absl::Status& why) {
  const std::pair<std::string, std::string> key(loaded.scope.ns, loaded.id());
  int failed = 0;
  {
    absl::MutexLock lock(&mu_);
    failed = failed_[key]++;
  }
  const absl::Duration pause =
      std::min(parts_.first_pause * (int64_t{1} << std::min(failed, 16)), kLongestPause);
  LOG(WARNING) << "ns=" << key.first << " id=" << key.second << " its removal waits for: " << why
               << "; tried again in " << absl::FormatDuration(pause);
  LoadedContainer changed = loaded;
  const absl::Status noted = parts_.records->UpdateState(
      changed,
      [&why, volumes_go](record::v1::ContainerState& change) {
        change.set_removing(true);
        change.set_volumes_go(volumes_go);
        change.clear_restart_at();
        change.set_removal_waits_for(std::string(why.message()));
      },
      metadata::Durability::kBuffered);
  LOG_IF(ERROR, !noted.ok() && !absl::IsNotFound(noted))
      << "ns=" << key.first << " id=" << key.second << " " << noted;
  GoOn(key.first, key.second, pause);
}

void ContainerRemoval::GoOn(const std::string& ns, const std::string& id, absl::Duration pause) {
  later_.At(pause, [this, ns, id] { Attempt(ns, id); });
}

void ContainerRemoval::Attempt(const std::string& ns, const std::string& id) {
  CallContext context;
  context.ns = ns;
  OperationLock lock;
  absl::StatusOr<LoadedContainer> loaded =
      parts_.records->LoadLocked(context, id, lock, Interruptible::kNo);
  if (!loaded.ok()) {
    LOG_IF(ERROR, !absl::IsNotFound(loaded.status()) && !absl::IsUnavailable(loaded.status()))
        << "ns=" << ns << " id=" << id << " going on with its removal: " << loaded.status();
    return;
  }
  const absl::Status removed =
      RemoveLocked(lock.Within(context), *loaded, /*force=*/true);  // logs and tries again
  LOG_IF(INFO, removed.ok()) << "ns=" << ns << " id=" << id << " removed after retries";
}

}  // namespace gantry::core
