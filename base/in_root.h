// Paths in another root directory: that of a container, whose processes may change the tree at any
// moment.
//
// A path is resolved as if `root` were "/": "..", absolute links and links to links stay inside,
// and links of /proc that lead elsewhere are refused. What is made or read afterwards is reached
// through the descriptor that the resolution gave, never by the path again.
//
// Thread-safe: functions without state. Errors are the system's, with the path before them.
#ifndef GANTRY_BASE_IN_ROOT_H_
#define GANTRY_BASE_IN_ROOT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry {

// openat2() with RESOLVE_IN_ROOT. "" is the root itself. Invalid with errno set when it fails.
UniqueFd OpenInRoot(int root, const std::string& path, int flags);

// The absolute path in `root` that `path` leads to when every link is followed. It is spelled out
// from the first name that does not exist. Only a text: the tree may change, so it has to be
// resolved again for use.
//   FAILED_PRECONDITION or INVALID_ARGUMENT: too many links or names.
absl::StatusOr<std::string> FollowLinksInRoot(int root, absl::string_view path);

// Opens `path` (O_PATH), making what is missing: directories with mode 0755, an empty file with
// mode 0644 at the end unless `directory`. A link that leads nowhere gets its target made.
absl::StatusOr<UniqueFd> OpenOrMakeInRoot(int root, const std::string& path, bool directory);

}  // namespace gantry

#endif  // GANTRY_BASE_IN_ROOT_H_
