#include "base/user_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry {
namespace {

absl::Status WriteMap(const std::string& path, const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& one : ranges)
    absl::StrAppend(&text, one.container_id, " ", one.host_id, " ", one.length, "\n");
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  // The kernel takes a map in one write.
  if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return ErrnoToStatus(errno, absl::StrCat("id map ", PrintIdRanges(ranges), ": write ", path));
  return absl::OkStatus();
}

// ids of the calling thread alone, where the C library changes those of all threads.
void SetFileIds(uint32_t uid, uint32_t gid) {
  syscall(SYS_setfsgid, gid);
  syscall(SYS_setfsuid, uid);
}

}  // namespace

NewNamespaces::~NewNamespaces() {
  hold_.reset();
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, __WCLONE) < 0 && errno == EINTR) {
  }
}

NewNamespaces::NewNamespaces(NewNamespaces&& other) noexcept
    : hold_(std::move(other.hold_)), pid_(std::exchange(other.pid_, -1)) {}

NewNamespaces& NewNamespaces::operator=(NewNamespaces&& other) noexcept {
  std::swap(hold_, other.hold_);
  std::swap(pid_, other.pid_);
  return *this;
}

absl::StatusOr<NewNamespaces> NewNamespaces::Make(const IdMaps& maps, int flags) {
  int hold[2];
  if (pipe2(hold, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "user namespace: pipe");
  UniqueFd hold_read(hold[0]);
  NewNamespaces made;
  made.hold_ = UniqueFd(hold[1]);
  // No exit signal: code that reaps children on SIGCHLD never sees this one. The user namespace is
  // made first, and owns the others.
  const long pid = syscall(SYS_clone, CLONE_NEWUSER | flags, nullptr, nullptr, nullptr, nullptr);
  if (pid < 0) {
    return ErrnoToStatus(errno, errno == ENOSPC
                                    ? "new user namespace: sysctl user.max_user_namespaces or that "
                                      "of another kind allows no more"
                                    : "new user namespace");
  }
  if (pid == 0) {
    close(hold[1]);
    char unused;
    (void)!read(hold[0], &unused, 1);
    _exit(0);
  }
  made.pid_ = static_cast<pid_t>(pid);
  const std::string proc = absl::StrCat("/proc/", pid);
  GANTRY_RETURN_IF_ERROR(WriteMap(proc + "/uid_map", maps.uids));
  GANTRY_RETURN_IF_ERROR(WriteMap(proc + "/gid_map", maps.gids));
  return made;
}

absl::StatusOr<NewNamespaces> NewNamespaces::MakeIn(int user_namespace, int flags) {
  int hold[2];
  int ready[2];
  if (pipe2(hold, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "namespaces: pipe");
  UniqueFd hold_read(hold[0]);
  NewNamespaces made;
  made.hold_ = UniqueFd(hold[1]);
  if (pipe2(ready, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "namespaces: pipe");
  const UniqueFd ready_read(ready[0]);
  UniqueFd ready_write(ready[1]);
  // A process of its own, because a thread cannot change its user namespace alone.
  const long pid = syscall(SYS_clone, 0, nullptr, nullptr, nullptr, nullptr);
  if (pid < 0) return ErrnoToStatus(errno, "namespaces: new process");
  if (pid == 0) {
    close(hold[1]);
    int result = 0;
    if (setns(user_namespace, CLONE_NEWUSER) != 0 || unshare(flags) != 0) result = errno;
    (void)!write(ready[1], &result, sizeof result);
    char unused;
    (void)!read(hold[0], &unused, 1);
    _exit(0);
  }
  made.pid_ = static_cast<pid_t>(pid);
  ready_write.reset();
  int result = EIO;
  if (read(ready_read.get(), &result, sizeof result) != sizeof result) result = EIO;
  if (result != 0) return ErrnoToStatus(result, "new namespaces in a user namespace");
  return made;
}

absl::StatusOr<UniqueFd> NewNamespaces::Open(const char* kind) const {
  const std::string path = absl::StrCat("/proc/", pid_, "/ns/", kind);
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  return fd;
}

absl::StatusOr<UniqueFd> NewUserNamespace(const IdMaps& maps) {
  GANTRY_ASSIGN_OR_RETURN(const NewNamespaces made, NewNamespaces::Make(maps));
  return made.Open("user");
}

absl::Status ActAsRootOf(const IdMaps& maps) {
  if (maps.empty()) return absl::OkStatus();
  const std::optional<uint32_t> uid = HostIdOf(maps.uids, 0);
  const std::optional<uint32_t> gid = HostIdOf(maps.gids, 0);
  if (!uid.has_value() || !gid.has_value())
    return absl::InvalidArgumentError("the user namespace has no root");
  // Else the kernel takes the rights over files away with the id.
  if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) != 0)
    return ErrnoToStatus(errno, "securebits of a thread");
  SetFileIds(*uid, *gid);
  return absl::OkStatus();
}

bool ActsAsRootOf(const IdMaps& maps) {
  // An id that there is none of changes nothing; the answer is what was before.
  const long uid = syscall(SYS_setfsuid, -1);
  return !maps.empty() && HostIdOf(maps.uids, 0) == static_cast<uint32_t>(uid);
}

}  // namespace gantry
