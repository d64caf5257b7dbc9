#include "base/tar/tree_writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
// What the reader accepts for one entry.
constexpr size_t kXattrBytes = 1 << 20;

absl::StatusOr<std::string> ReadLink(int directory, const std::string& name) {
  char target[4096];
  const ssize_t n = readlinkat(directory, name.c_str(), target, sizeof target);
  if (n < 0) return ErrnoToStatus(errno, absl::StrCat("read link ", name));
  return std::string(target, static_cast<size_t>(n));
}

// Attributes that cannot be read are left out: they are the tree's own affair.
void AddXattrs(int fd, TarEntry& entry) {
  char names[64 << 10];
  const ssize_t size = flistxattr(fd, names, sizeof names);
  if (size <= 0) return;
  size_t total = 0;
  for (const absl::string_view name : absl::StrSplit(
           absl::string_view(names, static_cast<size_t>(size)), '\0', absl::SkipEmpty())) {
    if (name != "security.capability" &&
        (!absl::StartsWith(name, "user.") || absl::StartsWith(name, "user.overlay."))) {
      continue;
    }
    std::string value(64 << 10, '\0');
    const ssize_t n = fgetxattr(fd, std::string(name).c_str(), value.data(), value.size());
    if (n < 0) continue;
    value.resize(static_cast<size_t>(n));
    total += name.size() + value.size();
    if (total > kXattrBytes) return;
    entry.xattrs.emplace(name, std::move(value));
  }
}

}  // namespace

absl::Status TreeWriter::Add(int directory, const std::string& name, const std::string& path,
                             bool follow) {
  return AddAt(directory, name, path, follow, 0);
}

absl::Status TreeWriter::AddChildren(UniqueFd directory, const std::string& path) {
  struct stat info;
  if (fstat(directory.get(), &info) != 0) return ErrnoToStatus(errno, path);
  return AddChildrenAt(std::move(directory), path, info.st_dev, 0);
}

absl::Status TreeWriter::AddAt(int directory, const std::string& name, const std::string& path,
                               bool follow, int depth) {
  if (options_.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options_.cancel->Check());
  if (depth > options_.max_depth)
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": more than ", options_.max_depth, " directories deep"));
  struct stat info;
  if (fstatat(directory, name.c_str(), &info, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT && depth > 0) return absl::OkStatus();  // gone since it was listed
    return ErrnoToStatus(errno, path);
  }
  TarEntry entry;
  entry.path = path;
  entry.mode = info.st_mode & 07777;
  entry.uid = ContainerIdOf(options_.ids.uids, info.st_uid).value_or(info.st_uid);
  entry.gid = ContainerIdOf(options_.ids.gids, info.st_gid).value_or(info.st_gid);
  entry.mtime = {info.st_mtim.tv_sec, static_cast<int32_t>(info.st_mtim.tv_nsec)};
  if (!S_ISDIR(info.st_mode) && !S_ISSOCK(info.st_mode) && info.st_nlink > 1) {
    const auto [it, first] = linked_.emplace(std::make_pair(info.st_dev, info.st_ino), path);
    if (!first) {
      entry.type = TarType::kHardLink;
      entry.link_target = it->second;
      return tar_.WriteEntry(entry);
    }
  }
  switch (info.st_mode & S_IFMT) {
    case S_IFREG:
      return AddFile(directory, name, follow, std::move(entry));
    case S_IFDIR:
      return AddDirectory(directory, name, follow, std::move(entry), info, depth);
    case S_IFLNK: {
      entry.type = TarType::kSymlink;
      GANTRY_ASSIGN_OR_RETURN(entry.link_target, ReadLink(directory, name));
      return tar_.WriteEntry(entry);
    }
    case S_IFCHR:
    case S_IFBLK:
      entry.type = S_ISCHR(info.st_mode) ? TarType::kCharDevice : TarType::kBlockDevice;
      entry.device_major = major(info.st_rdev);
      entry.device_minor = minor(info.st_rdev);
      return tar_.WriteEntry(entry);
    case S_IFIFO:
      entry.type = TarType::kFifo;
      return tar_.WriteEntry(entry);
    default:
      return absl::OkStatus();  // sockets have no place in an archive
  }
}

absl::Status TreeWriter::AddChildrenAt(UniqueFd directory, const std::string& path, dev_t device,
                                       int depth) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(directory.get()), &closedir);
  if (stream == nullptr) return ErrnoToStatus(errno, path);
  const int fd = directory.release();  // the stream owns it now
  std::vector<std::string> names;
  while (const dirent* const child = readdir(stream.get())) {
    const std::string name = child->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::string child = path.empty() ? name : absl::StrCat(path, "/", name);
    if (options_.one_file_system) {
      struct stat info;
      if (fstatat(fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode) &&
          info.st_dev != device) {
        // The mount point belongs to the tree, what is mounted there does not.
        TarEntry entry;
        entry.type = TarType::kDirectory;
        entry.path = child;
        entry.mode = 0755;
        GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
        continue;
      }
    }
    GANTRY_RETURN_IF_ERROR(AddAt(fd, name, child, /*follow=*/false, depth + 1));
  }
  return absl::OkStatus();
}

absl::Status TreeWriter::AddFile(int directory, const std::string& name, bool follow,
                                 TarEntry entry) {
  // Non-blocking: what was a file a moment ago may be a FIFO now.
  const UniqueFd file(openat(directory, name.c_str(),
                             O_RDONLY | O_NONBLOCK | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW)));
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0) return ErrnoToStatus(errno, entry.path);
  if (!S_ISREG(info.st_mode))
    return absl::AbortedError(absl::StrCat(entry.path, ": changed while it was read; try again"));
  entry.type = TarType::kFile;
  entry.size_bytes = info.st_size;
  AddXattrs(file.get(), entry);
  GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
  piece_.resize(kPieceBytes);
  for (int64_t left = entry.size_bytes; left > 0;) {
    if (options_.cancel != nullptr) GANTRY_RETURN_IF_ERROR(options_.cancel->Check());
    const size_t want = static_cast<size_t>(std::min<int64_t>(left, kPieceBytes));
    ssize_t n = read(file.get(), piece_.data(), want);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, entry.path);
    if (n == 0) {
      // It shrank; the header has promised its old length.
      std::fill(piece_.begin(), piece_.end(), '\0');
      n = static_cast<ssize_t>(want);
    }
    GANTRY_RETURN_IF_ERROR(
        tar_.WriteData(absl::string_view(piece_.data(), static_cast<size_t>(n))));
    left -= n;
  }
  return absl::OkStatus();
}

absl::Status TreeWriter::AddDirectory(int directory, const std::string& name, bool follow,
                                      TarEntry entry, const struct stat& info, int depth) {
  entry.type = TarType::kDirectory;
  UniqueFd child(openat(directory, name.c_str(),
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW)));
  if (!child.valid()) {
    if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
      return ErrnoToStatus(errno, entry.path);
    return tar_.WriteEntry(entry);  // replaced meanwhile
  }
  AddXattrs(child.get(), entry);
  GANTRY_RETURN_IF_ERROR(tar_.WriteEntry(entry));
  return AddChildrenAt(std::move(child), entry.path, info.st_dev, depth);
}

}  // namespace gantry
