#include "snapshotter/layer_complete.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>
#include <optional>

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

absl::StatusOr<UniqueFd> OpenOrMake(int root, const std::string& path,
                                    const std::vector<std::string>& lowers) {
  UniqueFd fd = OpenBelow(root, path, O_RDONLY | O_DIRECTORY);
  if (fd.valid() || errno != ENOENT || path.empty()) {
    if (!fd.valid()) return ErrnoToStatus(errno, "open");
    return fd;
  }
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent,
                          OpenOrMake(root, std::string(ParentOf(path)), lowers));
  if (mkdirat(parent.get(), std::string(BaseOf(path)).c_str(), 0755) != 0)
    return ErrnoToStatus(errno, "make directory");
  GANTRY_RETURN_IF_ERROR(CompleteDirectory(root, path, lowers));
  fd = OpenBelow(root, path, O_RDONLY | O_DIRECTORY);
  if (!fd.valid()) return ErrnoToStatus(errno, "open");
  return fd;
}

absl::Status CompleteLink(int root, const DeferredWork::Link& link,
                          const std::vector<std::string>& lowers) {
  const std::string existing_name(BaseOf(link.existing));
  GANTRY_ASSIGN_OR_RETURN(const std::optional<FoundEntry> found,
                          FindInLayers(lowers, link.existing));
  if (!found.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "hard link to \"", absl::CHexEscape(link.existing), "\", which does not exist"));
  }
  if (S_ISDIR(found->mode)) return absl::InvalidArgumentError("hard link to a directory");
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd existing_parent,
                          OpenOrMake(root, std::string(ParentOf(link.existing)), lowers));
  // An earlier link may have brought it up already.
  const absl::Status copied =
      CopyEntry(found->directory.get(), found->name, existing_parent.get(), existing_name);
  if (!copied.ok() && !absl::IsAlreadyExists(copied)) return copied;
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd parent,
                          OpenOrMake(root, std::string(ParentOf(link.path)), lowers));
  if (linkat(existing_parent.get(), existing_name.c_str(), parent.get(),
             std::string(BaseOf(link.path)).c_str(), 0) != 0) {
    return ErrnoToStatus(errno, "link");
  }
  return absl::OkStatus();
}

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
  for (const DeferredWork::Link& link : deferred.links) {
    if (absl::Status status = CompleteLink(root.get(), link, lowers); !status.ok()) {
      return WithContext(status, absl::StrCat("layer entry \"", absl::CHexEscape(link.path), "\""));
    }
  }
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
