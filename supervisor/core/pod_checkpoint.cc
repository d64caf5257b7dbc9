// Checkpoints of containers of pods: a process frozen to disk by CRIU, with what it needs beside.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include <nlohmann/json.hpp>

#include "base/byte_stream.h"
#include "base/errno_status.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/tar/tree_writer.h"
#include "base/tar/writer.h"
#include "base/unique_fd.h"
#include "snapshotter/layer_diff.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_entry.h"
#include "supervisor/core/pod_member.h"
#include "supervisor/core/pod_view.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

constexpr size_t kMostLogBytes = 256 << 20;

// Where an unfinished archive or its parts are, until it is whole.
class Scratch {
 public:
  explicit Scratch(std::string path) : path_(std::move(path)) {}
  ~Scratch() {
    const absl::Status removed = RemoveTree(path_);
    LOG_IF(WARNING, !removed.ok()) << "files of a checkpoint stay: " << removed;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

std::string TimeText(absl::Time at) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", at, absl::UTCTimeZone());
}

// What the archive says of the container, by the names that tools for checkpoints look for.
nlohmann::json ConfigDump(const LoadedContainer& loaded, const std::string& runtime) {
  nlohmann::json dump = {{"id", loaded.id()},
                         {"name", loaded.name},
                         {"rootfsImage", loaded.record.image()},
                         {"rootfsImageRef", ImageOfContainer(loaded.record)},
                         {"rootfsImageName", loaded.record.image()},
                         {"runtime", runtime},
                         {"checkpointedTime", TimeText(absl::Now())},
                         {"restored", false}};
  const google::protobuf::Timestamp& created = loaded.record.created_at();
  dump["createdTime"] =
      TimeText(absl::FromUnixSeconds(created.seconds()) + absl::Nanoseconds(created.nanos()));
  return dump;
}

absl::Status WriteJson(const std::string& path, const nlohmann::json& value) {
  return WriteFile(path, value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n",
                   0600);
}

}  // namespace

