#include "base/tar/tree_extractor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry {
namespace {

constexpr size_t kHoleBytes = 64 << 10;

bool BeginsWithHole(absl::string_view bytes) {
  return bytes.size() >= kHoleBytes && bytes[0] == '\0' &&
         memcmp(bytes.data(), bytes.data() + 1, kHoleBytes - 1) == 0;
}

class Extractor {
 public:
  Extractor(int root, const ExtractOptions& options) : root_(root), options_(options) {}

  absl::StatusOr<int64_t> Run(ByteSource& archive) {
    TarReader tar(archive, options_.limits);
    TarEntry entry;
    int64_t count = 0;
    while (true) {
      if (options_.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options_.cancel->Check());
      GANTRY_ASSIGN_OR_RETURN(const bool more, tar.Next(entry));
      if (!more) break;
      GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> parts, Parts(entry.path));
      if (parts.empty()) continue;  // the target itself stays as it is
      if (const absl::Status status = Make(entry, parts, tar); !status.ok()) {
        return WithContext(status, absl::CHexEscape(entry.path));
      }
      ++count;
    }
    // Who sends the archive sends it to the end, whatever follows it.
    GANTRY_RETURN_IF_ERROR(tar.Drain());
    // Last: making what is inside a directory changes its time, and its mode may forbid it.
    for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
      const UniqueFd fd = Open(it->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      const timespec times[2] = {{0, UTIME_OMIT}, {it->mtime.seconds, it->mtime.nanos}};
      if (!fd.valid()) continue;  // replaced by a later entry
      if (fchmod(fd.get(), it->mode) != 0 || futimens(fd.get(), times) != 0)
        return ErrnoToStatus(errno, it->path);
    }
    return count;
  }

 private:
  struct MadeDirectory {
    std::string path;
    uint32_t mode;
    TarTime mtime;
  };

  // Components of a name, the first one renamed.
  absl::StatusOr<std::vector<std::string>> Parts(const std::string& name) const {
    std::vector<std::string> parts;
    for (const absl::string_view part : absl::StrSplit(name, '/', absl::SkipEmpty())) {
      if (part == ".") continue;
      if (part == ".." || part.find('\0') != absl::string_view::npos) {
        return absl::InvalidArgumentError(
            absl::StrCat("archive entry \"", absl::CHexEscape(name), "\" leads out of the target"));
      }
      parts.emplace_back(part);
    }
    if (parts.size() > static_cast<size_t>(options_.max_depth))
      return absl::ResourceExhaustedError(absl::StrCat("archive entry \"", absl::CHexEscape(name),
                                                       "\" is more than ", options_.max_depth,
                                                       " directories deep"));
    if (!parts.empty() && !options_.rename_root.empty()) parts[0] = options_.rename_root;
    return parts;
  }

  UniqueFd Open(const std::string& path, int flags) const {
    struct open_how how = {};
    how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
    how.resolve = options_.follow_links ? RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
                                        : RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    while (true) {
      const long fd =
          syscall(SYS_openat2, root_, path.empty() ? "." : path.c_str(), &how, sizeof how);
      // A rename anywhere on the machine while ".." is resolved makes the kernel ask for another
      // try.
      if (fd < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      return UniqueFd(static_cast<int>(fd));
    }
  }

  static absl::Status OpenError(const std::string& path) {
    if (errno == ELOOP || errno == EXDEV)
      return absl::FailedPreconditionError(
          absl::StrCat("the way to ", path, " leads through a symbolic link; refused"));
    return ErrnoToStatus(errno, path);
  }

  // The directory of an entry, made with its parents where missing, each through its own parent.
  absl::StatusOr<UniqueFd> Parent(const std::vector<std::string>& parts) const {
    const std::string path = absl::StrJoin(parts.begin(), std::prev(parts.end()), "/");
    UniqueFd fd = Open(path, O_PATH | O_DIRECTORY);
    if (fd.valid()) return fd;
    if (errno != ENOENT) return OpenError(path);
    std::string done;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const UniqueFd above = Open(done, O_PATH | O_DIRECTORY);
      if (!above.valid()) return OpenError(done);
      if (mkdirat(above.get(), parts[i].c_str(), 0755) == 0) {
        if (options_.owner == ExtractOptions::Owner::kRoot)
          GANTRY_RETURN_IF_ERROR(ChangeOwner(above.get(), parts[i], 0, 0));
      } else if (errno != EEXIST) {
        return ErrnoToStatus(errno, absl::StrCat("make directory ", path));
      }
      absl::StrAppend(&done, done.empty() ? "" : "/", parts[i]);
    }
    fd = Open(path, O_PATH | O_DIRECTORY);
    if (!fd.valid()) return OpenError(path);
    return fd;
  }

