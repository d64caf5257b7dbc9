// Snapshots as overlayfs layers: each is a directory, a stack of them is one mount.
//
// Disk layout below `root`: snapshots/<directory>/fs (0755, the layer) and, for active snapshots
// with a parent, snapshots/<directory>/work (0711, overlayfs' own). A view with parents has no
// directory. Mounts are exactly containerd's: bind of fs without parents, overlay with lowerdir
// nearest parent first otherwise.
// Layers are independent of each other, so a layer can be unpacked before its parent (CanRebase()).
//
// Lifecycle: one per root. Thread-safe.
#ifndef GANTRY_SNAPSHOTTER_OVERLAY_SNAPSHOTTER_H_
#define GANTRY_SNAPSHOTTER_OVERLAY_SNAPSHOTTER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "snapshotter/snapshot_directories.h"
#include "snapshotter/snapshot_index.h"
#include "snapshotter/snapshotter.h"

namespace gantry::snapshot {

struct OverlayOptions {
  std::string root;
  std::vector<std::string> mount_options = {};  // appended to every overlay mount
};

class OverlaySnapshotter final : public Snapshotter {
 public:
  // Makes `root`. Files left behind go with Cleanup(). kFailedPrecondition: the file system of
  // `root` cannot carry overlay layers; the text says why.
  static absl::StatusOr<std::unique_ptr<OverlaySnapshotter>> Open(
      OverlayOptions options, std::unique_ptr<SnapshotIndex> index);

  absl::StatusOr<Info> Stat(absl::string_view key) override;
  absl::StatusOr<Info> Update(absl::string_view key, const Labels& labels,
                              const std::vector<std::string>& fields) override;
  absl::StatusOr<snapshot::Usage> Usage(absl::string_view key) override;
  absl::StatusOr<std::vector<Mount>> Mounts(absl::string_view key) override;
  absl::StatusOr<std::vector<Mount>> Prepare(absl::string_view key, absl::string_view parent,
                                             const Labels& labels) override;
  absl::StatusOr<std::vector<Mount>> View(absl::string_view key, absl::string_view parent,
                                          const Labels& labels) override;
  absl::Status Commit(absl::string_view name, absl::string_view key,
                      const CommitOptions& options) override;
  absl::Status Share(absl::string_view name, const ShareOptions& options) override;
  absl::Status Remove(absl::string_view key) override;
  absl::Status Walk(const std::function<absl::Status(const Info&)>& visit) override;
  absl::Status Cleanup(const CancelToken* cancel) override;
  bool CanRebase() const override { return true; }

 private:
  OverlaySnapshotter(const std::string& root, std::vector<std::string> trailing_options,
                     std::unique_ptr<SnapshotIndex> index);

  absl::StatusOr<std::vector<Mount>> Create(Kind kind, absl::string_view key,
                                            absl::string_view parent, const Labels& labels);
  absl::Status MakeFor(const SnapshotRecord& record) const;
  std::vector<Mount> MountsOf(const SnapshotRecord& record) const;
  std::string Layer(uint64_t id) const;
  std::string Work(uint64_t id) const;

  const std::unique_ptr<SnapshotIndex> index_;
  const SnapshotDirectories directories_;
  const std::vector<std::string> trailing_options_;
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_OVERLAY_SNAPSHOTTER_H_
