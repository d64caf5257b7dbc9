#include "shim/mount_check.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <deque>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

constexpr int kMaxLinks = 40;

// Of the path, when no component of it is a link. errno is ELOOP when one is.
UniqueFd OpenWithoutLinks(int root, const std::string& path) {
  struct open_how how = {};
  how.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

std::string LinkTarget(int root, const std::string& path) {
  // With O_PATH | O_NOFOLLOW the link itself may be the last component, even where no link may be
  // followed.
  const UniqueFd link = OpenWithoutLinks(root, path);
  struct stat info;
  if (!link.valid() || fstat(link.get(), &info) != 0 || !S_ISLNK(info.st_mode)) return "";
  char target[PATH_MAX];
  const ssize_t length = readlinkat(link.get(), "", target, sizeof target);
  return length <= 0 ? "" : std::string(target, static_cast<size_t>(length));
}

bool HasLinks(int root, const std::string& path) {
  const UniqueFd fd = OpenWithoutLinks(root, path);
  if (!fd.valid()) return errno == ELOOP;
  struct stat info;
  return fstat(fd.get(), &info) != 0 || S_ISLNK(info.st_mode);
}

bool IsIn(absl::string_view path, absl::string_view directory) {
  return path == directory ||
         (absl::StartsWith(path, directory) && path.substr(directory.size(), 1) == "/");
}

bool IsOfTheKernel(absl::string_view path) {
  return IsIn(path, "/proc") || IsIn(path, "/sys") || IsIn(path, "/dev");
}

// Without "." and "..", as it is written.
std::string Lexical(absl::string_view path) {
  std::vector<absl::string_view> kept;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part != "..") {
      kept.push_back(part);
    } else if (!kept.empty()) {
      kept.pop_back();
    }
  }
  return absl::StrCat("/", absl::StrJoin(kept, "/"));
}

}  // namespace

absl::StatusOr<std::string> ResolveInRoot(int root, absl::string_view path) {
  std::deque<std::string> left = absl::StrSplit(path, '/', absl::SkipEmpty());
  std::vector<std::string> done;
  int links = 0;
  while (!left.empty()) {
    const std::string part = std::move(left.front());
    left.pop_front();
    if (part == ".") continue;
    if (part == "..") {
      if (!done.empty()) done.pop_back();
      continue;
    }
    done.push_back(part);
    const std::string target = LinkTarget(root, absl::StrCat("/", absl::StrJoin(done, "/")));
    if (target.empty()) continue;
    if (++links > kMaxLinks) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": too many links"));
    }
    done.pop_back();
    if (target[0] == '/') done.clear();
    const std::vector<std::string> parts = absl::StrSplit(target, '/', absl::SkipEmpty());
    left.insert(left.begin(), parts.begin(), parts.end());
  }
  return absl::StrCat("/", absl::StrJoin(done, "/"));
}

absl::StatusOr<bool> MountsMayMove(const std::string& rootfs,
                                   const std::vector<PlannedMount>& mounts) {
  const UniqueFd root(open(rootfs.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  // The runtime finds the words for a root that is not there.
  if (!root.valid()) return true;
  bool may_move = false;
  std::vector<std::string> bind_places;
  for (const PlannedMount& mount : mounts) {
    const std::string said = Lexical(mount.destination);
    std::string place = said;
    const bool plain = said == mount.destination;
    if (!plain || HasLinks(root.get(), said)) {
      GANTRY_ASSIGN_OR_RETURN(place, ResolveInRoot(root.get(), mount.destination));
    }
    if (place != said || !plain) may_move = true;
    // The content of a bind mount may change at any time, and may hold links.
    for (const std::string& other : bind_places) {
      if (place != other && IsIn(place, other)) may_move = true;
    }
    if (mount.bind) bind_places.push_back(place);
    if (!mount.bind || place == said) continue;
    const absl::Status refused = absl::FailedPreconditionError(
        absl::StrCat("mount at ", mount.destination, ": a link in the image takes it to ", place,
                     "; use an image in which that is no link, or a link that stays where it is"));
    if (IsOfTheKernel(place) && !IsOfTheKernel(said)) return refused;
    if (!IsIn(said, "/etc") || IsIn(place, "/etc")) continue;
    for (const PlannedMount& other : mounts) {
      const std::string there = Lexical(other.destination);
      if (&other != &mount && there != "/" && IsIn(place, there)) return refused;
    }
  }
  return may_move;
}

}  // namespace gantry::shim
