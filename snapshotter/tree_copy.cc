#include "snapshotter/tree_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::snapshot {
namespace {

constexpr int kMaxDepth = 400;

// A path by which the l*xattr calls reach an entry of an open directory.
std::string ProcPath(int directory, const std::string& name) {
  return name.empty() ? absl::StrCat("/proc/self/fd/", directory)
                      : absl::StrCat("/proc/self/fd/", directory, "/", name);
}

bool IsOverlayOwn(absl::string_view xattr) {
  return absl::StartsWith(xattr, "trusted.overlay.") || absl::StartsWith(xattr, "user.overlay.");
}

absl::Status CopyXattrs(const std::string& from, const std::string& to, bool follow) {
  const auto list = follow ? listxattr : llistxattr;
  const auto get = follow ? getxattr : lgetxattr;
  const auto set = follow ? setxattr : lsetxattr;
  std::string names(256, '\0');
  ssize_t size;
  while ((size = list(from.c_str(), names.data(), names.size())) < 0 && errno == ERANGE)
    names.resize(names.size() * 4);
  if (size < 0) {
    if (errno == EOPNOTSUPP) return absl::OkStatus();
    return ErrnoToStatus(errno, absl::StrCat("list attributes of ", from));
  }
  names.resize(static_cast<size_t>(size));
  for (const absl::string_view name : absl::StrSplit(names, '\0', absl::SkipEmpty())) {
    if (IsOverlayOwn(name)) continue;
    const std::string key(name);
    std::string value(256, '\0');
    while ((size = get(from.c_str(), key.c_str(), value.data(), value.size())) < 0 &&
           errno == ERANGE) {
      value.resize(value.size() * 4);
    }
    if (size < 0) {
      if (errno == ENODATA) continue;
      return ErrnoToStatus(errno, absl::StrCat("read attribute ", key));
    }
    if (set(to.c_str(), key.c_str(), value.data(), static_cast<size_t>(size), 0) != 0 &&
        errno != EOPNOTSUPP) {
      return ErrnoToStatus(errno, absl::StrCat("set attribute ", key));
    }
  }
  return absl::OkStatus();
}

absl::Status CopyContent(int from, int to, int64_t size) {
  if (size == 0 || ioctl(to, FICLONE, from) == 0) return absl::OkStatus();
  if (ftruncate(to, size) != 0) return ErrnoToStatus(errno, "set length");
  off_t offset = 0;
  while (offset < size) {
    off_t data = lseek(from, offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // only a hole is left
    if (data < 0) data = offset;            // the file system does not tell
    off_t end = lseek(from, data, SEEK_HOLE);
    if (end < 0) end = size;
    off_t in = data;
    off_t out = data;
    bool plain = false;
    std::unique_ptr<char[]> buffer;
    while (in < end) {
      const size_t want = static_cast<size_t>(std::min<off_t>(end - in, 1 << 24));
      ssize_t n;
      if (!plain) {
        n = copy_file_range(from, &in, to, &out, want, 0);
        if (n < 0 &&
            (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
          plain = true;
          continue;
        }
      } else {
        constexpr size_t kBuffer = 1 << 18;
        if (buffer == nullptr) buffer = std::make_unique<char[]>(kBuffer);
        n = pread(from, buffer.get(), std::min(want, kBuffer), in);
        if (n > 0) {
          n = pwrite(to, buffer.get(), static_cast<size_t>(n), out);
          in += n > 0 ? n : 0;
          out += n > 0 ? n : 0;
        }
      }
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoToStatus(errno, "copy content");
      if (n == 0) break;  // became shorter meanwhile
    }
    if (in < end) break;
    offset = end;
  }
  return absl::OkStatus();
}

// `create`: the flags that make the target or not.
absl::Status CopyRegular(int from_directory, const std::string& from_name, const struct stat& stat,
                         int to_directory, const std::string& to_name, int create) {
  const auto failed = [&](absl::string_view step) {
    return ErrnoToStatus(errno, absl::StrCat("copy ", from_name, ": ", step));
  };
  const timespec times[2] = {stat.st_atim, stat.st_mtim};
  // Not blocking: the entry may have become a FIFO since it was looked at.
  UniqueFd from(
      openat(from_directory, from_name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!from.valid()) return failed("open");
  UniqueFd to(openat(to_directory, to_name.c_str(),
                     O_WRONLY | create | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  if (!to.valid()) return failed("create");
  if (absl::Status status = CopyContent(from.get(), to.get(), stat.st_size); !status.ok()) {
    return WithContext(status, absl::StrCat("copy ", from_name));
  }
  if (fchown(to.get(), stat.st_uid, stat.st_gid) != 0) return failed("chown");
  GANTRY_RETURN_IF_ERROR(
      CopyXattrs(ProcPath(from.get(), ""), ProcPath(to.get(), ""), /*follow=*/true));
  if (fchmod(to.get(), stat.st_mode & 07777) != 0) return failed("chmod");
  if (futimens(to.get(), times) != 0) return failed("set times");
  return absl::OkStatus();
}

absl::Status CopyNonDirectory(int from_directory, const std::string& from_name,
                              const struct stat& stat, int to_directory,
                              const std::string& to_name) {
  const auto failed = [&](absl::string_view step) {
    return ErrnoToStatus(errno, absl::StrCat("copy ", from_name, ": ", step));
  };
  const timespec times[2] = {stat.st_atim, stat.st_mtim};
  if (S_ISREG(stat.st_mode))
    return CopyRegular(from_directory, from_name, stat, to_directory, to_name, O_CREAT | O_EXCL);
  if (S_ISLNK(stat.st_mode)) {
    std::string target(static_cast<size_t>(stat.st_size) + 1, '\0');
    const ssize_t n = readlinkat(from_directory, from_name.c_str(), target.data(), target.size());
    if (n < 0) return failed("read link");
    target.resize(static_cast<size_t>(n));
    if (symlinkat(target.c_str(), to_directory, to_name.c_str()) != 0) return failed("create link");
  } else if (mknodat(to_directory, to_name.c_str(), stat.st_mode & S_IFMT, stat.st_rdev) != 0) {
    return failed("create");
  }
  if (fchownat(to_directory, to_name.c_str(), stat.st_uid, stat.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
    return failed("chown");
  GANTRY_RETURN_IF_ERROR(CopyXattrs(ProcPath(from_directory, from_name),
                                    ProcPath(to_directory, to_name), /*follow=*/false));
  if (!S_ISLNK(stat.st_mode) &&
      fchmodat(to_directory, to_name.c_str(), stat.st_mode & 07777, 0) != 0)
    return failed("chmod");
  if (utimensat(to_directory, to_name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return failed("set times");
  return absl::OkStatus();
}

class TreeCopier {
 public:
  explicit TreeCopier(int to_root) : to_root_(to_root) {}

  absl::Status Copy(UniqueFd from, UniqueFd to, const std::string& path, int depth) {
    if (depth > kMaxDepth) {
      return absl::ResourceExhaustedError(
          absl::StrCat("copy ", path, ": nested more than ", kMaxDepth, " deep"));
    }
    UniqueFd from_again(fcntl(from.get(), F_DUPFD_CLOEXEC, 0));
    std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(from_again.get()), &closedir);
    if (stream == nullptr)
      return ErrnoToStatus(errno, absl::StrCat("copy ", path, ": read directory"));
    (void)from_again.release();
    while (true) {
      errno = 0;
      const dirent* entry = readdir(stream.get());
      if (entry == nullptr) break;
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      struct stat stat;
      if (fstatat(from.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        return ErrnoToStatus(errno, absl::StrCat("copy ", path, name, ": stat"));
      }
      if (S_ISDIR(stat.st_mode)) {
        if (mkdirat(to.get(), name.c_str(), 0700) != 0)
          return ErrnoToStatus(errno, absl::StrCat("copy ", path, name));
        constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        UniqueFd from_child(openat(from.get(), name.c_str(), kFlags));
        UniqueFd to_child(openat(to.get(), name.c_str(), kFlags));
        if (!from_child.valid() || !to_child.valid())
          return ErrnoToStatus(errno, absl::StrCat("copy ", path, name));
        GANTRY_RETURN_IF_ERROR(Copy(std::move(from_child), std::move(to_child),
                                    absl::StrCat(path, name, "/"), depth + 1));
        continue;
      }
      if (stat.st_nlink > 1) {
        const auto [first, fresh] =
            links_.try_emplace(std::make_pair(stat.st_dev, stat.st_ino), path + name);
        if (!fresh) {
          if (linkat(to_root_, first->second.c_str(), to.get(), name.c_str(), 0) != 0) {
            return ErrnoToStatus(errno, absl::StrCat("copy ", path, name, ": link"));
          }
          continue;
        }
      }
      GANTRY_RETURN_IF_ERROR(CopyNonDirectory(from.get(), name, stat, to.get(), name));
    }
    if (errno != 0) return ErrnoToStatus(errno, absl::StrCat("copy ", path, ": read directory"));
    return CopyDirectoryAttributes(from.get(), to.get());
  }

 private:
  const int to_root_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

}  // namespace

absl::Status CopyDirectoryAttributes(int from_directory, int to_directory) {
  struct stat stat;
  if (fstat(from_directory, &stat) != 0) return ErrnoToStatus(errno, "copy attributes: stat");
  if (fchown(to_directory, stat.st_uid, stat.st_gid) != 0)
    return ErrnoToStatus(errno, "copy attributes: chown");
  GANTRY_RETURN_IF_ERROR(
      CopyXattrs(ProcPath(from_directory, ""), ProcPath(to_directory, ""), /*follow=*/true));
  if (fchmod(to_directory, stat.st_mode & 07777) != 0)
    return ErrnoToStatus(errno, "copy attributes: chmod");
  const timespec times[2] = {stat.st_atim, stat.st_mtim};
  if (futimens(to_directory, times) != 0) return ErrnoToStatus(errno, "copy attributes: set times");
  return absl::OkStatus();
}

absl::Status CopyEntry(int from_directory, const std::string& from_name, int to_directory,
                       const std::string& to_name) {
  struct stat stat;
  if (fstatat(from_directory, from_name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("copy ", from_name));
  }
  if (S_ISDIR(stat.st_mode))
    return absl::InvalidArgumentError(absl::StrCat("copy ", from_name, ": is a directory"));
  return CopyNonDirectory(from_directory, from_name, stat, to_directory, to_name);
}

absl::Status FillFile(int from_directory, const std::string& from_name, int to_directory,
                      const std::string& to_name) {
  struct stat from;
  struct stat to;
  if (fstatat(from_directory, from_name.c_str(), &from, AT_SYMLINK_NOFOLLOW) != 0 ||
      fstatat(to_directory, to_name.c_str(), &to, AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("copy ", from_name));
  }
  if (!S_ISREG(from.st_mode) || !S_ISREG(to.st_mode))
    return absl::InvalidArgumentError(absl::StrCat("copy ", from_name, ": not a regular file"));
  return CopyRegular(from_directory, from_name, from, to_directory, to_name, 0);
}

absl::Status CopyTree(const std::string& from, const std::string& to) {
  UniqueFd from_fd(open(from.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!from_fd.valid()) return ErrnoToStatus(errno, absl::StrCat("copy ", from));
  UniqueFd to_fd(open(to.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!to_fd.valid()) return ErrnoToStatus(errno, absl::StrCat("copy to ", to));
  UniqueFd to_root(fcntl(to_fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!to_root.valid()) return ErrnoToStatus(errno, absl::StrCat("copy to ", to));
  return TreeCopier(to_root.get()).Copy(std::move(from_fd), std::move(to_fd), "", 0);
}

}  // namespace gantry::snapshot
