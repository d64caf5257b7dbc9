#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry {
namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  if (slash == 0) return "/";
  return path.substr(0, slash);
}

std::string NameOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// The start of the names beside `path` that its next content has until it is whole.
std::string TemporaryPrefix(const std::string& path) {
  return absl::StrCat(".", NameOf(path).substr(0, 200), ".tmp-");
}

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// Opens a directory entry that is a directory; -1 with errno EXDEV for a mount point, ELOOP or
// ENOTDIR for anything that is not a directory.
int OpenSubdirectory(int directory_fd, const char* name) {
  struct open_how how = {};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
  return static_cast<int>(::syscall(SYS_openat2, directory_fd, name, &how, sizeof(how)));
}

// Sets the mode of one of our own directories so that it can be listed and emptied.
void AllowOwner(int directory_fd, const char* name) {
  UniqueFd entry(::openat(directory_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!entry.valid()) return;
  ::chmod(absl::StrCat("/proc/self/fd/", entry.get()).c_str(), 0700);
}

class TreeRemover {
 public:
  absl::Status Remove(int parent_fd, const std::string& name) {
    if (::unlinkat(parent_fd, name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
    // EISDIR is Linux's answer for a directory, EPERM is POSIX's (and that of some filesystems).
    if (errno != EISDIR && errno != EPERM)
      return ErrnoToStatus(errno, absl::StrCat("remove ", name));
    const int unlink_error = errno;

    UniqueFd top = Open(parent_fd, name.c_str());
    if (!top.valid()) {
      if (errno == ENOENT) return absl::OkStatus();
      if (errno == ENOTDIR) return ErrnoToStatus(unlink_error, absl::StrCat("remove ", name));
      return EntryError(errno, name);
    }
    top_fd_ = top.get();
    for (;;) {
      removed_ = 0;
      error_ = absl::OkStatus();
      Empty(top.get(), 0);
      if (::unlinkat(parent_fd, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT)
        return absl::OkStatus();
      // Another process added names, or Empty() moved deep directories here: as long as there is
      // progress, again.
      if (errno == ENOTEMPTY && removed_ > 0) continue;
      const absl::Status last = EntryError(errno, name);
      return error_.ok() ? last : error_;
    }
  }

 private:
  // Each level holds a descriptor and stack; what lies deeper is moved up before it is entered.
  static constexpr int kMaxDepth = 24;

  UniqueFd Open(int directory_fd, const char* name) {
    UniqueFd fd(OpenSubdirectory(directory_fd, name));
    if (!fd.valid() && errno == EACCES) {
      AllowOwner(directory_fd, name);
      fd.reset(OpenSubdirectory(directory_fd, name));
    } else if (fd.valid() && ::geteuid() != 0) {
      ::fchmod(fd.get(), 0700);
    }
    return fd;
  }

  static absl::Status EntryError(int err, absl::string_view name) {
    if (err == EXDEV || err == EBUSY) {
      return absl::FailedPreconditionError(
          absl::StrCat("remove ", name, ": something is mounted there; unmount it first"));
    }
    return ErrnoToStatus(err, absl::StrCat("remove ", name));
  }

  void Note(absl::Status status) {
    if (error_.ok()) error_ = std::move(status);
  }

  void Empty(int fd, int depth) {
    const int list_fd = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR* listing = list_fd < 0 ? nullptr : ::fdopendir(list_fd);
    if (listing == nullptr) {
      Note(ErrnoToStatus(errno, "list directory"));
      if (list_fd >= 0) ::close(list_fd);
      return;
    }
    const auto close_listing = absl::MakeCleanup([listing] { ::closedir(listing); });
    // The duplicate shares its position with `fd`, which an earlier round left at the end.
    ::rewinddir(listing);
    while (struct dirent* entry = ::readdir(listing)) {
      const char* name = entry->d_name;
      if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
      RemoveEntry(fd, name, depth);
    }
  }

  void RemoveEntry(int fd, const char* name, int depth) {
    if (::unlinkat(fd, name, 0) == 0) {
      ++removed_;
      return;
    }
    if (errno == ENOENT) return;
    if (errno != EISDIR && errno != EPERM) {
      Note(EntryError(errno, name));
      return;
    }
    const int unlink_error = errno;
    if (::unlinkat(fd, name, AT_REMOVEDIR) == 0) {
      ++removed_;
      return;
    }
    if (errno == ENOENT) return;
    if (errno == ENOTDIR) {
      Note(EntryError(unlink_error, name));
      return;
    }
    if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES) {
      Note(EntryError(errno, name));
      return;
    }
    if (depth >= kMaxDepth) {
      MoveToTop(fd, name);
      return;
    }
    UniqueFd child = Open(fd, name);
    if (!child.valid()) {
      if (errno != ENOENT) Note(EntryError(errno, name));
      return;
    }
    Empty(child.get(), depth + 1);
    if (::unlinkat(fd, name, AT_REMOVEDIR) == 0) {
      ++removed_;
    } else if (errno != ENOENT && error_.ok()) {
      Note(EntryError(errno, name));
    }
  }

  void MoveToTop(int fd, const char* name) {
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const std::string free_name = absl::StrCat(".removing-", next_name_++);
      if (::renameat2(fd, name, top_fd_, free_name.c_str(), RENAME_NOREPLACE) == 0) {
        ++removed_;
        return;
      }
      if (errno != EEXIST) break;
    }
    Note(EntryError(errno, name));
  }

  int top_fd_ = -1;
  uint64_t next_name_ = 0;
  uint64_t removed_ = 0;
  absl::Status error_;
};

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  std::string result;
  // Files in /proc have no size: read until the end, one byte further than allowed.
  struct stat st;
  size_t chunk = 4096;
  if (::fstat(fd.get(), &st) == 0 && st.st_size > 0) {
    chunk = std::min(static_cast<size_t>(st.st_size), max_bytes) + 1;
  }
  for (;;) {
    const size_t before = result.size();
    const size_t want = std::min(chunk, max_bytes - before + 1);
    result.resize(before + want);
    ssize_t got;
    do {
      got = ::read(fd.get(), result.data() + before, want);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return ErrnoToStatus(errno, absl::StrCat("read ", path));
    result.resize(before + static_cast<size_t>(got));
    if (got == 0) return result;
    if (result.size() > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("read ", path, ": larger than ", max_bytes, " bytes"));
    }
    // Small again after a short read, which mostly comes before the end: each byte asked for is
    // cleared first.
    const bool was_full = static_cast<size_t>(got) == want;
    chunk = was_full ? std::clamp<size_t>(result.size(), 4096, 64 << 10) : 4096;
  }
}

absl::Status WriteAll(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0) {
      if (errno == EINTR) continue;
      return ErrnoToStatus(errno, "write");
    }
    data.remove_prefix(static_cast<size_t>(put));
  }
  return absl::OkStatus();
}

