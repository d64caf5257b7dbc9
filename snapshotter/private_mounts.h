// A thread whose mounts no other thread sees, and one that sees only one directory.
#ifndef GANTRY_SNAPSHOTTER_PRIVATE_MOUNTS_H_
#define GANTRY_SNAPSHOTTER_PRIVATE_MOUNTS_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "snapshotter/mount.h"

namespace gantry::snapshot {

// Runs `work` on a new thread in a mount namespace of its own and waits for it. What it mounts
// vanishes with it.
// kPermissionDenied: needs CAP_SYS_ADMIN.
absl::Status RunWithPrivateMounts(const std::function<absl::Status()>& work);

// Runs `work` on a new thread whose root and working directory are `directory`: the rest of the
// host's tree cannot be named there, by whatever path. Its umask is 0. Descriptors opened before
// keep working.
absl::Status RunConfinedTo(const std::string& directory, const std::function<absl::Status()>& work);

// The same where the root is what `mounts` show.
absl::Status RunConfinedTo(absl::Span<const Mount> mounts,
                           const std::function<absl::Status()>& work);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_PRIVATE_MOUNTS_H_
