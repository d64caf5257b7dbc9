// Layers to snapshots: each layer of an image becomes a committed snapshot named by its chain ID.
//
// With a snapshotter that can rebase (overlay), layers are unpacked beside each other, each into a
// snapshot without parent, and take their parent at commit; they may be fed while they arrive. With
// one that cannot (native), they are unpacked one after the other from the content store. A chain
// ID is unpacked once however many sessions want it: the others wait for the first, and take over
// when it fails. A chain ID that the snapshotter can share (Snapshotter::Share) is not unpacked at
// all. A layer that was unpacked although another session committed the same chain ID meanwhile, or
// although it is stored under another digest there, is dropped in favour of the shared one.
//
// Durability: the files of all layers of an image are synced once, then the snapshots are
// committed, base first.
//
// Unpacker is thread-safe and outlives its sessions. One UnpackSession serves one image or one
// archive; see below.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_UNPACKER_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_UNPACKER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "snapshotter/layer_apply.h"
#include "snapshotter/snapshotter.h"
#include "supervisor/distribution/layer_feed.h"

namespace gantry {
class CancelToken;
}

namespace gantry::distribution {

struct UnpackProgress {
  content::Digest layer;    // of the blob; empty while it is not known
  content::Digest diff_id;  // empty while it is not known
  enum class State { kUnpacking, kDone, kExists } state = State::kUnpacking;
  int64_t offset_bytes = 0;  // of the compressed layer
  int64_t total_bytes = 0;   // 0: unknown
};
using UnpackProgressFn =
    std::function<void(const UnpackProgress&)>;  // called from several threads, one at a time

struct UnpackerOptions {
  int parallel_layers = 2;                      // unpacking at once, over all sessions
  int64_t feed_buffer_bytes = 8 << 20;          // of each layer being unpacked while it arrives
  int64_t total_feed_buffer_bytes = 32 << 20;   // of all together
  int64_t max_layer_bytes = int64_t{64} << 30;  // uncompressed
  int64_t max_layer_entries = 5000000;
};

// Where a session reads and writes: one namespace's view of both stores.
struct UnpackTarget {
  content::Store* store = nullptr;
  snapshot::Snapshotter* snapshotter = nullptr;
  std::string snapshotter_name;  // "overlayfs"; for the label on the config blob
  std::string scope;             // sessions of one scope share work: the namespace
};

struct UnpackResult {
  content::Digest chain_id;  // of the whole image; empty for an image without layers
  int layers_unpacked = 0;
  int layers_present = 0;    // or shared with another snapshot
  snapshot::ApplyCost cost;  // of the layers unpacked
  absl::Duration syncing;    // making them durable
};

// Feeds first (in any order, from any thread), then Finish once per image. Feeds end before the
// session does. Thread-safe.
class UnpackSession : public LayerSink {
 public:
  // Drops what no Finish has claimed.
  ~UnpackSession() override = default;

  // Tells which layers belong together, base first, before they arrive, so that work can be shared
  // and what exists skipped. May be left out.
  virtual void Expect(const std::vector<content::Descriptor>& layers,
                      const std::vector<content::Digest>& diff_ids) = 0;

  // Unpacks what has not been fed, waits for what is being unpacked, commits the chain, labels the
  // blob `config` as referring to it (unless `config` is empty) and each layer with its diff id.
  //   kInvalidArgument     layers and diff ids do not match in number
  //   kDataLoss            a layer is damaged or does not have its diff id; its digest is named
  //   kNotFound            a layer is not in the store
  //   kResourceExhausted   disk full, or a limit of UnpackerOptions
  //   kCancelled, kDeadlineExceeded
  // After a failure the layers below the failed one stay, committed, for the next attempt.
  virtual absl::StatusOr<UnpackResult> Finish(const content::Digest& config,
                                              const std::vector<content::Descriptor>& layers,
                                              const std::vector<content::Digest>& diff_ids) = 0;
};

class Unpacker {
 public:
  explicit Unpacker(const UnpackerOptions& options);
  ~Unpacker();
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;

  // `cancel` and what `target` points at outlive the session. `progress` may be null.
  std::unique_ptr<UnpackSession> Start(const UnpackTarget& target, CancelToken& cancel,
                                       UnpackProgressFn progress);

  // Reads manifest and config of `manifest` (not an index) from the store and unpacks it, without
  // feeding.
  absl::StatusOr<UnpackResult> UnpackImage(const UnpackTarget& target,
                                           const content::Descriptor& manifest, CancelToken& cancel,
                                           UnpackProgressFn progress);

 private:
  struct Shared;
  class Session;
  const std::unique_ptr<Shared> shared_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_UNPACKER_H_