absl::Status PodContainers::Checkpoint(const CallContext& context, const std::string& container,
                                       const std::string& location) {
  if (!absl::StartsWith(location, "/"))
    return FieldError("location", absl::StrCat("\"", location, "\" is not an absolute path"));
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded, Load(context, container));
  GANTRY_ASSIGN_OR_RETURN(const EntryPtr entry, pods_.Find(context, loaded.record.sandbox()));
  GANTRY_ASSIGN_OR_RETURN(const runtime::RuntimeInfo runtime,
                          parts_.runtimes->Resolve(entry->config->runtime()));
  if (!runtime.checkpoint) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", loaded.id().substr(0, 12), ": checkpoint: the runtime ", runtime.path,
        " is built without CRIU; use one whose features list it, such as Debian's runc"));
  }
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (!task.ok() || task->status != ProcessStatus::kRunning) {
    return absl::FailedPreconditionError(
        absl::StrCat("container ", loaded.id().substr(0, 12), ": checkpoint: it is not running"));
  }
  // On the disk, as images of processes are as large as their memory; it goes with the container's
  // directory if this daemon ends.
  const Scratch scratch(absl::StrCat(parts_.records->Directory(context.ns, loaded.id()),
                                     "/checkpoint-", absl::ToUnixNanos(absl::Now())));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(scratch.path() + "/checkpoint", 0700));
  GANTRY_RETURN_IF_ERROR(FreezeTo(context, loaded, scratch.path()));
  GANTRY_RETURN_IF_ERROR(WriteRootChanges(context, loaded, scratch.path()));
  GANTRY_RETURN_IF_ERROR(
      WriteFile(scratch.path() + "/spec.dump", loaded.record.spec().value(), 0600));
  GANTRY_RETURN_IF_ERROR(
      WriteJson(scratch.path() + "/config.dump", ConfigDump(loaded, runtime.path)));
  GANTRY_RETURN_IF_ERROR(
      WriteJson(scratch.path() + "/status", {{"pid", task->pid},
                                             {"startedAt", absl::ToUnixNanos(task->started_at)},
                                             {"state", "running"}}));
  const auto log = loaded.record.extensions().find(kPodLogExtension);
  if (log != loaded.record.extensions().end() && !log->second.value().empty()) {
    const absl::StatusOr<std::string> lines = ReadFile(log->second.value(), kMostLogBytes);
    // A log that was rotated just now, or is larger than any archive should be, is left out.
    if (lines.ok())
      GANTRY_RETURN_IF_ERROR(WriteFile(scratch.path() + "/container.log", *lines, 0600));
  }

  // Beside its place first: who finds the archive finds all of it.
  const std::string unfinished = absl::StrCat(location, ".unfinished");
  UniqueFd file(
      open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("checkpoint: ", unfinished));
  absl::Cleanup remove_unfinished = [&] { unlink(unfinished.c_str()); };
  FdSink sink(file.get());
  TarWriter tar(sink);
  TreeWriterOptions options;
  options.cancel = context.cancel;
  TreeWriter tree(tar, options);
  UniqueFd parts(open(scratch.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parts.valid()) return ErrnoToStatus(errno, scratch.path());
  GANTRY_RETURN_IF_ERROR(tree.AddChildren(std::move(parts), ""));
  GANTRY_RETURN_IF_ERROR(tar.Finish());
  if (fsync(file.get()) != 0 || rename(unfinished.c_str(), location.c_str()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("checkpoint: ", location));
  std::move(remove_unfinished).Cancel();
  return SyncDirectory(location.substr(0, location.rfind('/') + 1));
}

absl::Status PodContainers::FreezeTo(const CallContext& context, const LoadedContainer& loaded,
                                     const std::string& directory) {
  shim::v1::CheckpointRequest request;
  request.set_image_path(directory + "/checkpoint");
  request.set_work_path(directory);
  request.set_leave_running(true);
  request.set_tcp_established(true);
  const absl::Status frozen = parts_.tasks->Checkpoint(context, loaded.id(), request);
  if (frozen.ok()) return frozen;
  // CRIU says why in its log, and the runtime only that it failed.
  std::string why(frozen.message());
  const absl::StatusOr<std::string> log = ReadFile(directory + "/dump.log", 16 << 20);
  if (log.ok()) {
    const size_t error = log->rfind("Error (");
    if (error != std::string::npos)
      absl::StrAppend(&why, "; CRIU: ", log->substr(error, log->find('\n', error) - error));
  }
  return absl::Status(frozen.code(),
                      absl::StrCat("container ", loaded.id().substr(0, 12), ": checkpoint: ", why));
}

absl::Status PodContainers::WriteRootChanges(const CallContext& context,
                                             const LoadedContainer& loaded,
                                             const std::string& directory) {
  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          parts_.stores->Snapshots(loaded.record.snapshotter(), loaded.scope));
  GANTRY_ASSIGN_OR_RETURN(const snapshot::Info info, snapshots.Stat(loaded.record.snapshot_key()));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<snapshot::Mount> newer,
                          snapshots.Mounts(loaded.record.snapshot_key()));
  const std::string view =
      absl::StrCat(loaded.id(), "-checkpoint-", absl::ToUnixNanos(absl::Now()));
  std::vector<snapshot::Mount> older;
  if (!info.parent.empty()) {
    GANTRY_ASSIGN_OR_RETURN(older, snapshots.View(view, info.parent, {}));
  }
  const absl::Cleanup remove_view = [&] {
    if (info.parent.empty()) return;
    const absl::Status removed = snapshots.Remove(view);
    LOG_IF(WARNING, !removed.ok()) << "the view of a checkpoint stays: " << removed;
  };
  const std::string path = directory + "/rootfs-diff.tar";
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoToStatus(errno, path);
  FdSink sink(file.get());
  snapshot::DiffOptions options;
  options.cancel = context.cancel;
  GANTRY_RETURN_IF_ERROR(snapshot::WriteDiff(older, newer, sink, options).status());
  // Whiteouts of the archive say it too; tools read it here.
  nlohmann::json deleted = nlohmann::json::array();
  GANTRY_RETURN_IF_ERROR(snapshot::ListChanges(
      older, newer,
      [&deleted](const snapshot::Change& change) {
        if (change.kind == snapshot::ChangeKind::kDeleted) deleted.push_back(change.path);
        return absl::OkStatus();
      },
      context.cancel));
  return WriteJson(directory + "/deleted.files", deleted);
}

}  // namespace gantry::core
