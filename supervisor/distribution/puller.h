// An image into the content store: manifest tree, then configs and layers in parallel, each byte
// read once.
//
// One download per digest however many callers ask (they wait for the first). Blobs that are
// present are not fetched, broken ones continue where they stopped, also after a restart: an
// ingest's ref is `<kind>-<digest>`. While a layer arrives it is handed to the caller's LayerSink
// as well, which is how unpacking overlaps with the download. Nothing is visible before its digest
// is verified.
//
// Thread-safe; keeps no state beyond running downloads. Spec: OCI image-spec v1.1,
// distribution-spec v1.1.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_PULLER_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_PULLER_H_

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
#include "supervisor/distribution/fetcher.h"
#include "supervisor/distribution/layer_feed.h"
#include "supervisor/distribution/progress.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"
#include "supervisor/distribution/resolver.h"

namespace gantry::distribution {

// What is about to be fetched for the first chosen platform.
struct ImagePlan {
  content::Descriptor manifest;
  content::Descriptor config;
  std::vector<content::Descriptor> layers;  // base first
  std::vector<content::Digest>
      diff_ids;  // of the config; may differ in number when the image is broken
};

struct PullOptions {
  // Images to fetch out of an index, each by best match. Empty: this machine's.
  std::vector<content::Platform> platforms;
  bool all_platforms = false;

  bool include_attestations = false;  // fetch attestation manifests of an index as well
  bool fetch_foreign_layers = true;   // from their `urls`, https only; false: leave them out
  bool fetch_unpacked_layers =
      true;  // false: a layer that is unpacked already stays out of the store (policy `discard`)
  int max_parallel_blobs = 4;
  bool sync_blobs = true;  // false: the caller makes the store durable before it records the image
  content::Labels labels;  // added to every blob, e.g. a gc label for the caller's lease

  // Manifest and config are in the store, the layers are not yet asked for: where an unpack session
  // learns what to expect. Not called for artifacts. Other than OK ends the pull.
  std::function<absl::Status(const ImagePlan&)> on_image;

  // Asked for each layer that is not in the store, when fetch_unpacked_layers is off; true skips
  // the download.
  std::function<bool(const ImagePlan&, size_t index)> is_unpacked;

  // Fed with the layers that arrive whole in this call; the others (present, resumed, fetched by
  // another caller) are in the store when the call returns. Null: fetch only.
  LayerSink* sink = nullptr;
  ProgressFn progress;
};

struct PulledImage {
  Reference reference;
  content::Descriptor target;                  // what the reference names: index or manifest
  std::vector<content::Descriptor> manifests;  // the images chosen, best first
  content::Descriptor config;                  // of manifests[0]
  std::vector<content::Digest> blobs;  // everything in the tree that is in the store now, each once
  int64_t fetched_bytes = 0;           // over the network, repeats included
  int64_t present_bytes = 0;           // found in the store
  absl::Duration resolving;            // from the name to the first configuration
  absl::Duration fetching;             // from there to the last byte
  absl::Duration fetch_cost;           // processor time of receiving, hashing and storing
};

class DownloadFlights;

class Puller {
 public:
  // `client` outlives the puller.
  Puller(RegistryClient* client, FetcherOptions fetcher_options);
  ~Puller();

  // Resolves and fetches. The caller holds a lease around it and writes the image record after it.
  //   kNotFound            no such image, or none for the platform (the platforms there are get named)
  //   kFailedPrecondition  an image of a kind that cannot be run (schema 1), or what on_image said
  //   kDataLoss            the registry sent something else than it promised; nothing of it is kept
  //   kResourceExhausted   document too large or too deep, rate limit, disk full
  //   kUnauthenticated, kPermissionDenied, kUnavailable, kCancelled, kDeadlineExceeded
  absl::StatusOr<PulledImage> Pull(const Reference& ref, content::Store& store,
                                   const PullOptions& options, const CallContext& context);

  // The same from a descriptor that is known already.
  absl::StatusOr<PulledImage> PullResolved(const Reference& ref, const Resolved& resolved,
                                           content::Store& store, const PullOptions& options,
                                           const CallContext& context);

  // One blob or manifest of `ref`'s repository into the store: repairs, discarded layers. Present
  // is success.
  absl::Status FetchOne(const Reference& ref, const content::Descriptor& descriptor,
                        content::Store& store, const PullOptions& options,
                        const CallContext& context);

  Fetcher& fetcher();

 private:
  class Walk;
  RegistryClient* const client_;
  Resolver resolver_;
  Fetcher fetcher_;
  std::unique_ptr<DownloadFlights> flights_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_PULLER_H_
