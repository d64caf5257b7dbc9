// Whole files and trees, with the syncing that keeps them across a power cut.
//
// Every function is thread-safe; two writers of one path are the caller's business (the last rename
// wins). Paths are plain paths of our own: what a container can influence goes through openat2 with
// RESOLVE_IN_ROOT instead.

#ifndef GANTRY_BASE_FILE_H_
#define GANTRY_BASE_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry {

// The content of a file, also of one in /proc or /sys. kNotFound; kResourceExhausted: it is larger
// than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

// Creates or replaces without syncing. A crash may leave it short.
absl::Status WriteFile(const std::string& path, absl::string_view data, mode_t mode = 0644);

// Creates or replaces: a temporary name beside it, fsync, rename, fsync of the directory. After OK
// the content survives a power cut; after an error or a crash the old content is whole, and at most
// a file named ".<name>.tmp-*" lies there.
absl::Status WriteFileAtomic(const std::string& path, absl::string_view data, mode_t mode = 0644);

// Removes what calls of WriteFileAtomic left beside `path` when they were killed. Only for the one
// owner of the file, while no other process writes it.
absl::Status RemoveAbandonedTemporaries(const std::string& path);

// Writes all bytes to an open file, whatever the kernel takes at a time.
absl::Status WriteAll(int fd, absl::string_view data);

// Makes the names in a directory (creations, renames, removals) survive a power cut.
absl::Status SyncDirectory(const std::string& path);

// The names in a directory, sorted. kNotFound: there is none.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);

// Creates what is missing of the path; `mode` (less the umask) for each directory it creates. OK if
// it is there already; kFailedPrecondition: something on the way is not a directory.
absl::Status MakeDirectories(const std::string& path, mode_t mode = 0755);

// Removes a file or a directory with everything in it; OK if there is nothing. Symlinks are
// removed, never followed, and a mount point inside is never entered: kFailedPrecondition, and what
// lies under it is untouched. Goes on past errors and returns the first. Depth and width are
// bounded by the disk only.
absl::Status RemoveTree(const std::string& path);

// The same for one name in an open directory.
absl::Status RemoveTreeAt(int directory_fd, const std::string& name);

}  // namespace gantry

#endif  // GANTRY_BASE_FILE_H_
