// Writes the entries of one layer as files below the root of the calling thread, which is the
// layer's target (private_mounts.h): the second half of ApplyLayer(), on a thread of its own.
//
// For one layer; thread-compatible. Paths are resolved beneath the root whatever the links in it
// say. What is kept about a directory until the end of the layer is kept under its inode, and is
// dropped when a later entry removes it: a path may lead elsewhere by then.
#ifndef GANTRY_SNAPSHOTTER_LAYER_WRITER_H_
#define GANTRY_SNAPSHOTTER_LAYER_WRITER_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/errno_status.h"
#include "base/tar/reader.h"
#include "base/unique_fd.h"
#include "snapshotter/layer_apply.h"

namespace gantry::snapshot {

class LayerWriter {
 public:
  LayerWriter(Whiteouts whiteouts, const ApplyOptions& options)
      : overlay_(whiteouts == Whiteouts::kOverlay),
        opaque_attribute_(options.user_xattr ? "user.overlay.opaque" : "trusted.overlay.opaque"),
        limits_(options.limits) {}

  absl::Status Run(TarReader& tar);

  DeferredWork TakeDeferred();

 private:
  struct Directory {
    UniqueFd fd;
    std::string path;  // without links on the way
    ino_t inode = 0;
    bool setgid = false;
  };
  struct Resolved {
    UniqueFd fd;  // invalid: there is no such directory in the target
    std::string path;
  };
  struct Implied {
    std::string path;
    bool looks_as_below = false;  // takes owner, mode and times from the layers below
  };
  struct DirectoryTime {
    std::string path;
    TarTime time;
  };

  absl::Status Apply(TarReader& tar, const TarEntry& entry, const std::string& path);
  absl::Status ApplyWhiteout(const std::string& path);
  absl::Status ApplyDirectory(const Directory& parent, const TarEntry& entry,
                              const std::string& path, const std::string& name);
  absl::Status ApplyFile(TarReader& tar, const Directory& parent, const TarEntry& entry,
                         const std::string& name);
  absl::Status ApplyHardLink(const TarEntry& entry, const std::string& path,
                             const std::string& name);
  // Makes `path` a name of the file `existing` in an open directory, in place of what is there.
  absl::Status LinkTo(int directory, const std::string& existing, ino_t inode,
                      const std::string& path, const std::string& name);
  // `path` becomes a name of an empty file that stands for `existing`, a file of the layers below,
  // until CompleteIn() fills it. So later entries link to it, replace it and remove it as any
  // other.
  absl::Status LinkToBelow(const std::string& existing, const std::string& path,
                           const std::string& name);
  absl::Status ApplySymlink(const Directory& parent, const TarEntry& entry,
                            const std::string& name);
  absl::Status ApplyNode(const Directory& parent, const TarEntry& entry, const std::string& name);
  absl::Status SetAttributes(const Directory& parent, const TarEntry& entry,
                             const std::string& name);
  absl::Status SetXattr(const std::string& key, const std::string& value, const TarEntry& entry,
                        int fd, const char* name) const;
  absl::Status SetDirectoryTimes();
  absl::StatusOr<bool> IsEmpty() const;

  // The open directory `path`, made with its parents if missing. Valid until the next call.
  absl::StatusOr<const Directory*> OpenDirectory(absl::string_view path);
  // The directory that `path` leads to, links followed within the target. `make`: missing ones are
  // made; otherwise what is missing is taken as it is spelled.
  absl::StatusOr<Resolved> Resolve(const std::string& path, bool make);
  absl::StatusOr<UniqueFd> MakeImplied(const Resolved& parent, const std::string& name,
                                       const std::string& path);
  // Whether nothing of the layers below shows in `directory` (a path without links).
  bool HidesBelow(const std::string& directory) const;
  // Makes a directory where there is none; a whiteout in its place says that what is below is gone.
  absl::Status MakeDirectoryAt(int parent, const std::string& name, mode_t mode, bool& existed);
  absl::Status SetOpaque(int directory) const;

  // Removes what is there, directories with their content.
  absl::Status RemoveEntry(const Directory& parent, const std::string& name);
  absl::Status RemoveBelow(int parent, const std::string& name, int depth);
  // Removes what this layer has not brought: files of the layers below, whiteouts, directories
  // that were only passed through and hold nothing else. Returns whether anything is left.
  absl::StatusOr<bool> ClearBelow(int directory, ino_t inode);
  absl::StatusOr<bool> RemoveUnbrought(int directory, ino_t inode, bool all, int depth);
  // Whether an entry of this layer made it. Implied directories and whiteouts are not brought.
  bool IsBrought(ino_t directory, const std::string& name, const struct stat& stat) const;

  void Note(ino_t directory, const std::string& name) {
    if (tracking_) brought_.insert(absl::HashOf(directory, name));
  }
  // A removed directory's inode may come back as another one's.
  void ForgetInode(ino_t inode) {
    implied_.erase(inode);
    directory_times_.erase(inode);
    cleared_.erase(inode);
  }
  absl::Status Failed(absl::string_view step) const { return gantry::ErrnoToStatus(errno, step); }
  void ForgetDirectories() {
    directories_.clear();
    last_ = nullptr;
  }

  const bool overlay_;
  const char* const opaque_attribute_;
  const ApplyLimits& limits_;
  UniqueFd root_;

  std::unordered_map<std::string, Directory> directories_;
  const Directory* last_ = nullptr;
  std::string last_path_;

  bool tracking_ = true;
  // Of what this layer has made: (inode of its directory, name), hashed. Only if tracking_.
  std::unordered_set<size_t> brought_;
  // By inode of the directory.
  std::unordered_map<ino_t, DirectoryTime> directory_times_;
  std::unordered_map<ino_t, Implied> implied_;
  std::unordered_set<ino_t> cleared_;
  // Files of the layers below that this one links to, and their positions in links_.
  std::unordered_map<std::string, size_t> link_targets_;
  std::vector<DeferredWork::Link> links_;
  UniqueFd link_store_;
  bool opaque_root_ = false;
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LAYER_WRITER_H_
