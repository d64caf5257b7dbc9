#include "base/in_root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry {
namespace {

constexpr int kMaxLinks = 40;  // the kernel's own limit
constexpr size_t kMaxNames = 4096;

}  // namespace

UniqueFd OpenInRoot(int root, const std::string& path, int flags) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  // A ".." cannot be resolved while names or mounts change anywhere on the host: EAGAIN says so.
  int fd = -1;
  for (int tries = 0; tries < 1000; ++tries) {
    fd = static_cast<int>(
        syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return UniqueFd(fd);
}

absl::StatusOr<std::string> FollowLinksInRoot(int root, absl::string_view path) {
  std::vector<std::string> rest;
  const auto push = [&rest](absl::string_view text) {
    const std::vector<std::string> names = absl::StrSplit(text, '/', absl::SkipEmpty());
    rest.insert(rest.end(), names.rbegin(), names.rend());
  };
  push(path);
  std::vector<std::string> done;
  int links = 0;
  while (!rest.empty()) {
    const std::string name = std::move(rest.back());
    rest.pop_back();
    if (name == ".") continue;
    if (name == "..") {
      if (!done.empty()) done.pop_back();
      continue;
    }
    const UniqueFd directory = OpenInRoot(root, absl::StrJoin(done, "/"), O_PATH | O_DIRECTORY);
    char target[4096];
    const ssize_t n =
        directory.valid() ? readlinkat(directory.get(), name.c_str(), target, sizeof target) : -1;
    if (n < 0) {  // no link, or nothing there
      done.push_back(name);
      continue;
    }
    if (++links > kMaxLinks) return gantry::ErrnoToStatus(ELOOP, path);
    const absl::string_view text(target, static_cast<size_t>(n));
    if (absl::StartsWith(text, "/")) done.clear();
    push(text);
    if (rest.size() + done.size() > kMaxNames) return gantry::ErrnoToStatus(ENAMETOOLONG, path);
  }
  return absl::StrCat("/", absl::StrJoin(done, "/"));
}

absl::StatusOr<UniqueFd> OpenOrMakeInRoot(int root, const std::string& path, bool directory) {
  const int kind = directory ? O_DIRECTORY : 0;
  UniqueFd found = OpenInRoot(root, path, O_PATH | kind);
  if (found.valid()) return found;
  if (errno != ENOENT) return ErrnoToStatus(errno, path);
  GANTRY_ASSIGN_OR_RETURN(const std::string real, FollowLinksInRoot(root, path));
  const std::vector<std::string> names = absl::StrSplit(real, '/', absl::SkipEmpty());
  UniqueFd at = OpenInRoot(root, "", O_PATH | O_DIRECTORY);
  for (size_t i = 0; i < names.size() && at.valid(); ++i) {
    const bool last = i + 1 == names.size();
    if (last && !directory) {
      const UniqueFd made(openat(at.get(), names[i].c_str(),
                                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
      if (!made.valid() && errno != EEXIST) return ErrnoToStatus(errno, path);
    } else if (mkdirat(at.get(), names[i].c_str(), 0755) != 0 && errno != EEXIST) {
      return ErrnoToStatus(errno, path);
    }
    // A link that was put here meanwhile is not followed.
    at.reset(openat(at.get(), names[i].c_str(),
                    O_PATH | O_NOFOLLOW | O_CLOEXEC | (last ? kind : O_DIRECTORY)));
  }
  if (!at.valid()) return ErrnoToStatus(errno, path);
  return at;
}

}  // namespace gantry
