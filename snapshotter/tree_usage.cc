#include "snapshotter/tree_usage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::snapshot {
namespace {

// Each level holds a descriptor; a container must not use up the daemon's.
constexpr int kMaxDepth = 400;

class Count {
 public:
  Count(const std::string& root, dev_t device) : root_(root), device_(device) {}

  void Add(const struct stat& stat) {
    if (!S_ISDIR(stat.st_mode) && stat.st_nlink > 1 && !linked_.insert(stat.st_ino).second) return;
    usage_.size_bytes += int64_t{stat.st_blocks} * 512;
    ++usage_.inodes;
  }

  absl::Status AddBelow(UniqueFd directory, int depth) {
    if (depth > kMaxDepth) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "usage of ", root_, ": directories are nested more than ", kMaxDepth, " deep"));
    }
    std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(directory.get()), &closedir);
    if (stream == nullptr)
      return ErrnoToStatus(errno, absl::StrCat("usage of ", root_, ": read directory"));
    const int fd = directory.release();
    while (true) {
      errno = 0;
      const dirent* entry = readdir(stream.get());
      if (entry == nullptr) break;
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      struct stat stat;
      if (fstatat(fd, name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return ErrnoToStatus(errno, absl::StrCat("usage of ", root_, ": stat ", name));
      }
      if (stat.st_dev != device_) continue;
      Add(stat);
      if (!S_ISDIR(stat.st_mode)) continue;
      UniqueFd child(openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!child.valid()) {
        if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) continue;
        return ErrnoToStatus(errno, absl::StrCat("usage of ", root_, ": open ", name));
      }
      GANTRY_RETURN_IF_ERROR(AddBelow(std::move(child), depth + 1));
    }
    if (errno != 0)
      return ErrnoToStatus(errno, absl::StrCat("usage of ", root_, ": read directory"));
    return absl::OkStatus();
  }

  const Usage& usage() const { return usage_; }

 private:
  const std::string& root_;
  const dev_t device_;
  Usage usage_;
  std::unordered_set<ino_t> linked_;
};

}  // namespace

absl::StatusOr<Usage> UsageOfTree(const std::string& root) {
  UniqueFd fd(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat stat;
  if (!fd.valid() || fstat(fd.get(), &stat) != 0)
    return ErrnoToStatus(errno, absl::StrCat("usage of ", root));
  Count count(root, stat.st_dev);
  count.Add(stat);
  GANTRY_RETURN_IF_ERROR(count.AddBelow(std::move(fd), 1));
  return count.usage();
}

}  // namespace gantry::snapshot
