#include "supervisor/build/tree_digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/in_root.h"
#include "base/status_macros.h"

namespace gantry::build {
namespace {

constexpr int kMaxDepth = 400;
constexpr size_t kPiece = 256 << 10;

absl::Status Failed(absl::string_view what) {
  const int error = errno;
  return gantry::ErrnoToStatus(error, what);
}

class Walk {
 public:
  Walk(const engine::IgnoreRules& excludes, CancelToken* cancel, KeyWriter& key,
       const KnownDigestFn& known)
      : excludes_(excludes), cancel_(cancel), key_(key), known_(known) {}

  absl::Status Entry(int directory, const std::string& name, const std::string& shown,
                     const std::string& relative, int depth) {
    if (depth > kMaxDepth)
      return absl::ResourceExhaustedError(absl::StrCat(shown, ": directories nest too deep"));
    if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
    struct stat info;
    if (fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return Failed(shown);
    key_.Add("path", relative);
    key_.Add("mode", absl::StrCat(info.st_mode));
    key_.Add("owner", absl::StrCat(info.st_uid, ":", info.st_gid));
    if (S_ISLNK(info.st_mode)) {
      char target[4096];
      const ssize_t n = readlinkat(directory, name.c_str(), target, sizeof target);
      if (n < 0) return Failed(shown);
      key_.Add("link", absl::string_view(target, static_cast<size_t>(n)));
      return absl::OkStatus();
    }
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))
      key_.Add("device", absl::StrCat(info.st_rdev));
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) return absl::OkStatus();
    if (S_ISREG(info.st_mode) && known_ != nullptr) {
      const std::string& digest = known_(shown);
      if (!digest.empty()) {
        if (!IsSameAsBefore(info, relative)) key_.Add("content", digest);
        return absl::OkStatus();
      }
    }
    UniqueFd file(openat(directory, name.c_str(),
                         O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC |
                             (S_ISDIR(info.st_mode) ? O_DIRECTORY : 0)));
    if (!file.valid()) return Failed(shown);
    GANTRY_RETURN_IF_ERROR(Attributes(file.get()));
    if (S_ISDIR(info.st_mode)) return Directory(std::move(file), shown, relative, depth + 1);
    if (IsSameAsBefore(info, relative)) return absl::OkStatus();
    return Content(file.get(), shown);
  }

  absl::Status Directory(UniqueFd directory, const std::string& shown, const std::string& relative,
                         int depth) {
    UniqueFd again(openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::unique_ptr<DIR, int (*)(DIR*)> stream(again.valid() ? fdopendir(again.get()) : nullptr,
                                               &closedir);
    if (stream == nullptr) return Failed(shown);
    (void)again.release();  // the stream closes it
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* item = readdir(stream.get())) {
      const absl::string_view name = item->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return Failed(shown);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      const std::string below = relative.empty() ? name : absl::StrCat(relative, "/", name);
      if (!excludes_.empty() && excludes_.Ignores(below) && !excludes_.MayContainTaken(below))
        continue;
      GANTRY_RETURN_IF_ERROR(
          Entry(directory.get(), name, absl::StrCat(shown, "/", name), below, depth));
    }
    return absl::OkStatus();
  }

 private:
  // Another name of a file that was here already; then that is in the digest.
  bool IsSameAsBefore(const struct stat& info, const std::string& relative) {
    if (info.st_nlink <= 1) return false;
    const auto [first, is_new] =
        linked_.emplace(std::make_pair(info.st_dev, info.st_ino), relative);
    if (!is_new) key_.Add("same", first->second);
    return !is_new;
  }

  absl::Status Attributes(int file) {
    char list[16 << 10];
    const ssize_t length = flistxattr(file, list, sizeof list);
    if (length <= 0) return absl::OkStatus();
    std::vector<std::string> names = absl::StrSplit(
        absl::string_view(list, static_cast<size_t>(length)), '\0', absl::SkipEmpty());
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      if (name != "security.capability" && !absl::StartsWith(name, "user.")) continue;
      char value[64 << 10];
      const ssize_t size = fgetxattr(file, name.c_str(), value, sizeof value);
      if (size < 0) continue;
      key_.Add("attribute", name);
      key_.Add("value", absl::string_view(value, static_cast<size_t>(size)));
    }
    return absl::OkStatus();
  }

  absl::Status Content(int file, const std::string& shown) {
    content::Hasher hasher;
    if (buffer_ == nullptr) buffer_ = std::make_unique<char[]>(kPiece);
    while (true) {
      const ssize_t n = read(file, buffer_.get(), kPiece);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed(shown);
      if (n == 0) break;
      hasher.Update(absl::string_view(buffer_.get(), static_cast<size_t>(n)));
    }
    key_.Add("content", hasher.Current().str());
    return absl::OkStatus();
  }

  const engine::IgnoreRules& excludes_;
  CancelToken* const cancel_;
  KeyWriter& key_;
  const KnownDigestFn& known_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
  std::unique_ptr<char[]> buffer_;
};

}  // namespace

void KeyWriter::Add(absl::string_view name, absl::string_view value) {
  hasher_.Update(absl::StrCat(name.size(), ":", name, value.size(), ":"));
  hasher_.Update(value);
}

absl::Status AddFiles(int root, const std::vector<MatchedSource>& sources,
                      const engine::IgnoreRules& excludes, CancelToken* cancel, KeyWriter& key,
                      const KnownDigestFn& known) {
  for (const MatchedSource& source : sources) {
    Walk walk(excludes, cancel, key, known);
    key.Add("source", source.directory ? "directory" : source.name);
    key.Add("kept", source.below_pivot);
    if (source.directory) {
      UniqueFd directory = OpenInRoot(root, source.path, O_RDONLY | O_DIRECTORY);
      if (!directory.valid()) return Failed(source.path);
      GANTRY_RETURN_IF_ERROR(walk.Directory(std::move(directory), source.path, "", 0));
      continue;
    }
    const size_t slash = source.path.rfind('/');
    const UniqueFd directory =
        OpenInRoot(root, source.path.substr(0, slash + 1), O_RDONLY | O_DIRECTORY);
    if (!directory.valid()) return Failed(source.path);
    GANTRY_RETURN_IF_ERROR(
        walk.Entry(directory.get(), source.path.substr(slash + 1), source.path, "", 0));
  }
  return absl::OkStatus();
}

}  // namespace gantry::build