absl::Status WriteFile(const std::string& path, absl::string_view data, mode_t mode) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("create ", path));
  return WithContext(WriteAll(fd.get(), data), path);
}

absl::Status WriteFileAtomic(const std::string& path, absl::string_view data, mode_t mode) {
  const std::string directory = ParentOf(path);
  std::string temporary = absl::StrCat(directory, "/", TemporaryPrefix(path), "XXXXXX");
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("create ", temporary));
  auto remove_temporary = absl::MakeCleanup([&temporary] { ::unlink(temporary.c_str()); });

  if (absl::Status status = WriteAll(fd.get(), data); !status.ok())
    return WithContext(status, path);
  if (::fchmod(fd.get(), mode) != 0) return ErrnoToStatus(errno, absl::StrCat("chmod ", temporary));
  if (::fsync(fd.get()) != 0) return ErrnoToStatus(errno, absl::StrCat("fsync ", temporary));
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("rename to ", path));
  std::move(remove_temporary).Cancel();
  return SyncDirectory(directory);
}

absl::Status RemoveAbandonedTemporaries(const std::string& path) {
  const std::string directory = ParentOf(path), prefix = TemporaryPrefix(path);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, prefix)) continue;
    const std::string temporary = absl::StrCat(directory, "/", name);
    if (::unlink(temporary.c_str()) != 0 && errno != ENOENT)
      return ErrnoToStatus(errno, absl::StrCat("remove ", temporary));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  DIR* const open = ::opendir(path.c_str());
  if (open == nullptr) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  const absl::Cleanup close = [open] { ::closedir(open); };
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(open);
    if (entry == nullptr) break;
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return ErrnoToStatus(errno, absl::StrCat("read ", path));
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status SyncDirectory(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  if (::fsync(fd.get()) != 0) return ErrnoToStatus(errno, absl::StrCat("fsync ", path));
  return absl::OkStatus();
}

absl::Status MakeDirectories(const std::string& path, mode_t mode) {
  const std::string clean = WithoutTrailingSlashes(path);
  if (clean.empty()) return absl::InvalidArgumentError("mkdir: the path is empty");
  if (::mkdir(clean.c_str(), mode) == 0) return absl::OkStatus();
  if (errno == ENOENT && ParentOf(clean) != clean && ParentOf(clean) != ".") {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(ParentOf(clean), mode));
    if (::mkdir(clean.c_str(), mode) == 0) return absl::OkStatus();
  }
  const int err = errno;
  struct stat st;
  if (err == EEXIST && ::stat(clean.c_str(), &st) == 0) {
    if (S_ISDIR(st.st_mode)) return absl::OkStatus();
    return ErrnoToStatus(ENOTDIR, absl::StrCat("mkdir ", clean));
  }
  return ErrnoToStatus(err, absl::StrCat("mkdir ", clean));
}

absl::Status RemoveTreeAt(int directory_fd, const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("remove: not a name in a directory: \"", name, "\""));
  }
  return TreeRemover().Remove(directory_fd, name);
}

absl::Status RemoveTree(const std::string& path) {
  const std::string clean = WithoutTrailingSlashes(path);
  const std::string parent = ParentOf(clean);
  UniqueFd fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoToStatus(errno, absl::StrCat("open ", parent));
  }
  return WithContext(RemoveTreeAt(fd.get(), NameOf(clean)), parent);
}

}  // namespace gantry
