#include "snapshotter/snapshot_directories.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/project_quota.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/snapshot_index.h"

namespace gantry::snapshot {
namespace {

// Between two directories that a sweep removes.
constexpr absl::Duration kLongestRest = absl::Milliseconds(5);
constexpr size_t kBehind = 256;

}  // namespace

SnapshotDirectories::SnapshotDirectories(const std::string& root, SnapshotIndex& index)
    : root_(root + "/snapshots"), index_(index) {}

absl::Status SnapshotDirectories::Open() const {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(root_, 0711));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<uint64_t> ids, List());
  if (!ids.empty()) index_.SkipIds(ids.back());
  return absl::OkStatus();
}

std::string SnapshotDirectories::PathOf(uint64_t id) const { return absl::StrCat(root_, "/", id); }

absl::StatusOr<std::vector<uint64_t>> SnapshotDirectories::List() const {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(root_));
  std::vector<uint64_t> ids;
  for (const std::string& name : names) {
    uint64_t id = 0;
    // Only names that PathOf() makes: what else lies here is not ours to remove.
    if (absl::SimpleAtoi(name, &id) && absl::StrCat(id) == name) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

absl::Status SnapshotDirectories::Sweep(const CancelToken* cancel) const {
  absl::MutexLock lock(&sweep_mu_);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<uint64_t> ids, List());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<uint64_t> orphans, index_.Orphans(ids));
  if (orphans.empty()) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(index_.Sync());
  absl::Status first;
  for (const uint64_t id : orphans) {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    const absl::Time begun = absl::Now();
    (void)UnlimitTree(PathOf(id));  // a limit that stays is one of nothing
    first.Update(RemoveTree(PathOf(id)));
    // Unlinking and the creation of containers share the journal of the file system: half of the
    // time is left to others. A sweep still removes hundreds of directories a second.
    // Not when it has fallen behind: then space matters more than the others' turn.
    if (id != orphans.back() && orphans.size() < kBehind)
      absl::SleepFor(std::min(absl::Now() - begun, kLongestRest));
  }
  return first;
}

absl::Status SnapshotDirectories::Sync() const {
  UniqueFd fd(open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || syncfs(fd.get()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("sync ", root_));
  return absl::OkStatus();
}

}  // namespace gantry::snapshot
