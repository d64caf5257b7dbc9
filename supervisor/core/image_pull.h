// Images from a registry. The flow is docs/flows.md (a).
//
// Thread-safe. References outlive the object. Watches context.cancel, reports from several threads,
// and leaves nothing visible when it fails: the name is written last.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_PULL_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_PULL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "content-store/descriptor.h"
#include "proto/gantry/v1/images.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/core/stores.h"

namespace gantry::v1 {
class PullRequest;
class PulledImage;
}  // namespace gantry::v1
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

struct PullOrder {
  std::string reference;
  std::vector<std::string> platforms;  // "linux/arm64"; none: the host's
  v1::RegistryAuth auth;
};

// What a pull found, and what it cost.
struct Pulled {
  content::Descriptor target;
  int64_t fetched_bytes = 0;
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
  // The same, with names that the caller writes when everything is there and unpacked, in `name`
  // and under the lease it is given.
  using NameFn =
      std::function<absl::Status(const CallContext& leased, const content::Descriptor& target)>;
  absl::StatusOr<Pulled> PullAs(const CallContext& context, const PullOrder& order,
                                const ProgressFn& progress, const RegistryAccess& access,
                                const NameFn& name);

  PullCounts pull_counts() const;

 private:
  // One platform of an image. The layers that are to be let go after the names are written are
  // added to `discard`.
  absl::StatusOr<Pulled> FetchUnder(const LeaseScope& lease, const CallContext& context,
                                    const std::string& platform,
                                    const distribution::Reference& reference,
                                    const distribution::CallContext& registry, CancelToken& cancel,
                                    const ProgressFn& progress,
                                    std::vector<content::Digest>& discard);
  absl::StatusOr<Pulled> PullUnder(const LeaseScope& lease, const CallContext& context,
                                   const PullOrder& order, distribution::Reference reference,
                                   const distribution::CallContext& registry, CancelToken& cancel,
                                   const ProgressFn& progress, const NameFn& name);

  const Parts parts_;

  mutable absl::Mutex mu_;
  PullCounts pulls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_PULL_H_
