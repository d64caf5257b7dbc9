// Images from a registry. The flow is docs/flows.md (a).
//
// Thread-safe. References outlive the object. Watches context.cancel, reports from several threads,
// and leaves nothing visible when it fails: the name is written last.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_PULL_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_PULL_H_

#include <cstdint>
#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "proto/gantry/v1/images.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/core/stores.h"

namespace gantry::distribution {
class Puller;
class Reference;
class Resolver;
class Unpacker;
}  // namespace gantry::distribution

namespace gantry::core {

class LeaseScope;

// What the pulls of this run of the daemon came to.
struct PullCounts {
  int64_t running = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t fetched_bytes = 0;  // of those that succeeded
  absl::Duration took;        // all that have ended, together
};

class ImagePull {
 public:
  struct Parts {
    Stores* stores;
    ImageCatalog* catalog;
    distribution::Unpacker* unpacker;
    distribution::Puller* puller;
    distribution::Resolver* resolver;
    distribution::CredentialSource* credentials;  // the daemon's own
    const distribution::HostsConfig* hosts = nullptr;
    int max_parallel_blobs = 4;
    bool discard_blobs = false;
    // Makes every blob committed so far durable. With it, the blobs of one image are synced once,
    // before its name is written; without, each by itself.
    std::function<absl::Status()> sync_blobs = nullptr;
  };
  explicit ImagePull(const Parts& parts) : parts_(parts) {}

  // At start, before the doors open and the collector runs: ends the leases of work that a daemon
  // which died had under way. What pulls had got is kept for their next attempt, for a day.
  absl::Status Recover();

  // Resolves the name, fetches what is missing, unpacks while it arrives, names it. `up_to_date` in
  // the answer: nothing had to change.
  absl::StatusOr<v1::PulledImage> Pull(const CallContext& context, const v1::PullRequest& request,
                                       const ProgressFn& progress,
                                       const RegistryAccess& access = {});
  PullCounts pull_counts() const;

 private:
  absl::StatusOr<v1::PulledImage> PullUnder(const LeaseScope& lease, const CallContext& context,
                                            const v1::PullRequest& request,
                                            const distribution::Reference& reference,
                                            const distribution::CallContext& registry,
                                            CancelToken& cancel, const ProgressFn& progress);

  const Parts parts_;

  mutable absl::Mutex mu_;
  PullCounts pulls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_PULL_H_
