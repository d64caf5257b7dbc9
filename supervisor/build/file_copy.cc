#include "supervisor/build/file_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "supervisor/build/build_paths.h"

namespace gantry::build {
namespace {

constexpr int kMaxDepth = 400;
constexpr size_t kMaxMatches = 1'000'000;

absl::Status Failed(absl::string_view what) {
  const int error = errno;
  return gantry::ErrnoToStatus(error, what);
}

absl::StatusOr<std::vector<std::string>> Names(int directory, absl::string_view shown) {
  UniqueFd again(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
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
  return names;
}

// Extended attributes that belong to a file and not to the file system it lies on.
bool IsCopied(absl::string_view name) {
  return name == "security.capability" || absl::StartsWith(name, "user.");
}

absl::Status CopyXattrs(int from, int to, const std::string& shown) {
  char list[16 << 10];
  const ssize_t length = flistxattr(from, list, sizeof list);
  if (length <= 0) return absl::OkStatus();
  for (absl::string_view name : absl::StrSplit(absl::string_view(list, static_cast<size_t>(length)),
                                               '\0', absl::SkipEmpty())) {
    if (!IsCopied(name)) continue;
    char value[64 << 10];
    const std::string key(name);
    const ssize_t size = fgetxattr(from, key.c_str(), value, sizeof value);
    if (size < 0) continue;
    if (fsetxattr(to, key.c_str(), value, static_cast<size_t>(size), 0) != 0 && errno != ENOTSUP)
      return Failed(absl::StrCat(shown, ": attribute ", key));
  }
  return absl::OkStatus();
}

absl::Status CopyBytes(int from, int to, off_t size, CancelToken* cancel,
                       const std::string& shown) {
  off_t left = size;
  bool kernel = true;
  std::unique_ptr<char[]> buffer;
  while (left > 0) {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    ssize_t n = -1;
    const size_t piece = static_cast<size_t>(std::min<off_t>(left, 8 << 20));
    if (kernel) {
      n = copy_file_range(from, nullptr, to, nullptr, piece, 0);
      if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
        kernel = false;
        continue;
      }
    } else {
      n = sendfile(to, from, nullptr, piece);
    }
    if (n < 0) {
      if (errno == EINTR) continue;
      return Failed(absl::StrCat(shown, ": copy"));
    }
    if (n == 0) break;  // it has become shorter
    left -= n;
  }
  return absl::OkStatus();
}

// Matches below one directory, component by component.
class Matcher {
 public:
  Matcher(int root, bool parents) : root_(root), parents_(parents) {}

  absl::Status Match(const std::string& done, std::vector<std::string> rest) {
    if (found_.size() > kMaxMatches) return absl::ResourceExhaustedError("too many matches");
    while (!rest.empty() && !engine::PathPattern::HasWildcards(rest.front())) {
      return Exact(done, std::move(rest));
    }
    if (rest.empty()) {
      found_.push_back(done);
      return absl::OkStatus();
    }
    const std::string pattern = rest.front();
    rest.erase(rest.begin());
    const bool any_depth = parents_ && pattern == "**";
    if (any_depth) GANTRY_RETURN_IF_ERROR(Match(done, rest));
    const UniqueFd directory = OpenInRoot(root_, done, O_RDONLY | O_DIRECTORY);
    if (!directory.valid()) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(directory.get(), done));
    GANTRY_ASSIGN_OR_RETURN(
        const engine::PathPattern compiled,
        engine::PathPattern::Parse(pattern, engine::PathPattern::Wildcards::kPlain));
    for (const std::string& name : names) {
      const std::string path = absl::StrCat(done == "/" ? "" : done, "/", name);
      if (any_depth) {
        struct stat info;
        if (fstatat(directory.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISDIR(info.st_mode)) {
          std::vector<std::string> again = rest;
          again.insert(again.begin(), "**");
          GANTRY_RETURN_IF_ERROR(Match(path, std::move(again)));
        }
        continue;
      }
      if (compiled.Matches(name)) GANTRY_RETURN_IF_ERROR(Match(path, rest));
    }
    return absl::OkStatus();
  }

  std::vector<std::string> Take() {
    std::sort(found_.begin(), found_.end());
    found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
    return std::move(found_);
  }

 private:
  // A name without wildcards; one that is not there matches nothing.
  absl::Status Exact(const std::string& done, std::vector<std::string> rest) {
    std::string path = absl::StrCat(done == "/" ? "" : done, "/", rest.front());
    rest.erase(rest.begin());
    const UniqueFd there = OpenInRoot(root_, path, O_PATH);
    if (!there.valid()) return absl::OkStatus();
    return Match(path, std::move(rest));
  }

