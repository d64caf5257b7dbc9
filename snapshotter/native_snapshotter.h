// Snapshots as plain copies: works on every file system, costs a copy per Prepare (a reflink where
// there are any).
//
// Disk layout below `root`: snapshots/<directory>/, the whole tree. Mounts are binds.
// A directory holds the files of all layers below, so Share() wants a parent that is a layer too.
//
// Lifecycle: one per root. Thread-safe.
#ifndef GANTRY_SNAPSHOTTER_NATIVE_SNAPSHOTTER_H_
#define GANTRY_SNAPSHOTTER_NATIVE_SNAPSHOTTER_H_

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

class NativeSnapshotter final : public Snapshotter {
 public:
  // Makes `root`, deletes files left behind.
  static absl::StatusOr<std::unique_ptr<NativeSnapshotter>> Open(
      std::string root, std::unique_ptr<SnapshotIndex> index);

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

 private:
  NativeSnapshotter(const std::string& root, std::unique_ptr<SnapshotIndex> index);

  absl::StatusOr<std::vector<Mount>> Create(Kind kind, absl::string_view key,
                                            absl::string_view parent, const Labels& labels);
  std::vector<Mount> MountsOf(const SnapshotRecord& record) const;

  const std::unique_ptr<SnapshotIndex> index_;
  const SnapshotDirectories directories_;
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_NATIVE_SNAPSHOTTER_H_
