#include "snapshotter/native_snapshotter.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "snapshotter/tree_copy.h"
#include "snapshotter/tree_usage.h"

namespace gantry::snapshot {

NativeSnapshotter::NativeSnapshotter(const std::string& root, std::unique_ptr<SnapshotIndex> index)
    : index_(std::move(index)), directories_(root, *index_) {}

absl::StatusOr<std::unique_ptr<NativeSnapshotter>> NativeSnapshotter::Open(
    std::string root, std::unique_ptr<SnapshotIndex> index) {
  std::unique_ptr<NativeSnapshotter> snapshotter(new NativeSnapshotter(root, std::move(index)));
  GANTRY_RETURN_IF_ERROR(snapshotter->directories_.Open());
  return snapshotter;
}

std::vector<Mount> NativeSnapshotter::MountsOf(const SnapshotRecord& record) const {
  const bool writable = record.info.kind == Kind::kActive;
  // A view shows its parent; only an active snapshot has a copy.
  const uint64_t id =
      writable || record.ancestors.empty() ? record.info.directory : record.ancestors.front();
  return {{.type = "bind",
           .source = directories_.PathOf(id),
           .target = "",
           .options = {writable ? "rw" : "ro", "rbind"}}};
}

absl::StatusOr<std::vector<Mount>> NativeSnapshotter::Create(Kind kind, absl::string_view key,
                                                             absl::string_view parent,
                                                             const Labels& labels) {
  const std::string what = absl::StrCat("snapshot ", absl::CHexEscape(key));
  if (index_->Get(key).ok())
    return absl::AlreadyExistsError(absl::StrCat(what, ": already exists"));
  uint64_t below_directory = 0;
  if (!parent.empty()) {
    const absl::StatusOr<SnapshotRecord> below = index_->Get(parent);
    if (absl::IsNotFound(below.status())) {
      return absl::NotFoundError(
          absl::StrCat("parent snapshot ", absl::CHexEscape(parent), ": not found"));
    }
    if (!below.ok()) return below.status();
    if (below->info.kind != Kind::kCommitted) {
      return absl::InvalidArgumentError(
          absl::StrCat("parent snapshot ", absl::CHexEscape(parent), ": is not committed"));
    }
    below_directory = below->info.directory;
  }
  const uint64_t id = index_->ReserveId();
  const std::string directory = directories_.PathOf(id);
  // A directory that stays has no record: the next Cleanup() takes it.
  absl::Cleanup undo = [&] {
    RemoveTree(directory).IgnoreError();
    index_->Forget(id);
  };
  if (kind == Kind::kActive || below_directory == 0) {
    if (mkdir(directory.c_str(), 0755) != 0 || chmod(directory.c_str(), 0755) != 0) {
      return ErrnoToStatus(errno, absl::StrCat(what, ": mkdir ", directory));
    }
    if (below_directory != 0) {
      if (absl::Status copied = CopyTree(directories_.PathOf(below_directory), directory);
          !copied.ok()) {
        return WithContext(copied, absl::StrCat(what, ": copy of parent"));
      }
    }
  }
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record,
                          index_->Create(id, kind, key, parent, labels));
  std::move(undo).Cancel();
  return MountsOf(record);
}

absl::StatusOr<Info> NativeSnapshotter::Stat(absl::string_view key) {
  GANTRY_ASSIGN_OR_RETURN(SnapshotRecord record, index_->Get(key));
  return std::move(record.info);
}

absl::StatusOr<Info> NativeSnapshotter::Update(absl::string_view key, const Labels& labels,
                                               const std::vector<std::string>& fields) {
  GANTRY_ASSIGN_OR_RETURN(SnapshotRecord record, index_->SetLabels(key, labels, fields));
  return std::move(record.info);
}

absl::StatusOr<snapshot::Usage> NativeSnapshotter::Usage(absl::string_view key) {
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, index_->Get(key));
  if (record.info.kind == Kind::kCommitted) return record.usage;
  if (record.info.kind == Kind::kView && !record.ancestors.empty()) return snapshot::Usage();
  return UsageOfTree(directories_.PathOf(record.info.directory));
}

absl::StatusOr<std::vector<Mount>> NativeSnapshotter::Mounts(absl::string_view key) {
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, index_->Get(key));
  if (record.info.kind == Kind::kCommitted) {
    return absl::FailedPreconditionError(
        absl::StrCat("snapshot ", absl::CHexEscape(key),
                     ": is committed and cannot be mounted; prepare or view it"));
  }
  return MountsOf(record);
}

absl::StatusOr<std::vector<Mount>> NativeSnapshotter::Prepare(absl::string_view key,
                                                              absl::string_view parent,
                                                              const Labels& labels) {
  return Create(Kind::kActive, key, parent, labels);
}

absl::StatusOr<std::vector<Mount>> NativeSnapshotter::View(absl::string_view key,
                                                           absl::string_view parent,
                                                           const Labels& labels) {
  return Create(Kind::kView, key, parent, labels);
}

absl::Status NativeSnapshotter::Commit(absl::string_view name, absl::string_view key,
                                       const CommitOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, index_->Get(key));
  const std::string what = absl::StrCat("snapshot ", absl::CHexEscape(key));
  if (record.info.kind != Kind::kActive)
    return absl::FailedPreconditionError(absl::StrCat(what, ": is not active"));
  if (!options.parent.empty() && options.parent != record.info.parent) {
    return absl::FailedPreconditionError(
        absl::StrCat(what,
                     ": the native snapshotter cannot give a snapshot another parent; prepare it "
                     "on that parent"));
  }
  GANTRY_ASSIGN_OR_RETURN(const snapshot::Usage usage,
                          UsageOfTree(directories_.PathOf(record.info.directory)));
  if (options.sync) GANTRY_RETURN_IF_ERROR(directories_.Sync());
  return index_->Commit(name, key, usage, options).status();
}

absl::Status NativeSnapshotter::Share(absl::string_view name, const ShareOptions& options) {
  // The directory has the files of every layer below: a parent that was not compared with its name
  // does not show that its owner has them.
  if (!options.parent.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord parent, index_->Get(options.parent));
    if (parent.info.layer.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("snapshot ", absl::CHexEscape(options.parent), ": is not a layer"));
    }
  }
  return index_->Share(name, options).status();
}

absl::Status NativeSnapshotter::Remove(absl::string_view key) {
  return index_->Remove(key).status();
}

absl::Status NativeSnapshotter::Walk(const std::function<absl::Status(const Info&)>& visit) {
  return index_->Walk([&](const SnapshotRecord& record) { return visit(record.info); });
}

absl::Status NativeSnapshotter::Cleanup(const CancelToken* cancel) {
  return directories_.Sweep(cancel);
}

}  // namespace gantry::snapshot
