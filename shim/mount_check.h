// Where the mounts of a spec end up in the container's root file system, looked at before the
// runtime makes them.
//
// A runtime resolves the place of a mount inside the root, and so follows links that an image put
// there: with /etc/hosts as a link to /proc/1/attr/exec the generated file is mounted, and may be
// written, in the container's /proc; with a link to /dev/null it covers the device that the runtime
// hides files of the kernel with.
//
// Functions are thread-safe. They resolve as the runtime does: inside the root, ".." at the root
// stays there.
#ifndef GANTRY_SHIM_MOUNT_CHECK_H_
#define GANTRY_SHIM_MOUNT_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::shim {

struct PlannedMount {
  std::string destination;
  bool bind = false;
};

// The absolute path that `path` leads to inside `root`. What does not exist is taken as it is
// written.
// kFailedPrecondition: too many links.
absl::StatusOr<std::string> ResolveInRoot(int root, absl::string_view path);

// Looks at all of them, in the order in which they are made, in `rootfs` as it is before any of
// them. Returns whether one of them, by a link of the image or by lying in another bind mount, may
// come to lie elsewhere than it says.
//   kFailedPrecondition  a link of the image takes a bind mount into /proc, /sys or /dev, or one of a file in /etc into the place of
//                        another mount
absl::StatusOr<bool> MountsMayMove(const std::string& rootfs,
                                   const std::vector<PlannedMount>& mounts);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_MOUNT_CHECK_H_
