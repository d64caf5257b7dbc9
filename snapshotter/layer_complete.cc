#include "snapshotter/layer_complete.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/layer_paths.h"
#include "snapshotter/tree_copy.h"

namespace gantry::snapshot {
namespace {

// Owner, mode, attributes and times that an implied directory has below.
absl::Status CompleteDirectory(int root, const std::string& path,
                               const std::vector<std::string>& lowers) {
  GANTRY_ASSIGN_OR_RETURN(const std::optional<FoundEntry> found, FindInLayers(lowers, path));
  if (!found.has_value() || !S_ISDIR(found->mode)) return absl::OkStatus();
  const UniqueFd from(openat(found->directory.get(), found->name.c_str(),
                             O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const UniqueFd to = OpenBelow(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!from.valid() || !to.valid()) return ErrnoToStatus(errno, "open");
  return CopyDirectoryAttributes(from.get(), to.get());
}

// Puts the times of an open directory back that making or replacing a name in it changed.
class KeepTimes {
 public:
  explicit KeepTimes(int directory) : directory_(directory) {
    known_ = fstat(directory, &stat_) == 0;
  }
  ~KeepTimes() {
    const timespec times[2] = {stat_.st_atim, stat_.st_mtim};
    if (known_) (void)futimens(directory_, times);
  }
  KeepTimes(const KeepTimes&) = delete;
  KeepTimes& operator=(const KeepTimes&) = delete;

 private:
  const int directory_;
  struct stat stat_ = {};
  bool known_ = false;
};

absl::StatusOr<UniqueFd> OpenOrMake(int root, const std::string& path,
                                    const std::vector<std::string>& lowers) {
  UniqueFd fd = OpenBelow(root, path, O_RDONLY | O_DIRECTORY);
  if (fd.valid() || errno != ENOENT || path.empty()) {
    if (!fd.valid()) return ErrnoToStatus(errno, "open");
    return fd;
  }
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent,
                          OpenOrMake(root, std::string(ParentOf(path)), lowers));
  const KeepTimes times(parent.get());
  if (mkdirat(parent.get(), std::string(BaseOf(path)).c_str(), 0755) != 0)
    return ErrnoToStatus(errno, "make directory");
  GANTRY_RETURN_IF_ERROR(CompleteDirectory(root, path, lowers));
  fd = OpenBelow(root, path, O_RDONLY | O_DIRECTORY);
  if (!fd.valid()) return ErrnoToStatus(errno, "open");
  return fd;
}

// Files of the layers below that the layer links to take the places kept for them
// (LayerWriter::LinkToBelow()).
class LinkCompleter {
 public:
  LinkCompleter(int root, const std::vector<std::string>& lowers) : root_(root), lowers_(lowers) {}

  absl::Status Run(const std::vector<DeferredWork::Link>& links) {
    store_.reset(openat(root_, kLinkStore, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!store_.valid()) return ErrnoToStatus(errno, "layer: open the store of links");
    for (size_t i = 0; i < links.size(); ++i) {
      if (absl::Status status = Fill(links[i].existing, absl::StrCat(i)); !status.ok())
        return WithContext(status,
                           absl::StrCat("layer entry \"", absl::CHexEscape(links[i].path), "\""));
    }
    if (!special_.empty()) GANTRY_RETURN_IF_ERROR(ReplaceSpecial());
    for (size_t i = 0; i < links.size(); ++i) {
      if (absl::Status status = Publish(links[i].existing, absl::StrCat(i)); !status.ok())
        return WithContext(status,
                           absl::StrCat("layer entry \"", absl::CHexEscape(links[i].path), "\""));
    }
    if (unlinkat(root_, kLinkStore, AT_REMOVEDIR) != 0)
      return ErrnoToStatus(errno, "layer: remove the store of links");
    return absl::OkStatus();
  }

 private:
  absl::Status Fill(const std::string& existing, const std::string& stored) {
    GANTRY_ASSIGN_OR_RETURN(const std::optional<FoundEntry> found, FindInLayers(lowers_, existing));
    if (!found.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("hard link to \"", absl::CHexEscape(existing), "\", which does not exist"));
    }
    if (S_ISDIR(found->mode)) return absl::InvalidArgumentError("hard link to a directory");
    if (S_ISREG(found->mode))
      return FillFile(found->directory.get(), found->name, store_.get(), stored);
    struct stat stat;
    if (fstatat(store_.get(), stored.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoToStatus(errno, "stat");
    GANTRY_RETURN_IF_ERROR(
        CopyEntry(found->directory.get(), found->name, store_.get(), stored + ".new"));
    special_[stat.st_ino] = stored;
    return absl::OkStatus();
  }

  // A symlink, FIFO or device cannot be made of the file in its place: each name of it is replaced.
  absl::Status ReplaceSpecial() {
    std::vector<std::string> todo = {""};
    while (!todo.empty()) {
      const std::string path = std::move(todo.back());
      todo.pop_back();
      UniqueFd fd = OpenBelowWithoutLinks(root_, path, O_RDONLY | O_DIRECTORY);
      std::unique_ptr<DIR, int (*)(DIR*)> stream(fd.valid() ? fdopendir(fd.get()) : nullptr,
                                                 &closedir);
      if (stream == nullptr) return ErrnoToStatus(errno, absl::StrCat("layer: open ", path));
      const int directory = fd.release();
      std::vector<std::pair<std::string, std::string>> replaced;
      while (const dirent* item = readdir(stream.get())) {
        const std::string name = item->d_name;
        if (name == "." || name == ".." || (path.empty() && name == kLinkStore)) continue;
        struct stat stat;
        if (fstatat(directory, name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
          return ErrnoToStatus(errno, absl::StrCat("layer: stat ", name));
        if (S_ISDIR(stat.st_mode)) {
          todo.push_back(path.empty() ? name : absl::StrCat(path, "/", name));
        } else if (const auto found = special_.find(stat.st_ino); found != special_.end()) {
          replaced.emplace_back(name, found->second);
        }
      }
      if (replaced.empty()) continue;
      const KeepTimes times(directory);
      for (const auto& [name, stored] : replaced)
        GANTRY_RETURN_IF_ERROR(Replace(stored + ".new", directory, name));
    }
    for (const auto& [inode, stored] : special_) {
      if (renameat(store_.get(), (stored + ".new").c_str(), store_.get(), stored.c_str()) != 0)
        return ErrnoToStatus(errno, "layer: rename");
    }
    return absl::OkStatus();
  }

  absl::Status Replace(const std::string& stored, int directory, const std::string& name) {
    if (linkat(store_.get(), stored.c_str(), store_.get(), "next", 0) != 0 ||
        renameat(store_.get(), "next", directory, name.c_str()) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("layer: replace ", name));
    }
    return absl::OkStatus();
  }

  // The file below and the links to it are one file while the layer leaves its own name alone.
  absl::Status Publish(const std::string& existing, const std::string& stored) {
    struct stat stat;
    if (fstatat(store_.get(), stored.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoToStatus(errno, "stat");
    if (stat.st_nlink > 1 && FindInLayer(root_, existing) == InLayer::kSaysNothing) {
      GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent,
                              OpenOrMake(root_, std::string(ParentOf(existing)), lowers_));
      const KeepTimes times(parent.get());
      if (linkat(store_.get(), stored.c_str(), parent.get(), std::string(BaseOf(existing)).c_str(),
                 0) != 0)
        return ErrnoToStatus(errno, "link");
    }
    if (unlinkat(store_.get(), stored.c_str(), 0) != 0) return ErrnoToStatus(errno, "remove");
    return absl::OkStatus();
  }

  const int root_;
  const std::vector<std::string>& lowers_;
  UniqueFd store_;
  std::map<ino_t, std::string> special_;
};

// What an opaque mark on the root would do: each name below is whited out, each directory kept made
// opaque.
absl::Status HideLowerRoot(int root, const std::vector<std::string>& lowers) {
  for (const std::string& lower : lowers) {
    std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(lower.c_str()), &closedir);
    if (stream == nullptr) return ErrnoToStatus(errno, absl::StrCat("open ", lower));
    while (const dirent* item = readdir(stream.get())) {
      const std::string name = item->d_name;
      if (name == "." || name == "..") continue;
      if (mknodat(root, name.c_str(), S_IFCHR, 0) == 0) continue;
      if (errno != EEXIST) return ErrnoToStatus(errno, absl::StrCat("hide ", name));
      const UniqueFd kept(
          openat(root, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (kept.valid() && fsetxattr(kept.get(), "trusted.overlay.opaque", "y", 1, 0) != 0) {
        return ErrnoToStatus(errno, absl::StrCat("hide what is below ", name));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CompleteIn(const DeferredWork& deferred, const std::string& directory,
                        const std::vector<std::string>& lowers) {
  const UniqueFd root(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoToStatus(errno, absl::StrCat("layer: open ", directory));
  if (deferred.opaque_root) {
    if (absl::Status status = HideLowerRoot(root.get(), lowers); !status.ok())
      return WithContext(status, "layer: opaque root");
  }
  if (!deferred.links.empty())
    GANTRY_RETURN_IF_ERROR(LinkCompleter(root.get(), lowers).Run(deferred.links));
  // Inner before outer: setting a directory's time must come after changes in it.
  for (auto path = deferred.implied_directories.rbegin();
       path != deferred.implied_directories.rend(); ++path) {
    if (absl::Status status = CompleteDirectory(root.get(), *path, lowers); !status.ok()) {
      return WithContext(status, absl::StrCat("layer directory \"", absl::CHexEscape(*path), "\""));
    }
  }
  return absl::OkStatus();
}

}  // namespace gantry::snapshot
