// Images by intent: take in, send out, name, look at, remove. What all doors' image calls come to.
//
// Values are messages of gantry.v1, the vocabulary of intent (docs/adr/0004). An image is found by reference (as people write it),
// by id ("sha256:..." of what the name points at, or of its config), or by an unambiguous prefix of the id's hexadecimal part.
//
// Thread-safe. Long calls watch context.cancel, report through their progress function from several threads, and leave nothing visible
// when they fail: a name is written last.
// kNotFound: no such image; kInvalidArgument: malformed reference, ambiguous prefix.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_SERVICE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "content-store/descriptor.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/stores.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"

namespace gantry::distribution {
struct CallContext;
class CredentialSource;
class HostsConfig;
class Puller;
class Pusher;
class Reference;
class Resolver;
class Unpacker;
}  // namespace gantry::distribution
namespace gantry::gc {
class Scheduler;
}

namespace gantry::core {

class EventBus;
class LeaseScope;

using ProgressFn =
    std::function<void(const v1::Progress&)>;  // from several threads, must not block

// One image, down to one platform.
struct ResolvedImage {
  std::vector<std::string> names;  // every record that points at `target`
  content::Descriptor target;      // index or manifest: its digest is the image's id
  content::Descriptor manifest;    // of the chosen platform
  oci::Manifest manifest_document;
  std::string config_json;
  oci::ImageConfig config;
  std::vector<content::Digest> chain_ids;  // by layer, base first

  // Of the whole image; empty for an image without layers.
  std::string chain_id() const {
    return chain_ids.empty() ? std::string() : chain_ids.back().str();
  }
};

// How a caller wants registries to be reached, where that is not how the daemon is configured.
struct RegistryAccess {
  std::vector<std::pair<std::string, std::string>> headers;  // sent to the registry's own origins
  std::string hosts_directory;  // of <host>/hosts.toml, absolute; "" the daemon's
  std::string
      default_scheme;  // "http" or "https" for registries no file speaks of; "" the daemon's rules
};

// What the pulls of this run of the daemon came to.
struct PullCounts {
  int64_t running = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t fetched_bytes = 0;  // of those that succeeded
  absl::Duration took;        // all that have ended, together
};

class ImageService {
 public:
  struct Parts {
    Stores* stores;
    EventBus* events;
    distribution::Unpacker* unpacker;
    distribution::Puller* puller;
    distribution::Pusher* pusher;
    distribution::Resolver* resolver;
    distribution::CredentialSource* credentials;  // the daemon's own
    const distribution::HostsConfig* hosts = nullptr;
    gc::Scheduler* gc;
    int max_parallel_blobs = 4;
    bool discard_blobs = false;
    // Makes every blob committed so far durable. With it, the blobs of one image are synced once, before its name is written;
    // without, each by itself.
    std::function<absl::Status()> sync_blobs = nullptr;
  };
  explicit ImageService(const Parts& parts) : parts_(parts) {}

  // At start, before the doors open and the collector runs: ends the leases of work that a daemon which died had under way. What
  // pulls had got is kept for their next attempt, for a day.
  absl::Status Recover();

  // Resolves the name, fetches what is missing, unpacks while it arrives, names it. `up_to_date` in the answer: nothing had to change.
  absl::StatusOr<v1::PulledImage> Pull(const CallContext& context, const v1::PullRequest& request,
                                       const ProgressFn& progress,
                                       const RegistryAccess& access = {});
  PullCounts pull_counts() const;
  absl::StatusOr<std::vector<v1::PushedImage>> Push(const CallContext& context,
                                                    const v1::PushRequest& request,
                                                    const ProgressFn& progress,
                                                    const RegistryAccess& access = {});
  absl::StatusOr<std::vector<v1::LoadedImage>> Load(const CallContext& context,
                                                    const v1::LoadRequest::Open& request,
                                                    ByteSource& archive,
                                                    const ProgressFn& progress);
  absl::StatusOr<v1::LoadedImage> Import(const CallContext& context,
                                         const v1::ImportRequest::Open& request, ByteSource& tar,
                                         const ProgressFn& progress);
  absl::Status Save(const CallContext& context, const v1::SaveRequest& request, ByteSink& out,
                    const ProgressFn& progress);

  absl::StatusOr<v1::ListImagesResponse> List(const CallContext& context,
                                              const v1::ListImagesRequest& request);
  absl::StatusOr<v1::ImageDetails> Inspect(const CallContext& context,
                                           const v1::InspectImageRequest& request);
  absl::StatusOr<v1::ImageHistoryResponse> History(const CallContext& context,
                                                   const v1::ImageHistoryRequest& request);
  absl::Status Tag(const CallContext& context, const v1::TagImageRequest& request);
  // kFailedPrecondition: a container uses it (named), or several names point at an id and `force` is not set.
  absl::StatusOr<v1::RemoveImageResponse> Remove(const CallContext& context,
                                                 const v1::RemoveImageRequest& request);
  absl::StatusOr<v1::PruneImagesResponse> Prune(const CallContext& context,
                                                const v1::PruneImagesRequest& request);
  // `found` hears of each damaged or missing blob as it is found.
  absl::StatusOr<v1::VerifyResponse::Result> Verify(
      const CallContext& context, const v1::VerifyRequest& request,
      const std::function<void(const v1::VerifyResponse::Finding&)>& found,
      const ProgressFn& progress);
  absl::StatusOr<v1::LoginResponse> Login(const CallContext& context,
                                          const v1::LoginRequest& request);
  absl::StatusOr<v1::ExplainRegistryResponse> ExplainRegistry(
      const CallContext& context, const v1::ExplainRegistryRequest& request);

  // ---- for the other services of core ----

  // `platform` "" is the host's. kFailedPrecondition: its content is not here in full.
  absl::StatusOr<ResolvedImage> Resolve(const CallContext& context, absl::string_view image,
                                        absl::string_view platform = "");

  // Makes sure that all layers are snapshots; returns the chain ID to stand on ("" for an image without layers).
  absl::StatusOr<std::string> EnsureUnpacked(const CallContext& context, const ResolvedImage& image,
                                             const std::string& snapshotter,
                                             const ProgressFn& progress = nullptr);

  // Writes the record of a new image and publishes it.
  absl::Status Name(const CallContext& context, const std::string& name,
                    const content::Descriptor& target);

  // A name for what has none: "<none>@sha256:..." as records need one. People see "<none>".
  static std::string DanglingName(const content::Digest& digest);

 private:
  struct Lookup;
  distribution::CallContext Daemons(CancelToken& cancel) const;
  absl::StatusOr<v1::PulledImage> PullUnder(const LeaseScope& lease, const CallContext& context,
                                            const v1::PullRequest& request,
                                            const distribution::Reference& reference,
                                            const distribution::CallContext& registry,
                                            CancelToken& cancel, const ProgressFn& progress);
  absl::StatusOr<std::vector<record::v1::Image>> FindRecords(const CallContext& context,
                                                             absl::string_view image);
  absl::StatusOr<v1::ImageSummary> Summarize(const CallContext& context,
                                             const std::vector<record::v1::Image>& records,
                                             bool manifests);

  const Parts parts_;

  mutable absl::Mutex mu_;
  PullCounts pulls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_SERVICE_H_
