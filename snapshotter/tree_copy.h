// Exact copies of files and trees: content with its holes, owners, modes, times, extended
// attributes, hard links, devices.
// Blocks are shared where the file system can.
//
// Both sides are reached by descriptors and plain names; no symlink is followed.
#ifndef GANTRY_SNAPSHOTTER_TREE_COPY_H_
#define GANTRY_SNAPSHOTTER_TREE_COPY_H_

#include <string>

#include "absl/status/status.h"

namespace gantry::snapshot {

// Copies what is in `from` (not the directory itself, but its attributes too) into the empty
// directory `to`.
absl::Status CopyTree(const std::string& from, const std::string& to);

// Copies one entry that is not a directory. kAlreadyExists: `to_name` is there.
absl::Status CopyEntry(int from_directory, const std::string& from_name, int to_directory,
                       const std::string& to_name);

// Gives an empty regular file the content and attributes of another.
absl::Status FillFile(int from_directory, const std::string& from_name, int to_directory,
                      const std::string& to_name);

// Owner, mode, extended attributes (but not overlayfs' own) and times of one directory onto
// another.
absl::Status CopyDirectoryAttributes(int from_directory, int to_directory);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_TREE_COPY_H_
