// Unpacks a layer: a tar stream (plain, gzip or zstd, by magic) onto a directory tree.
//
// A layer is hostile input. The work is done by a thread of its own in a mount namespace of its own
// whose root is the target, so that the host's tree is not there to be reached; paths are resolved
// with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) besides. What a layer may cost is bounded
// by ApplyLimits.
//
// One pass: bytes are inflated, hashed (DiffID) and written as they come. The calling thread reads
// and inflates, beside the thread that writes; `layer` is read by the caller's thread only.
//
// Spec: OCI image-spec v1.1 "Layer", "Applying Changesets".
#ifndef GANTRY_SNAPSHOTTER_LAYER_APPLY_H_
#define GANTRY_SNAPSHOTTER_LAYER_APPLY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "base/byte_stream.h"
#include "base/tar/reader.h"
#include "snapshotter/mount.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::snapshot {

// What a whiteout becomes.
enum class Whiteouts {
  kAuto,     // kOverlay when the target is the directory of an overlay snapshot, kDelete otherwise
  kDelete,   // the file it names is deleted
  kOverlay,  // overlayfs' own form: character device 0:0, trusted.overlay.opaque
};

struct ApplyLimits {
  int64_t uncompressed_bytes = int64_t{1} << 40;
  // Uncompressed bytes per compressed byte, once a gibibyte came out.
  int64_t expansion = 1100;
  int64_t entries = 10'000'000;
  int64_t file_bytes = int64_t{1} << 40;  // length of one file, holes included
  int path_depth = 512;
  TarLimits tar = {};
};

struct ApplyOptions {
  Whiteouts whiteouts = Whiteouts::kAuto;
  ApplyLimits limits = {};
  CancelToken* cancel = nullptr;  // checked between pieces; may be null
  bool user_xattr = false;        // overlay mounted with "userxattr"
  // Uncompressed bytes so far; called on the calling thread, about once per MiB.
  std::function<void(int64_t)> progress = nullptr;
};

// What a layer applied without its parent cannot know: attributes of directories that its entries
// only pass through, and content of files below it that it links to. Almost always empty.
struct DeferredWork {
  struct Link {
    std::string path;      // the first link to it, for messages
    std::string existing;  // the file below, without links on the way
  };
  std::vector<std::string> implied_directories;  // outermost first
  std::vector<Link> links;
  bool opaque_root = false;  // the layer hides all there is below it

  bool empty() const { return implied_directories.empty() && links.empty() && !opaque_root; }
};

// Processor time by what it went into.
struct ApplyCost {
  absl::Duration inflate;  // with the reading of the compressed bytes
  absl::Duration hash;
  absl::Duration files;  // with the reading of the tar

  ApplyCost& operator+=(const ApplyCost& other) {
    inflate += other.inflate;
    hash += other.hash;
    files += other.files;
    return *this;
  }
};

struct ApplyResult {
  std::string diff_id;  // "sha256:<hex>" of the uncompressed stream
  int64_t uncompressed_bytes = 0;
  int64_t entries = 0;
  ApplyCost cost;
  DeferredWork deferred;  // unless empty: for CompleteLayer(), before the layer is committed
};

// Unpacks onto what `mounts` show. A single overlay mount is not mounted: its upper directory is
// written, its lower ones are looked at. So is a single bind. The files are not synced
// (SyncLayer()).
//   kInvalidArgument     the layer is malformed or breaks the rules; entry number and path are
//                        named
//   kDataLoss            it is cut short or its compression is damaged
//   kResourceExhausted   a limit, or the disk is full
//   kUnimplemented       unknown compression
//   kCancelled, kDeadlineExceeded  from `cancel`
// After a failure the target holds part of the layer: remove the snapshot.
absl::StatusOr<ApplyResult> ApplyLayer(ByteSource& layer, absl::Span<const Mount> mounts,
                                       const ApplyOptions& options);

// The same onto a plain directory; kAuto is kDelete.
absl::StatusOr<ApplyResult> ApplyLayerToDirectory(ByteSource& layer, const std::string& directory,
                                                  const ApplyOptions& options);

// For a layer applied without its parent (mounts of an active snapshot that is to be rebased): does
// what had to wait.
// `parent_mounts` are those of a view of the parent, which need not be mounted; none for a base
// layer.
// kInvalidArgument: the layer links to a file that is nowhere.
absl::Status CompleteLayer(const DeferredWork& deferred, absl::Span<const Mount> layer_mounts,
                           absl::Span<const Mount> parent_mounts);

// Makes everything on the file system behind `mounts` durable: once for all layers of an image.
absl::Status SyncLayer(absl::Span<const Mount> mounts);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LAYER_APPLY_H_
