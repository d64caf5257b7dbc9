// States of root filesystems, stacked: prepare one on top of a committed parent, change it, commit
// it under a name.
//
// Implementations: overlay_snapshotter, native_snapshotter, supervisor/metadata/snapshot_namespace
// (one namespace's view). All pass snapshotter_conformance.
//
// Keys of active snapshots and views and names of committed ones share one name space. They are
// opaque text.
// Thread-safe. No lock is held over file system work.
#ifndef GANTRY_SNAPSHOTTER_SNAPSHOTTER_H_
#define GANTRY_SNAPSHOTTER_SNAPSHOTTER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "snapshotter/mount.h"

namespace gantry::snapshot {

using Labels = std::map<std::string, std::string>;

// The numbers are those of containerd.services.snapshots.v1.Kind.
enum class Kind { kUnknown = 0, kView = 1, kActive = 2, kCommitted = 3 };

struct Info {
  Kind kind = Kind::kUnknown;
  std::string name;    // key or name
  std::string parent;  // "" for a base
  Labels labels;
  absl::Time created_at;
  absl::Time updated_at;
  // Of a committed snapshot that holds one layer of an image: digest of the blob that it was
  // unpacked from. "" unless CommitOptions::layer said so.
  std::string layer = {};
  // Number of the directory that holds the files. Snapshots with the same number share it.
  uint64_t directory = 0;
};

// Disk blocks really used, hard links counted once.
struct Usage {
  int64_t size_bytes = 0;
  int64_t inodes = 0;
};

struct CommitOptions {
  Labels labels = {};  // of the committed snapshot; those of the active one are not inherited
  // Rebase, where CanRebase(): only for an active snapshot that was prepared without parent.
  std::string parent = {};
  // False: the caller has made the files durable (one syncfs per image), and the record becomes so
  // with the caller's next synced write to the database.
  bool sync = true;
  // Digest of the layer blob that was unpacked into the snapshot. Set only by a caller that
  // compared the unpacked bytes with the diff id of the layer: other snapshots may then Share() the
  // files.
  std::string layer = {};
};

struct ShareOptions {
  // The committed layer whose files are shared. Must be empty for a namespace's view, which looks
  // for `name` in the other namespaces.
  std::string source = {};
  std::string parent = {};
  Labels labels = {};
  // Digest of a layer blob that the caller has unpacked and found to be this layer. Empty: the new
  // snapshot has the layer digest of its source; a namespace's view then requires that the
  // namespace holds that blob.
  std::string layer = {};
};

class Snapshotter {
 public:
  virtual ~Snapshotter() = default;

  // kNotFound: unknown key.
  virtual absl::StatusOr<Info> Stat(absl::string_view key) = 0;

  // Only labels change. Empty `fields` replaces all; else each is "labels" or "labels.<key>";
  // others are kInvalidArgument.
  virtual absl::StatusOr<Info> Update(absl::string_view key, const Labels& labels,
                                      const std::vector<std::string>& fields) = 0;

  // Of this snapshot alone, without parents. Walks the tree of an active one; stored for a
  // committed one.
  virtual absl::StatusOr<snapshot::Usage> Usage(absl::string_view key) = 0;

  // How to see an active snapshot or view. kFailedPrecondition: the key is committed.
  virtual absl::StatusOr<std::vector<Mount>> Mounts(absl::string_view key) = 0;

  // Writable, on `parent` ("" for none). kAlreadyExists: key taken (any kind); kNotFound: no such
  // parent; kInvalidArgument: the parent is not committed.
  virtual absl::StatusOr<std::vector<Mount>> Prepare(absl::string_view key,
                                                     absl::string_view parent,
                                                     const Labels& labels) = 0;

  // Read-only; same codes.
  virtual absl::StatusOr<std::vector<Mount>> View(absl::string_view key, absl::string_view parent,
                                                  const Labels& labels) = 0;

  // Turns active `key` into committed `name`; the key is gone. Files are durable before the record
  // is.
  //   kNotFound            no such key, or no such parent to rebase on
  //   kFailedPrecondition  not active, or a rebase of a snapshot that has a parent or where
  //                        CanRebase() is false
  //   kAlreadyExists       name taken; the active snapshot stays
  virtual absl::Status Commit(absl::string_view name, absl::string_view key,
                              const CommitOptions& options) = 0;

  // Makes committed `name` from the files of another committed layer. Nothing is copied: both
  // records name one directory, which Cleanup() deletes after the last of them is removed. The
  // record is durable with the caller's next synced write to the database.
  //   kNotFound            no such source, or none that may be shared; no such parent
  //   kInvalidArgument     the parent is not committed
  //   kFailedPrecondition  the source is not a layer (Info::layer)
  //   kAlreadyExists       name taken
  virtual absl::Status Share(absl::string_view name, const ShareOptions& options) = 0;

  // Gone at once; its files go with the next Cleanup(), unless another snapshot shares them.
  // kFailedPrecondition: something is stacked on it.
  virtual absl::Status Remove(absl::string_view key) = 0;

  // Visits in key order from a consistent view; a status other than OK ends the walk and is
  // returned.
  virtual absl::Status Walk(const std::function<absl::Status(const Info&)>& visit) = 0;

  // Deletes files that no record names. Safe at any time beside other calls. `cancel`, if not null,
  // ends it between two directories, with its status: there may be tens of thousands.
  virtual absl::Status Cleanup(const CancelToken* cancel) = 0;

  // True: an active snapshot prepared without parent may be committed with one
  // (CommitOptions::parent), so that layers can be unpacked side by side. Constant.
  virtual bool CanRebase() const { return false; }
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_SNAPSHOTTER_H_
