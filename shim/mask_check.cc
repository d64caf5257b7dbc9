#include "shim/mask_check.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

bool IsNullDevice(const struct stat& info) {
  return S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3);
}

// Directories are hidden under an empty one of another file system.
bool IsOfTheKernel(int fd) {
  struct statfs info;
  if (fstatfs(fd, &info) != 0) return true;
  return info.f_type == PROC_SUPER_MAGIC || info.f_type == SYSFS_MAGIC;
}

}  // namespace

absl::Status CheckMasks(pid_t pid, const std::vector<std::string>& masked_paths) {
  const UniqueFd root(open(absl::StrCat("/proc/", pid, "/root").c_str(), O_PATH | O_CLOEXEC));
  if (!root.valid()) return ErrnoToStatus(errno, "look at the container's root");
  for (const std::string& path : masked_paths) {
    struct open_how how = {};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    const UniqueFd fd(
        static_cast<int>(syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how)));
    if (!fd.valid() && (errno == ENOENT || errno == ENOTDIR)) continue;
    struct stat info;
    if (!fd.valid() || fstat(fd.get(), &info) != 0)
      return ErrnoToStatus(errno, absl::StrCat("look whether ", path, " is hidden"));
    const bool hidden = S_ISDIR(info.st_mode) ? !IsOfTheKernel(fd.get()) : IsNullDevice(info);
    if (hidden) continue;
    return absl::PermissionDeniedError(
        absl::StrCat(path,
                     " is not hidden: /dev/null, with which the runtime hides it, was something "
                     "else at that moment. "
                     "Whoever shares the container's /dev may have changed it; mount nothing "
                     "there, or let the container "
                     "see all by --security-opt systempaths=unconfined"));
  }
  return absl::OkStatus();
}

}  // namespace gantry::shim
