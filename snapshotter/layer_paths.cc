#include "snapshotter/layer_paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"

namespace gantry::snapshot {
namespace {

constexpr size_t kNameBytes = 255;

bool IsPlain(absl::string_view path) {
  if (path.empty() || path.front() == '/' || path.front() == '.' || path.back() == '/')
    return false;
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    if (path[i] == '/' && (path[i + 1] == '/' || path[i + 1] == '.')) return false;
  }
  return true;
}

UniqueFd OpenIn(int root, const std::string& path, int flags, uint64_t resolve) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.resolve = resolve;
  while (true) {
    const long fd =
        syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof(how));
    // A rename anywhere on the machine while ".." is resolved makes the kernel ask for another try.
    if (fd < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    return UniqueFd(static_cast<int>(fd));
  }
}

}  // namespace

absl::StatusOr<std::string> CleanLayerPath(absl::string_view path, int max_depth) {
  // Nearly all paths need no cleaning beyond "./" in front and "/" behind.
  while (path.size() > 1 && path[0] == '.' && path[1] == '/') path.remove_prefix(2);
  if (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  size_t depth = 0;
  size_t longest = 0;
  std::string clean;
  if (IsPlain(path)) {
    depth = 1;
    size_t name = 0;
    for (const char c : path) {
      if (c == '/') {
        ++depth;
        name = 0;
      } else {
        longest = std::max(longest, ++name);
      }
    }
    clean = std::string(path);
  } else {
    std::vector<absl::string_view> kept;
    for (const absl::string_view name : absl::StrSplit(path, '/')) {
      if (name.empty() || name == ".") continue;
      if (name == "..") {
        if (kept.empty()) return absl::InvalidArgumentError("leads out of the layer");
        kept.pop_back();
        continue;
      }
      longest = std::max(longest, name.size());
      kept.push_back(name);
    }
    depth = kept.size();
    clean = absl::StrJoin(kept, "/");
  }
  if (longest > kNameBytes)
    return absl::InvalidArgumentError(absl::StrCat("a name of more than ", kNameBytes, " bytes"));
  if (depth > static_cast<size_t>(max_depth)) {
    return absl::InvalidArgumentError(
        absl::StrCat("nested ", depth, " deep, more than ", max_depth));
  }
  return clean;
}

absl::string_view ParentOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? absl::string_view() : path.substr(0, slash);
}

absl::string_view BaseOf(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

UniqueFd OpenBelow(int root, const std::string& path, int flags) {
  return OpenIn(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

UniqueFd OpenBelowWithoutLinks(int root, const std::string& path, int flags) {
  return OpenIn(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
}

bool IsOpaque(int directory) {
  char value[2];
  for (const char* name : {"trusted.overlay.opaque", "user.overlay.opaque"}) {
    if (fgetxattr(directory, name, value, sizeof(value)) == 1 && value[0] == 'y') return true;
  }
  return false;
}

InLayer FindInLayer(int layer, const std::string& path) {
  UniqueFd directory = OpenBelow(layer, "", O_RDONLY | O_DIRECTORY);
  if (!directory.valid()) return InLayer::kHides;
  const std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
  bool hides_below = false;
  for (size_t i = 0; i < names.size(); ++i) {
    if (IsOpaque(directory.get())) hides_below = true;
    struct stat stat;
    if (fstatat(directory.get(), names[i].c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
      return hides_below ? InLayer::kHides : InLayer::kSaysNothing;
    if (S_ISCHR(stat.st_mode) && stat.st_rdev == 0) return InLayer::kHides;
    if (i + 1 == names.size()) break;
    UniqueFd next(
        openat(directory.get(), names[i].c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.valid()) return InLayer::kHides;
    directory = std::move(next);
  }
  return InLayer::kHas;
}

absl::StatusOr<std::optional<FoundEntry>> FindInLayers(const std::vector<std::string>& layers,
                                                       const std::string& path) {
  const std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
  if (names.empty()) return std::nullopt;
  for (const std::string& layer : layers) {
    UniqueFd directory(open(layer.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid()) return ErrnoToStatus(errno, absl::StrCat("open layer ", layer));
    bool hides_below = IsOpaque(directory.get());
    for (size_t i = 0; i < names.size(); ++i) {
      struct stat stat;
      if (fstatat(directory.get(), names[i].c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT && errno != ENAMETOOLONG)
          return ErrnoToStatus(errno, absl::StrCat("stat ", path, " in ", layer));
        break;  // this layer says nothing about it
      }
      const bool last = i + 1 == names.size();
      if (S_ISCHR(stat.st_mode) && stat.st_rdev == 0) return std::nullopt;
      if (last) return FoundEntry{std::move(directory), names[i], stat.st_mode};
      if (!S_ISDIR(stat.st_mode)) return std::nullopt;
      UniqueFd next(openat(directory.get(), names[i].c_str(),
                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!next.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path, " in ", layer));
      directory = std::move(next);
      if (IsOpaque(directory.get())) hides_below = true;
    }
    if (hides_below) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace gantry::snapshot