  const int root_;
  const bool parents_;
  std::vector<std::string> found_;
};

}  // namespace

absl::StatusOr<std::vector<MatchedSource>> MatchSources(int root, const std::string& argument,
                                                        bool parents) {
  // "a/./b": what follows the pivot is kept.
  std::string pivot;
  std::string text = argument;
  if (parents) {
    const size_t at = text.find("/./");
    if (at != std::string::npos) pivot = JoinPath("/", text.substr(0, at));
  }
  const std::string cleaned = JoinPath("/", text);
  std::vector<std::string> paths;
  const bool wildcards = engine::PathPattern::HasWildcards(cleaned);
  if (wildcards) {
    Matcher matcher(root, parents);
    GANTRY_RETURN_IF_ERROR(matcher.Match("/", absl::StrSplit(cleaned, '/', absl::SkipEmpty())));
    paths = matcher.Take();
  } else {
    paths.push_back(cleaned);
  }
  std::vector<MatchedSource> sources;
  for (const std::string& path : paths) {
    MatchedSource source;
    source.name = BaseName(path);
    source.below_pivot = path.substr(pivot.size() > 1 ? pivot.size() : 0);
    GANTRY_ASSIGN_OR_RETURN(source.path, FollowLinksInRoot(root, path));
    const UniqueFd there = OpenInRoot(root, source.path, O_PATH | O_NOFOLLOW);
    struct stat info;
    if (!there.valid() || fstat(there.get(), &info) != 0) {
      if (wildcards && errno == ENOENT) continue;  // a link that leads nowhere
      if (errno == ENOENT || errno == ENOTDIR)
        return absl::NotFoundError(absl::StrCat("\"", path, "\": not found"));
      return Failed(path);
    }
    source.directory = S_ISDIR(info.st_mode);
    sources.push_back(std::move(source));
  }
  return sources;
}

FileCopy::FileCopy(int source_root, int target_root, FileCopyOptions options)
    : source_root_(source_root), target_root_(target_root), options_(std::move(options)) {}

absl::StatusOr<UniqueFd> FileCopy::MakeDirectory(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const std::string resolved, FollowLinksInRoot(target_root_, path));
  UniqueFd directory = OpenInRoot(target_root_, "/", O_RDONLY | O_DIRECTORY);
  if (!directory.valid()) return Failed(path);
  std::string done;
  for (const absl::string_view part : absl::StrSplit(resolved, '/', absl::SkipEmpty())) {
    const std::string name(part);
    absl::StrAppend(&done, "/", name);
    bool made = false;
    if (mkdirat(directory.get(), name.c_str(), 0755) == 0) {
      made = true;
    } else if (errno != EEXIST) {
      return Failed(absl::StrCat("make ", done));
    }
    UniqueFd next(
        openat(directory.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.valid()) {
      if (errno == ENOTDIR || errno == ELOOP)
        return absl::FailedPreconditionError(absl::StrCat("cannot copy to non-directory: ", done));
      return Failed(done);
    }
    if (made) {
      const auto [uid, gid] = options_.owner.value_or(std::make_pair(0u, 0u));
      if (fchown(next.get(), uid, gid) != 0) return Failed(absl::StrCat("owner of ", done));
      if (fchmod(next.get(), options_.mode.empty() ? 0755 : options_.mode.Apply(0755, true)) != 0)
        return Failed(absl::StrCat("mode of ", done));
    }
    directory = std::move(next);
  }
  return directory;
}

absl::StatusOr<std::pair<UniqueFd, std::string>> FileCopy::Place(const std::string& destination,
                                                                 const std::string& name) {
  if (!absl::EndsWith(destination, "/")) {
    const UniqueFd there = OpenInRoot(target_root_, destination, O_PATH | O_DIRECTORY);
    if (!there.valid()) {
      // A link at the end is followed; what it leads to is replaced.
      GANTRY_ASSIGN_OR_RETURN(const std::string resolved,
                              FollowLinksInRoot(target_root_, destination));
      const size_t slash = resolved.rfind('/');
      GANTRY_ASSIGN_OR_RETURN(UniqueFd directory,
                              MakeDirectory(slash == 0 ? "/" : resolved.substr(0, slash)));
      return std::make_pair(std::move(directory), resolved.substr(slash + 1));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(UniqueFd directory, MakeDirectory(destination));
  return std::make_pair(std::move(directory), name);
}

absl::Status FileCopy::Copy(const MatchedSource& source, const std::string& destination,
                            bool parents) {
  std::string to = destination;
  if (parents) {
    // The source's own directories come below the destination.
    const std::string kept = source.directory
                                 ? source.below_pivot
                                 : source.below_pivot.substr(0, source.below_pivot.rfind('/'));
    to = absl::StrCat(JoinPath(destination, absl::StripPrefix(kept, "/")), "/");
  }
  if (source.directory) {
    UniqueFd from = OpenInRoot(source_root_, source.path, O_RDONLY | O_DIRECTORY);
    if (!from.valid()) return Failed(source.path);
    const UniqueFd existing = OpenInRoot(target_root_, to, O_PATH | O_DIRECTORY);
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd directory, MakeDirectory(to));
    struct stat info;
    if (fstat(from.get(), &info) != 0) return Failed(source.path);
    GANTRY_RETURN_IF_ERROR(CopyDirectory(std::move(from), directory.get(), to, "", 0));
    // The top keeps its mode and owner and takes the time.
    const struct timespec times[2] = {info.st_mtim, info.st_mtim};
    if (futimens(directory.get(), times) != 0) return Failed(absl::StrCat("time of ", to));
    return absl::OkStatus();
  }
  const size_t slash = source.path.rfind('/');
  const UniqueFd from =
      OpenInRoot(source_root_, source.path.substr(0, slash + 1), O_RDONLY | O_DIRECTORY);
  if (!from.valid()) return Failed(source.path);
  GANTRY_ASSIGN_OR_RETURN(const auto place, Place(to, source.name));
  return CopyEntry(from.get(), source.path.substr(slash + 1), place.first.get(), place.second,
                   source.path, "", 0);
}

absl::Status FileCopy::MakeRoom(int directory, const std::string& name, const std::string& shown) {
  struct stat there;
  if (fstatat(directory, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) return absl::OkStatus();
  if (S_ISDIR(there.st_mode))
    return absl::FailedPreconditionError(
        absl::StrCat("cannot replace to directory ", shown, " with file"));
  if (unlinkat(directory, name.c_str(), 0) != 0) return Failed(absl::StrCat("replace ", shown));
  return absl::OkStatus();
}

absl::Status FileCopy::Finish(int fd, const struct stat& info, const std::string& shown) {
  const auto [uid, gid] =
      options_.owner.value_or(std::pair<uint32_t, uint32_t>(info.st_uid, info.st_gid));
  if (fchown(fd, uid, gid) != 0) return Failed(absl::StrCat("owner of ", shown));
  const uint32_t mode = info.st_mode & 07777;
  if (fchmod(fd, options_.mode.empty() ? mode : options_.mode.Apply(mode, S_ISDIR(info.st_mode))) !=
      0)
    return Failed(absl::StrCat("mode of ", shown));
  const struct timespec times[2] = {info.st_mtim, info.st_mtim};
  if (futimens(fd, times) != 0) return Failed(absl::StrCat("time of ", shown));
  return absl::OkStatus();
}

absl::Status FileCopy::CopyRegular(int from, const std::string& name, int to, const std::string& as,
                                   const struct stat& info, const std::string& shown,
                                   bool in_directory) {
  GANTRY_RETURN_IF_ERROR(MakeRoom(to, as, shown));
  const std::pair<dev_t, ino_t> id{info.st_dev, info.st_ino};
  if (info.st_nlink > 1) {
    const auto first = linked_.find(id);
    if (first != linked_.end()) {
      const size_t slash = first->second.rfind('/');
      const UniqueFd directory =
          OpenInRoot(target_root_, first->second.substr(0, slash + 1), O_PATH | O_DIRECTORY);
      if (directory.valid() &&
          linkat(directory.get(), first->second.c_str() + slash + 1, to, as.c_str(), 0) == 0)
        return absl::OkStatus();
    }
  }
  const UniqueFd source(openat(from, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat opened;
  if (!source.valid() || fstat(source.get(), &opened) != 0) return Failed(shown);
  if (opened.st_dev != info.st_dev || opened.st_ino != info.st_ino)
    return absl::AbortedError(absl::StrCat(shown, " was replaced while it was copied"));
  const UniqueFd target(
      openat(to, as.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!target.valid()) return Failed(absl::StrCat("make ", shown));
  GANTRY_RETURN_IF_ERROR(
      CopyBytes(source.get(), target.get(), info.st_size, options_.cancel, shown));
  GANTRY_RETURN_IF_ERROR(Finish(target.get(), info, shown));
  // After the owner: changing that takes capabilities away, even where it stays the same.
  GANTRY_RETURN_IF_ERROR(CopyXattrs(source.get(), target.get(), shown));
  if (info.st_nlink > 1 && in_directory) linked_[id] = shown;
  return absl::OkStatus();
}

absl::Status FileCopy::CopyEntry(int from, const std::string& name, int to, const std::string& as,
                                 const std::string& shown, const std::string& relative, int depth) {
  if (options_.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options_.cancel->Check());
  struct stat info;
  if (fstatat(from, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return Failed(shown);
  if (S_ISREG(info.st_mode)) return CopyRegular(from, name, to, as, info, shown, !relative.empty());
  if (S_ISDIR(info.st_mode)) {
    UniqueFd source(openat(from, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!source.valid()) return Failed(shown);
    if (mkdirat(to, as.c_str(), 0700) != 0 && errno != EEXIST)
      return Failed(absl::StrCat("make ", shown));
    const UniqueFd target(openat(to, as.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!target.valid())
      return absl::FailedPreconditionError(absl::StrCat("cannot copy to non-directory: ", shown));
    const int source_fd = source.get();
    const UniqueFd kept(fcntl(source_fd, F_DUPFD_CLOEXEC, 3));
    GANTRY_RETURN_IF_ERROR(
        CopyDirectory(std::move(source), target.get(), shown, relative, depth + 1));
    if (kept.valid()) GANTRY_RETURN_IF_ERROR(CopyXattrs(kept.get(), target.get(), shown));
    return Finish(target.get(), info, shown);
  }
  GANTRY_RETURN_IF_ERROR(MakeRoom(to, as, shown));
  if (S_ISLNK(info.st_mode)) {
    char target[4097];
    const ssize_t n = readlinkat(from, name.c_str(), target, sizeof target - 1);
    if (n < 0) return Failed(shown);
    target[n] = '\0';
    if (symlinkat(target, to, as.c_str()) != 0) return Failed(absl::StrCat("make ", shown));
  } else if (S_ISSOCK(info.st_mode)) {
    const UniqueFd file(openat(to, as.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return Failed(absl::StrCat("make ", shown));
    return Finish(file.get(), info, shown);
  } else if (mknodat(to, as.c_str(), info.st_mode, info.st_rdev) != 0) {
    return Failed(absl::StrCat("make ", shown));
  }
  const auto [uid, gid] =
      options_.owner.value_or(std::pair<uint32_t, uint32_t>(info.st_uid, info.st_gid));
  if (fchownat(to, as.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
    return Failed(absl::StrCat("owner of ", shown));
  if (!S_ISLNK(info.st_mode)) {
    const uint32_t mode = info.st_mode & 07777;
    if (fchmodat(to, as.c_str(), options_.mode.empty() ? mode : options_.mode.Apply(mode, false),
                 0) != 0)
      return Failed(absl::StrCat("mode of ", shown));
  }
  const struct timespec times[2] = {info.st_mtim, info.st_mtim};
  if (utimensat(to, as.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return Failed(absl::StrCat("time of ", shown));
  return absl::OkStatus();
}

absl::Status FileCopy::CopyDirectory(UniqueFd from, int to, const std::string& shown,
                                     const std::string& relative, int depth) {
  if (depth > kMaxDepth)
    return absl::ResourceExhaustedError(absl::StrCat(shown, ": directories nest too deep"));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(from.get(), shown));
  for (const std::string& name : names) {
    const std::string below = relative.empty() ? name : absl::StrCat(relative, "/", name);
    if (!options_.excludes.empty() && options_.excludes.Ignores(below)) {
      struct stat info;
      const bool directory = fstatat(from.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                             S_ISDIR(info.st_mode);
      if (!directory || !options_.excludes.MayContainTaken(below)) continue;
    }
    GANTRY_RETURN_IF_ERROR(CopyEntry(from.get(), name, to, name,
                                     absl::StrCat(shown == "/" ? "" : shown, "/", name), below,
                                     depth));
  }
  return absl::OkStatus();
}

absl::Status FileCopy::Write(absl::string_view content, const std::string& name,
                             const std::string& destination) {
  GANTRY_ASSIGN_OR_RETURN(const auto place, Place(destination, name));
  GANTRY_RETURN_IF_ERROR(MakeRoom(place.first.get(), place.second, destination));
  const UniqueFd file(openat(place.first.get(), place.second.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return Failed(absl::StrCat("make ", destination));
  while (!content.empty()) {
    const ssize_t n = write(file.get(), content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed(absl::StrCat("write ", destination));
    content.remove_prefix(static_cast<size_t>(n));
  }
  struct stat info;
  if (fstat(file.get(), &info) != 0) return Failed(destination);
  info.st_mode = S_IFREG | 0644;
  info.st_uid = 0;
  info.st_gid = 0;
  return Finish(file.get(), info, destination);
}

}  // namespace gantry::build
