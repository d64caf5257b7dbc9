// How much disk a directory tree takes.
#ifndef GANTRY_SNAPSHOTTER_TREE_USAGE_H_
#define GANTRY_SNAPSHOTTER_TREE_USAGE_H_

#include <string>

#include "absl/status/statusor.h"

#include "snapshotter/snapshotter.h"

namespace gantry::snapshot {

// Blocks and inodes of `root` and everything below it on its file system, hard links counted once.
// What disappears meanwhile is not counted. Takes a few dozen descriptors, however deep the tree
// is.
absl::StatusOr<Usage> UsageOfTree(const std::string& root);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_TREE_USAGE_H_
