#include "supervisor/core/live_mounts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/in_root.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::core {
namespace {

// Runs `work` on a thread whose root is the container's.
absl::Status InMountsOf(pid_t pid, const std::function<absl::Status(int root)>& work) {
  const std::string path = absl::StrCat("/proc/", pid, "/ns/mnt");
  const UniqueFd mounts(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!mounts.valid()) return ErrnoToStatus(errno, path);
  absl::Status result;
  absl::StatusOr<std::thread> thread = NewThread([&] {
    if (unshare(CLONE_FS) != 0 || setns(mounts.get(), CLONE_NEWNS) != 0) {
      result = ErrnoToStatus(errno, absl::StrCat("entering ", path));
      return;
    }
    umask(0);
    const UniqueFd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    result = root.valid() ? work(root.get()) : ErrnoToStatus(errno, "the container's root");
  });
  GANTRY_RETURN_IF_ERROR(thread.status());
  thread->join();
  return result;
}

// Makes the mount point if it is missing.
absl::Status MoveTo(int tree, int root, const std::string& destination, bool directory) {
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd target, OpenOrMakeInRoot(root, destination, directory));
  if (move_mount(tree, "", target.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) !=
      0)
    return ErrnoToStatus(errno, absl::StrCat("mount at ", destination));
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> NewTmpfs(const oci::MountConfig& mount) {
  UniqueFd fs(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!fs.valid()) return ErrnoToStatus(errno, "tmpfs");
  unsigned int attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  for (const std::string& option : mount.options) {
    const size_t equals = option.find('=');
    if (option == "exec") {
      attributes &= ~static_cast<unsigned int>(MOUNT_ATTR_NOEXEC);
    } else if (option == "suid") {
      attributes &= ~static_cast<unsigned int>(MOUNT_ATTR_NOSUID);
    } else if (option == "dev") {
      attributes &= ~static_cast<unsigned int>(MOUNT_ATTR_NODEV);
    } else if (equals != std::string::npos) {
      if (fsconfig(fs.get(), FSCONFIG_SET_STRING, option.substr(0, equals).c_str(),
                   option.substr(equals + 1).c_str(), 0) != 0)
        return ErrnoToStatus(errno, absl::StrCat("tmpfs: option ", option));
    } else if (option != "noexec" && option != "nosuid" && option != "nodev" && option != "rw") {
      return absl::InvalidArgumentError(
          absl::StrCat("tmpfs: option ", option, " cannot be given to a running container"));
    }
  }
  if (mount.read_only) attributes |= MOUNT_ATTR_RDONLY;
  if (fsconfig(fs.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return ErrnoToStatus(errno, "tmpfs");
  UniqueFd tree(fsmount(fs.get(), FSMOUNT_CLOEXEC, attributes));
  if (!tree.valid()) return ErrnoToStatus(errno, "tmpfs");
  return tree;
}

absl::StatusOr<UniqueFd> CopyOf(const oci::MountConfig& mount, pid_t pid) {
  const unsigned int depth = mount.non_recursive ? 0 : AT_RECURSIVE;
  UniqueFd tree(
      open_tree(AT_FDCWD, mount.source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | depth));
  if (!tree.valid()) return ErrnoToStatus(errno, absl::StrCat("mount source ", mount.source));
  struct mount_attr attributes = {};
  attributes.propagation = MS_PRIVATE;
  if (mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) !=
      0)
    return ErrnoToStatus(errno, absl::StrCat("propagation of ", mount.source));
  if (!mount.uids.empty()) {
    const std::string users = absl::StrCat("/proc/", pid, "/ns/user");
    const UniqueFd map(open(users.c_str(), O_RDONLY | O_CLOEXEC));
    if (!map.valid()) return ErrnoToStatus(errno, users);
    attributes = {};
    attributes.attr_set = MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<uint64_t>(map.get());
    if (mount_setattr(tree.get(), "", AT_EMPTY_PATH | depth, &attributes, sizeof attributes) != 0)
      return ErrnoToStatus(errno, absl::StrCat("users of ", mount.source));
  }
  if (mount.read_only) {
    attributes = {};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    if (mount_setattr(tree.get(), "", AT_EMPTY_PATH | (mount.recursive_read_only ? depth : 0),
                      &attributes, sizeof attributes) != 0)
      return ErrnoToStatus(errno, absl::StrCat("read-only mount of ", mount.source));
  }
  return tree;
}

// Unmounts what is mounted there and returns it, with what is mounted below it. Invalid when
// nothing was, or it may not be bound elsewhere.
absl::StatusOr<UniqueFd> Take(pid_t pid, const std::string& destination) {
  UniqueFd taken;
  GANTRY_RETURN_IF_ERROR(InMountsOf(pid, [&](int root) -> absl::Status {
    // A link at its end is followed as it was when the mount was made.
    GANTRY_ASSIGN_OR_RETURN(const std::string path, FollowLinksInRoot(root, destination));
    const size_t slash = path.rfind('/');
    const std::string parent = path.substr(0, slash == 0 ? 1 : slash);
    const std::string name = path.substr(slash + 1);
    const UniqueFd directory = OpenInRoot(root, parent, O_PATH | O_DIRECTORY);
    if (!directory.valid()) {
      return errno == ENOENT ? absl::OkStatus()
                             : ErrnoToStatus(errno, absl::StrCat("open ", parent));
    }
    // Relative to the working directory, which is this thread's own: the container's /proc does not
    // show our descriptors.
    if (fchdir(directory.get()) != 0) return ErrnoToStatus(errno, parent);
    UniqueFd tree(
        open_tree(AT_FDCWD, name.c_str(),
                  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW));
    if (umount2(name.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      // Nothing is mounted there: what was opened is a part of another mount.
      return errno == EINVAL || errno == ENOENT
                 ? absl::OkStatus()
                 : ErrnoToStatus(errno, absl::StrCat("unmount ", destination));
    }
    taken = std::move(tree);
    return absl::OkStatus();
  }));
  return taken;
}

absl::Status PutBack(pid_t pid, const std::string& destination, const UniqueFd& tree) {
  struct stat info;
  if (fstat(tree.get(), &info) != 0) return ErrnoToStatus(errno, destination);
  return InMountsOf(pid, [&](int root) -> absl::Status {
    return MoveTo(tree.get(), root, destination, S_ISDIR(info.st_mode));
  });
}

}  // namespace

absl::Status AddLiveMount(pid_t pid, const oci::MountConfig& mount) {
  bool directory = true;
  UniqueFd tree;
  if (mount.type == oci::MountConfig::Type::kTmpfs) {
    GANTRY_ASSIGN_OR_RETURN(tree, NewTmpfs(mount));
  } else if (mount.type == oci::MountConfig::Type::kBind) {
    GANTRY_ASSIGN_OR_RETURN(tree, CopyOf(mount, pid));
    struct stat info;
    if (fstat(tree.get(), &info) != 0) return ErrnoToStatus(errno, mount.source);
    directory = S_ISDIR(info.st_mode);
  } else {
    return absl::InvalidArgumentError("only binds and tmpfs can be mounted while it runs");
  }
  return InMountsOf(pid, [&](int root) -> absl::Status {
    return MoveTo(tree.get(), root, mount.destination, directory);
  });
}

absl::Status RemoveLiveMount(pid_t pid, const std::string& destination) {
  return Take(pid, destination).status();
}

LiveMountChanges::~LiveMountChanges() {
  for (auto change = changes_.rbegin(); change != changes_.rend(); ++change) {
    const absl::Status undone = change->removed.valid()
                                    ? PutBack(pid_, change->destination, change->removed)
                                    : RemoveLiveMount(pid_, change->destination);
    // A container that has ended meanwhile has no mounts.
    LOG_IF(WARNING, !undone.ok()) << "id=" << container_ << " mount " << change->destination
                                  << " is not as before: " << undone;
  }
}

absl::Status LiveMountChanges::Add(const oci::MountConfig& mount) {
  GANTRY_RETURN_IF_ERROR(AddLiveMount(pid_, mount));
  changes_.push_back({mount.destination, UniqueFd()});
  return absl::OkStatus();
}

absl::Status LiveMountChanges::Remove(const std::string& destination) {
  GANTRY_ASSIGN_OR_RETURN(UniqueFd removed, Take(pid_, destination));
  if (removed.valid()) changes_.push_back({destination, std::move(removed)});
  return absl::OkStatus();
}

}  // namespace gantry::core
