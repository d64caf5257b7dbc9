// The entries of one layer, written as files below the root of the calling thread, which is the layer's target
// (private_mounts.h): ApplyLayer()'s second half, on its own thread.
//
// For one layer; thread-compatible. Paths are resolved beneath the root whatever the links in it say.
#ifndef GANTRY_SNAPSHOTTER_LAYER_WRITER_H_
#define GANTRY_SNAPSHOTTER_LAYER_WRITER_H_

#include <sys/types.h>

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/errno_status.h"
#include "base/unique_fd.h"
#include "snapshotter/layer_apply.h"
#include "snapshotter/tar_reader.h"

namespace gantry::snapshot {

class LayerWriter {
 public:
  LayerWriter(Whiteouts whiteouts, const ApplyOptions& options)
      : overlay_(whiteouts == Whiteouts::kOverlay),
        opaque_attribute_(options.user_xattr ? "user.overlay.opaque" : "trusted.overlay.opaque"),
        limits_(options.limits) {}

  absl::Status Run(TarReader& tar);

  DeferredWork TakeDeferred() {
    DeferredWork deferred;
    deferred.implied_directories.assign(implied_.begin(), implied_.end());
    for (auto& [path, existing] : deferred_links_) deferred.links.push_back({path, existing});
    deferred.opaque_root = opaque_root_;
    return deferred;
  }

 private:
  struct Directory {
    UniqueFd fd;
    ino_t inode = 0;
    bool setgid = false;
  };

  absl::Status Apply(TarReader& tar, const TarEntry& entry, const std::string& path);
  absl::Status ApplyWhiteout(const std::string& path);
  absl::Status ApplyDirectory(const Directory& parent, const TarEntry& entry,
                              const std::string& path, const std::string& name);
  absl::Status ApplyFile(TarReader& tar, const Directory& parent, const TarEntry& entry,
                         const std::string& name);
  absl::Status ApplyHardLink(const TarEntry& entry, const std::string& path,
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
  absl::StatusOr<UniqueFd> MakeImplied(const std::string& path, int links_followed);
  // Makes a directory where there is none; a whiteout in its place says that what is below is gone.
  absl::Status MakeDirectoryAt(int parent, const std::string& name, mode_t mode, bool& existed);
  absl::Status SetOpaque(int directory) const;

  // Removes whatever is there. Directories recursively.
  absl::Status RemoveEntry(const Directory& parent, const std::string& name);
  absl::Status RemoveBelow(int parent, const std::string& name, int depth);
  // Removes what this layer has not brought; tells whether anything is left.
  absl::StatusOr<bool> RemoveUnbrought(int directory, ino_t inode, int depth);

  void Note(ino_t directory, const std::string& name) {
    if (tracking_) brought_.insert(absl::HashOf(directory, name));
  }
  bool Brought(ino_t directory, const std::string& name) const {
    return brought_.count(absl::HashOf(directory, name)) > 0;
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

  std::unordered_map<std::string, TarTime> directory_times_;
  bool tracking_ = true;
  // Of what this layer has made: (inode of its directory, name), hashed. Only if tracking_.
  std::unordered_set<size_t> brought_;
  std::set<std::string> implied_;  // sorted: outer before inner
  std::map<std::string, std::string> deferred_links_;
  bool opaque_root_ = false;
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LAYER_WRITER_H_
