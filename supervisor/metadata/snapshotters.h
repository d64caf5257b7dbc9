// The snapshotters of this daemon, by name ("overlayfs", "native"). Immutable once the daemon runs.
//
// Snapshot keys below are "<ns>/<key>"; use SnapshotNamespace to work in one namespace.
#ifndef GANTRY_SUPERVISOR_METADATA_SNAPSHOTTERS_H_
#define GANTRY_SUPERVISOR_METADATA_SNAPSHOTTERS_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "snapshotter/snapshotter.h"

namespace gantry::metadata {

class Snapshotters {
 public:
  // `snapshotter` outlives this.
  void Add(std::string name, snapshot::Snapshotter& snapshotter) {
    by_name_.emplace(std::move(name), &snapshotter);
  }

  // kInvalidArgument: empty or unknown name; the message lists those there are.
  absl::StatusOr<snapshot::Snapshotter*> Find(absl::string_view name) const;

  const std::map<std::string, snapshot::Snapshotter*, std::less<>>& all() const { return by_name_; }

 private:
  std::map<std::string, snapshot::Snapshotter*, std::less<>> by_name_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_SNAPSHOTTERS_H_
