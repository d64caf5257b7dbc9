// The directories <root>/snapshots/<id> of a snapshotter, and the removal of those that no record
// names.
//
// Thread-safe.
#ifndef GANTRY_SNAPSHOTTER_SNAPSHOT_DIRECTORIES_H_
#define GANTRY_SNAPSHOTTER_SNAPSHOT_DIRECTORIES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"

namespace gantry::snapshot {

class SnapshotIndex;

class SnapshotDirectories {
 public:
  SnapshotDirectories(const std::string& root, SnapshotIndex& index);

  // Makes the root, tells the index which ids are in use. Does not sweep: a start waits for no
  // file.
  absl::Status Open() const;

  std::string PathOf(uint64_t id) const;

  // Removes directories that no record names, and rests between them, so that others are not held
  // up. A removal that the index may still lose is synced first. `cancel` may be null.
  absl::Status Sweep(const CancelToken* cancel) const;

  // Everything on the file system below the root.
  absl::Status Sync() const;

 private:
  absl::StatusOr<std::vector<uint64_t>> List() const;

  const std::string root_;  // with "/snapshots"
  SnapshotIndex& index_;
  mutable absl::Mutex sweep_mu_;  // one sweep at a time
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_SNAPSHOT_DIRECTORIES_H_
