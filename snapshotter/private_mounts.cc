#include "snapshotter/private_mounts.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::snapshot {
namespace {

// Makes `directory`, a mount point, the root of this thread.
absl::Status EnterRoot(const std::string& directory) {
  if (chdir(directory.c_str()) != 0) return ErrnoToStatus(errno, absl::StrCat("enter ", directory));
  if (syscall(SYS_pivot_root, ".", ".") == 0) {
    // The old root now lies on top of the new one.
    if (umount2(".", MNT_DETACH) != 0)
      return ErrnoToStatus(errno, absl::StrCat("leave the host's tree for ", directory));
  } else {
    // The first root of a machine that runs from its initramfs cannot be pivoted away.
    if (errno != EINVAL) return ErrnoToStatus(errno, absl::StrCat("pivot to ", directory));
    if (mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0) {
      return ErrnoToStatus(errno, absl::StrCat("change root to ", directory));
    }
  }
  if (chdir("/") != 0) return ErrnoToStatus(errno, absl::StrCat("enter ", directory));
  return absl::OkStatus();
}

}  // namespace

absl::Status RunWithPrivateMounts(const std::function<absl::Status()>& work) {
  absl::Status status;
  GANTRY_ASSIGN_OR_RETURN(std::thread thread, NewThread([&] {
                            // Unsharing mounts unshares root, working directory and umask of the
                            // thread too.
                            if (unshare(CLONE_NEWNS) != 0) {
                              status =
                                  ErrnoToStatus(errno, "new mount namespace (needs CAP_SYS_ADMIN)");
                              return;
                            }
                            // Nothing goes out; what the host unmounts still goes away here.
                            if (mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0) {
                              status = ErrnoToStatus(errno, "make mounts private");
                              return;
                            }
                            status = work();
                          }));
  thread.join();
  return status;
}

absl::Status RunConfinedTo(const std::string& directory,
                           const std::function<absl::Status()>& work) {
  return RunWithPrivateMounts([&]() -> absl::Status {
    if (mount(directory.c_str(), directory.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("bind ", directory));
    }
    GANTRY_RETURN_IF_ERROR(EnterRoot(directory));
    umask(0);
    return work();
  });
}

absl::Status RunConfinedTo(absl::Span<const Mount> mounts,
                           const std::function<absl::Status()>& work) {
  const char* base = getenv("TMPDIR");
  std::string target = absl::StrCat(base == nullptr ? "/tmp" : base, "/gantry-mnt-XXXXXX");
  if (mkdtemp(target.data()) == nullptr) return ErrnoToStatus(errno, absl::StrCat("make ", target));
  const absl::Cleanup remove = [&] { rmdir(target.c_str()); };
  return RunWithPrivateMounts([&]() -> absl::Status {
    GANTRY_RETURN_IF_ERROR(MountAll(mounts, target));
    GANTRY_RETURN_IF_ERROR(EnterRoot(target));
    umask(0);
    return work();
  });
}

}  // namespace gantry::snapshot
