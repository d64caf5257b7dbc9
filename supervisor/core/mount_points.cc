#include "supervisor/core/mount_points.h"

#include <errno.h>
#include <sys/stat.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::core {
namespace {

// Longer stacks reach the kernel on ways where each layer and its place count; they stay as they
// are.
constexpr size_t kMaxStackBytes = 2048;

}  // namespace

absl::StatusOr<MountPoints> MountPoints::Open(const std::string& root) {
  if (root.find_first_of(":,\\\n") != std::string::npos) return MountPoints("");
  const std::string directory = root + "/mount-points";
  for (const char* path : {"", "/dev", "/etc", "/proc", "/sys"}) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(directory + path, 0755));
    // Whatever the umask took away: the container sees these modes.
    if (chmod((directory + path).c_str(), 0755) != 0)
      return ErrnoToStatus(errno, absl::StrCat("chmod ", directory, path));
  }
  for (const char* path : {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
    GANTRY_RETURN_IF_ERROR(WriteFile(directory + path, "", 0644));
  return MountPoints(directory);
}

std::vector<snapshot::Mount> MountPoints::Below(std::vector<snapshot::Mount> rootfs) const {
  if (directory_.empty()) return rootfs;
  for (snapshot::Mount& mount : rootfs) {
    if (mount.type != "overlay") continue;
    for (std::string& option : mount.options) {
      if (absl::StartsWith(option, "lowerdir=") &&
          option.size() + directory_.size() < kMaxStackBytes) {
        absl::StrAppend(&option, ":", directory_);
      }
    }
  }
  return rootfs;
}

}  // namespace gantry::core
