#include "supervisor/daemon_places.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/mount.h"

namespace gantry {
namespace {

std::string ProgramDirectory() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0) return "";
  std::string text(path, static_cast<size_t>(n));
  return text.substr(0, text.rfind('/'));
}

}  // namespace

std::string FindProgram(const std::string& given, const std::string& name,
                        const std::string& room) {
  if (!given.empty()) return given;
  const std::string here = ProgramDirectory();
  for (const std::string& path :
       {absl::StrCat(here, "/", name), absl::StrCat(here, "/../", room, "/", name),
        absl::StrCat("/usr/libexec/gantry/", name), absl::StrCat("/usr/bin/", name)}) {
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

uint64_t TakeAllDescriptors() {
  constexpr rlim_t kUsual = 1024;
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t given = std::max(limit.rlim_cur, std::min(limit.rlim_max, kUsual));
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
    PLOG(WARNING) << "the limit of open files stays at " << given;
  return given;
}

absl::Status TakeOverSocket(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoToStatus(errno, absl::StrCat("socket ", path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "socket ", path,
        ": there is something else by that name; remove it or choose another --address"));
  }
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int connected =
      connect(probe.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address);
  if (connected == 0 || errno == EAGAIN || errno == EINPROGRESS) {
    return absl::UnavailableError(absl::StrCat(
        "socket ", path, ": another daemon answers there; stop it or choose another --address"));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT)
    return ErrnoToStatus(errno, absl::StrCat("socket ", path));
  return absl::OkStatus();
}

absl::StatusOr<std::string> PersistentUuid(const std::string& root) {
  const std::string path = root + "/uuid";
  GANTRY_RETURN_IF_ERROR(RemoveAbandonedTemporaries(path));
  absl::StatusOr<std::string> stored = ReadFile(path, 64);
  if (stored.ok() && stored->size() == 36) return stored;
  absl::StatusOr<std::string> fresh = ReadFile("/proc/sys/kernel/random/uuid", 64);
  GANTRY_RETURN_IF_ERROR(fresh.status());
  fresh->resize(36);
  GANTRY_RETURN_IF_ERROR(WriteFileAtomic(path, *fresh, 0600));
  return fresh;
}

absl::Status SweepMounts(const std::string& directory) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  absl::StatusOr<std::string> mounts = ReadFile("/proc/self/mountinfo", 64 << 20);
  GANTRY_RETURN_IF_ERROR(mounts.status());
  if (absl::StrContains(*mounts, absl::StrCat(" ", directory, "/"))) {
    for (size_t at = 0;
         (at = mounts->find(absl::StrCat(" ", directory, "/"), at)) != std::string::npos;) {
      const size_t end = mounts->find(' ', at + 1);
      const std::string path = mounts->substr(at + 1, end - at - 1);
      GANTRY_RETURN_IF_ERROR(snapshot::UnmountAll(path, /*lazy=*/true));
      at = end;
    }
  }
  GANTRY_RETURN_IF_ERROR(RemoveTree(directory));
  return MakeDirectories(directory, 0700);
}

}  // namespace gantry