  absl::Status Make(const TarEntry& entry, const std::vector<std::string>& parts, TarReader& tar) {
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent, Parent(parts));
    const std::string& name = parts.back();
    struct stat old;
    const bool exists = fstatat(parent.get(), name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0;
    const bool to_directory = entry.type == TarType::kDirectory;
    if (exists && S_ISDIR(old.st_mode) != to_directory) {
      if (options_.no_overwrite_dir_non_dir) {
        return absl::FailedPreconditionError(
            to_directory ? "cannot overwrite a non-directory with a directory"
                         : "cannot overwrite a directory with a non-directory");
      }
    }
    if (exists && !(S_ISDIR(old.st_mode) && to_directory)) {
      if (S_ISDIR(old.st_mode)) {
        const UniqueFd readable(openat(parent.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!readable.valid()) return ErrnoToStatus(errno, "replace");
        GANTRY_RETURN_IF_ERROR(RemoveTreeAt(readable.get(), name));
      } else if (unlinkat(parent.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
        return ErrnoToStatus(errno, "replace");
      }
    }
    switch (entry.type) {
      case TarType::kFile:
        return MakeFile(parent.get(), name, entry, tar);
      case TarType::kDirectory: {
        if (mkdirat(parent.get(), name.c_str(), 0700) != 0 && errno != EEXIST)
          return ErrnoToStatus(errno, "make directory");
        const UniqueFd fd(
            openat(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd.valid()) return ErrnoToStatus(errno, "open");
        GANTRY_RETURN_IF_ERROR(SetOwner(parent.get(), name, entry));
        GANTRY_RETURN_IF_ERROR(SetXattrs(fd.get(), entry));
        directories_.push_back({absl::StrJoin(parts, "/"), entry.mode, entry.mtime});
        return absl::OkStatus();
      }
      case TarType::kHardLink:
        return MakeLink(parent.get(), name, entry);
      case TarType::kSymlink:
        if (entry.link_target.find('\0') != std::string::npos)
          return absl::InvalidArgumentError("NUL in a link target");
        if (symlinkat(entry.link_target.c_str(), parent.get(), name.c_str()) != 0)
          return ErrnoToStatus(errno, "make link");
        break;
      case TarType::kCharDevice:
      case TarType::kBlockDevice:
      case TarType::kFifo: {
        const mode_t type = entry.type == TarType::kCharDevice    ? S_IFCHR
                            : entry.type == TarType::kBlockDevice ? S_IFBLK
                                                                  : S_IFIFO;
        if (mknodat(parent.get(), name.c_str(), type | (entry.mode & 07777),
                    makedev(entry.device_major, entry.device_minor)) != 0)
          return ErrnoToStatus(errno, "make device");
        break;
      }
    }
    GANTRY_RETURN_IF_ERROR(SetOwner(parent.get(), name, entry));
    const timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime.seconds, entry.mtime.nanos}};
    if (utimensat(parent.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoToStatus(errno, "set times");
    return absl::OkStatus();
  }

  absl::Status MakeFile(int parent, const std::string& name, const TarEntry& entry,
                        TarReader& tar) {
    const UniqueFd file(
        openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid()) return ErrnoToStatus(errno, "create");
    TarData data;
    while (true) {
      if (options_.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options_.cancel->Check());
      GANTRY_ASSIGN_OR_RETURN(const bool some, tar.ReadData(data));
      if (!some) break;
      while (!data.bytes.empty()) {
        if (BeginsWithHole(data.bytes)) {
          data.bytes.remove_prefix(kHoleBytes);
          data.offset += kHoleBytes;
          continue;
        }
        const ssize_t n = pwrite(file.get(), data.bytes.data(),
                                 std::min(data.bytes.size(), kHoleBytes), data.offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return ErrnoToStatus(errno, "write");
        data.bytes.remove_prefix(static_cast<size_t>(n));
        data.offset += n;
      }
    }
    if (ftruncate(file.get(), entry.size_bytes) != 0) return ErrnoToStatus(errno, "set length");
    GANTRY_RETURN_IF_ERROR(SetOwner(parent, name, entry));
    GANTRY_RETURN_IF_ERROR(SetXattrs(file.get(), entry));
    // After the owner: changing that takes setuid bits away.
    const timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime.seconds, entry.mtime.nanos}};
    if (fchmod(file.get(), entry.mode) != 0) return ErrnoToStatus(errno, "chmod");
    if (futimens(file.get(), times) != 0) return ErrnoToStatus(errno, "set times");
    return absl::OkStatus();
  }

  absl::Status MakeLink(int parent, const std::string& name, const TarEntry& entry) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> target, Parts(entry.link_target));
    if (target.empty()) return absl::InvalidArgumentError("hard link to nothing");
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd from, Parent(target));
    if (linkat(from.get(), target.back().c_str(), parent, name.c_str(), 0) != 0)
      return ErrnoToStatus(errno, absl::StrCat("link to ", absl::CHexEscape(entry.link_target)));
    return absl::OkStatus();
  }

  absl::Status SetOwner(int parent, const std::string& name, const TarEntry& entry) const {
    if (options_.owner == ExtractOptions::Owner::kCaller) return absl::OkStatus();
    const bool kept = options_.owner == ExtractOptions::Owner::kArchive;
    return ChangeOwner(parent, name, kept ? entry.uid : 0, kept ? entry.gid : 0);
  }

  absl::Status ChangeOwner(int parent, const std::string& name, uint32_t uid, uint32_t gid) const {
    if (!options_.ids.empty()) {
      const std::optional<uint32_t> user = HostIdOf(options_.ids.uids, uid);
      const std::optional<uint32_t> group = HostIdOf(options_.ids.gids, gid);
      if (!user.has_value() || !group.has_value()) {
        return absl::OutOfRangeError(absl::StrCat("owner ", uid, ":", gid,
                                                  ": the container's user namespace has no such "
                                                  "id"));
      }
      uid = *user;
      gid = *group;
    }
    if (fchownat(parent, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoToStatus(errno, "chown");
    return absl::OkStatus();
  }

  static absl::Status SetXattrs(int fd, const TarEntry& entry) {
    for (const auto& [key, value] : entry.xattrs) {
      // trusted.* is for file systems themselves, overlayfs above all.
      if (absl::StartsWith(key, "trusted.") || absl::StartsWith(key, "user.overlay.")) continue;
      if (fsetxattr(fd, key.c_str(), value.data(), value.size(), 0) != 0 && errno != ENOTSUP &&
          errno != EPERM)
        return ErrnoToStatus(errno, absl::StrCat("set attribute ", absl::CHexEscape(key)));
    }
    return absl::OkStatus();
  }

  const int root_;
  const ExtractOptions& options_;
  std::vector<MadeDirectory> directories_;
};

}  // namespace

absl::StatusOr<int64_t> ExtractTree(ByteSource& archive, int directory,
                                    const ExtractOptions& options) {
  return Extractor(directory, options).Run(archive);
}

}  // namespace gantry
