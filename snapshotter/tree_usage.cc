#include "snapshotter/tree_usage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::snapshot {
namespace {

// Levels below the root whose descriptors are kept open: a tree may be deeper than the daemon has
// descriptors. Those further down are found again through the ".." of what lies below them.
constexpr size_t kHeldLevels = 32;

class Count {
 public:
  Count(const std::string& root, dev_t device) : root_(root), device_(device) {}

  absl::Status Add(UniqueFd root, const struct stat& stat) {
    AddEntry(stat);
    GANTRY_RETURN_IF_ERROR(Enter(std::move(root), stat.st_ino));
    while (!levels_.empty()) {
      if (levels_.back().subdirectories.empty()) {
        Leave();
      } else {
        GANTRY_RETURN_IF_ERROR(EnterNext());
      }
    }
    return absl::OkStatus();
  }

  const Usage& usage() const { return usage_; }

 private:
  // A directory whose entries are counted, but not yet what is below them.
  struct Level {
    UniqueFd fd;  // none in the middle of a deep path
    ino_t inode;
    std::vector<std::string> subdirectories;  // still to be entered
  };

  void AddEntry(const struct stat& stat) {
    if (!S_ISDIR(stat.st_mode) && stat.st_nlink > 1 && !linked_.insert(stat.st_ino).second) return;
    usage_.size_bytes += int64_t{stat.st_blocks} * 512;
    ++usage_.inodes;
  }

  absl::Status Enter(UniqueFd fd, ino_t inode) {
    Level level{std::move(fd), inode, {}};
    UniqueFd again(fcntl(level.fd.get(), F_DUPFD_CLOEXEC, 0));
    std::unique_ptr<DIR, int (*)(DIR*)> stream(again.valid() ? fdopendir(again.get()) : nullptr,
                                               &closedir);
    if (stream == nullptr) return Error("read directory");
    (void)again.release();
    while (true) {
      errno = 0;
      const dirent* entry = readdir(stream.get());
      if (entry == nullptr) break;
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      struct stat stat;
      if (fstatat(level.fd.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return Error(absl::StrCat("stat ", name));
      }
      if (stat.st_dev != device_) continue;
      AddEntry(stat);
      if (S_ISDIR(stat.st_mode)) level.subdirectories.push_back(name);
    }
    if (errno != 0) return Error("read directory");
    levels_.push_back(std::move(level));
    return absl::OkStatus();
  }

  absl::Status EnterNext() {
    Level& level = levels_.back();
    const std::string name = std::move(level.subdirectories.back());
    level.subdirectories.pop_back();
    UniqueFd child(
        openat(level.fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!child.valid()) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return absl::OkStatus();
      return Error(absl::StrCat("open ", name));
    }
    struct stat stat;
    if (fstat(child.get(), &stat) != 0) return Error(absl::StrCat("stat ", name));
    if (stat.st_dev != device_) return absl::OkStatus();
    if (levels_.size() > kHeldLevels) level.fd.reset();
    return Enter(std::move(child), stat.st_ino);
  }

  void Leave() {
    const UniqueFd child = std::move(levels_.back().fd);
    levels_.pop_back();
    if (levels_.empty() || levels_.back().fd.valid()) return;
    UniqueFd parent(openat(child.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat stat;
    if (parent.valid() && fstat(parent.get(), &stat) == 0 && stat.st_dev == device_ &&
        stat.st_ino == levels_.back().inode) {
      levels_.back().fd = std::move(parent);
      return;
    }
    // Moved away meanwhile, and with it the way back: gone as far as this count is concerned.
    while (!levels_.back().fd.valid()) levels_.pop_back();
  }

  absl::Status Error(absl::string_view step) const {
    return ErrnoToStatus(errno, absl::StrCat("usage of ", root_, ": ", step));
  }

  const std::string& root_;
  const dev_t device_;
  Usage usage_;
  std::unordered_set<ino_t> linked_;
  std::vector<Level> levels_;
};

}  // namespace

absl::StatusOr<Usage> UsageOfTree(const std::string& root) {
  UniqueFd fd(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat stat;
  if (!fd.valid() || fstat(fd.get(), &stat) != 0)
    return ErrnoToStatus(errno, absl::StrCat("usage of ", root));
  Count count(root, stat.st_dev);
  GANTRY_RETURN_IF_ERROR(count.Add(std::move(fd), stat));
  return count.usage();
}

}  // namespace gantry::snapshot
