#include "supervisor/core/pod_namespaces.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/user_namespace.h"

namespace gantry::core {
namespace {

absl::Status OnThread(const std::function<absl::Status()>& work) {
  absl::Status result;
  GANTRY_ASSIGN_OR_RETURN(std::thread thread, NewThread([&] { result = work(); }));
  thread.join();
  return result;
}

// Keeps the namespace that `file` names at `path`.
absl::Status Pin(const std::string& file, const std::string& path) {
  const UniqueFd point(open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!point.valid()) return ErrnoToStatus(errno, path);
  if (mount(file.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return ErrnoToStatus(errno, absl::StrCat("keeping a namespace at ", path));
  return absl::OkStatus();
}

// In the calling thread's namespaces.
absl::Status WriteSysctl(const std::string& name, const std::string& value) {
  // A dot in a component, as of an interface's name, is written as a slash.
  std::string path = name;
  for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  const std::string file = absl::StrCat("/proc/sys/", path);
  const UniqueFd fd(open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sysctl ", name, ": ", ErrnoToStatus(errno, file).message()));
  }
  if (write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("sysctl ", name, "=", value, ": ", ErrnoToStatus(errno, "write").message()));
  }
  return absl::OkStatus();
}

absl::Status Settle(const PodNamespaces& wanted) {
  if (wanted.uts && !wanted.hostname.empty() &&
      sethostname(wanted.hostname.c_str(), wanted.hostname.size()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("hostname ", wanted.hostname));
  // Some may be set by the root of the namespace that they are of, and by nobody else. The thread
  // ends with this.
  if (!wanted.ids.empty() && !wanted.sysctls.empty()) {
    const uint32_t uid = HostIdOf(wanted.ids.uids, 0).value_or(0);
    if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) != 0 ||
        syscall(SYS_setresuid, -1, uid, -1) != 0)
      return ErrnoToStatus(errno, "acting as the root of a pod");
  }
  for (const auto& [name, value] : wanted.sysctls) GANTRY_RETURN_IF_ERROR(WriteSysctl(name, value));
  return absl::OkStatus();
}

struct Kind {
  const char* name;
  int flag;
};
std::vector<Kind> Kinds(const PodNamespaces& wanted) {
  std::vector<Kind> kinds;
  if (wanted.network) kinds.push_back({"net", CLONE_NEWNET});
  if (wanted.ipc) kinds.push_back({"ipc", CLONE_NEWIPC});
  if (wanted.uts) kinds.push_back({"uts", CLONE_NEWUTS});
  return kinds;
}

// With a user namespace as their owner.
absl::Status MakeOwned(const std::string& directory, const PodNamespaces& wanted, int flags) {
  GANTRY_ASSIGN_OR_RETURN(const NewNamespaces made, NewNamespaces::Make(wanted.ids, flags));
  std::vector<Kind> kinds = Kinds(wanted);
  kinds.push_back({"user", 0});
  std::vector<UniqueFd> joined;
  for (const Kind& kind : kinds) {
    GANTRY_ASSIGN_OR_RETURN(UniqueFd fd, made.Open(kind.name));
    GANTRY_RETURN_IF_ERROR(
        Pin(absl::StrCat("/proc/self/fd/", fd.get()), absl::StrCat(directory, "/", kind.name)));
    if (kind.flag != 0) joined.push_back(std::move(fd));
  }
  return OnThread([&]() -> absl::Status {
    for (const UniqueFd& fd : joined) {
      if (setns(fd.get(), 0) != 0) return ErrnoToStatus(errno, "entering a pod's namespaces");
    }
    return Settle(wanted);
  });
}

absl::Status Make(const std::string& directory, const PodNamespaces& wanted) {
  int flags = 0;
  for (const Kind& kind : Kinds(wanted)) flags |= kind.flag;
  if (!wanted.ids.empty()) return MakeOwned(directory, wanted, flags);
  if (flags == 0) return absl::OkStatus();
  return OnThread([&]() -> absl::Status {
    if (unshare(flags) != 0) return ErrnoToStatus(errno, "making a pod's namespaces");
    for (const Kind& kind : Kinds(wanted)) {
      GANTRY_RETURN_IF_ERROR(Pin(absl::StrCat("/proc/thread-self/ns/", kind.name),
                                 absl::StrCat(directory, "/", kind.name)));
    }
    return Settle(wanted);
  });
}

}  // namespace

absl::Status SharePodMounts(const std::string& directory) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0711));
  if (mount(nullptr, directory.c_str(), nullptr, MS_SHARED, nullptr) == 0) return absl::OkStatus();
  if (mount(directory.c_str(), directory.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      mount(nullptr, directory.c_str(), nullptr, MS_SHARED, nullptr) != 0)
    return ErrnoToStatus(errno, absl::StrCat("sharing mounts below ", directory));
  return absl::OkStatus();
}

void UnsharePodMounts(const std::string& directory) {
  // It stays, as EBUSY says, while pods have mounts below it.
  (void)umount2(directory.c_str(), 0);
}

absl::Status MakePodNamespaces(const std::string& directory, const PodNamespaces& wanted) {
  if (wanted.ipc) {
    const std::string shm = directory + "/shm";
    GANTRY_RETURN_IF_ERROR(MakeDirectories(shm, 0755));
    const std::string options = absl::StrCat("mode=1777,size=", wanted.shm_size_bytes);
    if (mount("shm", shm.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.c_str()) != 0)
      return ErrnoToStatus(errno, absl::StrCat("mounting ", shm));
  }
  return Make(directory, wanted);
}

bool HasPodNamespaces(const std::string& directory, const PodNamespaces& wanted) {
  const std::pair<bool, const char*> all[] = {
      {wanted.network, "net"}, {wanted.ipc, "ipc"}, {wanted.uts, "uts"}};
  for (const auto& [is_wanted, name] : all) {
    struct statfs info;
    if (is_wanted && (statfs(absl::StrCat(directory, "/", name).c_str(), &info) != 0 ||
                      info.f_type != NSFS_MAGIC))
      return false;
  }
  return true;
}

absl::Status RemovePodNamespaces(const std::string& directory) {
  for (const char* name : {"shm", "net", "ipc", "uts", "pid", "user"}) {
    const std::string path = absl::StrCat(directory, "/", name);
    // Twice where a retry mounted over a first attempt.
    while (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
    }
    if (errno != EINVAL && errno != ENOENT)
      return ErrnoToStatus(errno, absl::StrCat("unmounting ", path));
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
