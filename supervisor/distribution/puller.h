// An image into the content store: manifest tree, then configs and layers in parallel, each byte read once.
//
// One download per digest however many callers ask (they wait for the first). Blobs that are present are not fetched, broken
// ones continue where they stopped, also after a restart: an ingest's ref is `<kind>-<digest>`. While a layer arrives it is
// handed to the caller's ImageSink as well, which is how unpacking overlaps with the download. Nothing is visible before its
// digest is verified.
//
// Thread-safe; keeps no state beyond running downloads. Spec: OCI image-spec v1.1, distribution-spec v1.1.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_PULLER_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_PULLER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "supervisor/distribution/fetcher.h"
#include "supervisor/distribution/progress.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"
#include "supervisor/distribution/resolver.h"

namespace gantry::distribution {

// Receives one layer's compressed bytes in order, while they arrive. Used by one thread at a time.
class LayerSink {
 public:
  // Without Finish(): the layer is given up, drop what was made of it.
  virtual ~LayerSink() = default;

  // May block (that is the back-pressure on the network). A failure ends the feeding, not the download: the digest is still
  // checked first, since damaged bytes are the likeliest reason for a layer that does not unpack.
  virtual absl::Status Write(absl::string_view bytes) = 0;

  // All bytes were given and the blob's digest is verified.
  virtual absl::Status Finish() = 0;
};

// What the puller feeds: the unpacker in the daemon, a recorder in tests. Called from the puller's threads.
class ImageSink {
 public:
  virtual ~ImageSink() = default;

  // Manifest and config of the image for the chosen platform are in the store. Once per image, before its first OpenLayer().
  virtual absl::Status Begin(const content::Descriptor& manifest, absl::string_view manifest_json,
                             absl::string_view config_json) = 0;

  // About to fetch (or to read back, when it is present) layer number `index`. A null sink: not wanted, it is unpacked already
  // or somebody else is doing it.
  virtual absl::StatusOr<std::unique_ptr<LayerSink>> OpenLayer(size_t index, const content::Descriptor& layer) = 0;

  // Asked before OpenLayer for a layer that is not in the store, when PullOptions::fetch_unpacked_layers is off:
  // true skips the download.
  virtual bool IsUnpacked(size_t /*index*/, const content::Descriptor& /*layer*/) { return false; }
};

struct PullOptions {
  // Images to fetch out of an index, each by best match. Empty: this machine's.
  std::vector<content::Platform> platforms;
  bool all_platforms = false;

  bool include_attestations = false;  // fetch attestation manifests of an index as well
  bool fetch_foreign_layers = true;   // from their `urls`, https only; false: leave them out
  bool fetch_unpacked_layers = true;  // false: a layer the sink has unpacked already stays out of the store (policy `discard`)
  int max_parallel_blobs = 4;
  content::Labels labels;             // added to every blob, e.g. a gc label for the caller's lease

  ImageSink* sink = nullptr;  // fed with the first chosen platform's image; null: fetch only
  ProgressFn progress;
};

struct PulledImage {
  Reference reference;
  content::Descriptor target;                   // what the reference names: index or manifest
  std::vector<content::Descriptor> manifests;  // the images chosen, best first
  content::Descriptor config;                   // of manifests[0]
  std::vector<content::Digest> blobs;           // everything in the tree that is in the store now, each once
  int64_t fetched_bytes = 0;                    // over the network, repeats included
  int64_t present_bytes = 0;                    // found in the store
};

class Puller {
 public:
  // `client` outlives the puller.
  Puller(RegistryClient* client, FetcherOptions fetcher_options);
  ~Puller();

  // Resolves and fetches. The caller holds a lease around it and writes the image record after it.
  //   kNotFound            no such image, or none for the platform (the platforms there are get named)
  //   kFailedPrecondition  an image of a kind nobody can run (schema 1), or what the sink said
  //   kDataLoss            the registry sent something else than it promised; nothing of it is kept
  //   kResourceExhausted   document too large or too deep, rate limit, disk full
  //   kUnauthenticated, kPermissionDenied, kUnavailable, kCancelled, kDeadlineExceeded
  absl::StatusOr<PulledImage> Pull(const Reference& ref, content::Store& store, const PullOptions& options,
                                   const CallContext& context);

  // The same from a descriptor that is known already.
  absl::StatusOr<PulledImage> PullResolved(const Reference& ref, const Resolved& resolved, content::Store& store,
                                           const PullOptions& options, const CallContext& context);

  // One blob or manifest of `ref`'s repository into the store: repairs, discarded layers. Present is success.
  absl::Status FetchOne(const Reference& ref, const content::Descriptor& descriptor, content::Store& store,
                        const PullOptions& options, const CallContext& context);

  Fetcher& fetcher();

 private:
  struct Flights;
  class Walk;
  RegistryClient* const client_;
  Resolver resolver_;
  Fetcher fetcher_;
  std::unique_ptr<Flights> flights_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_PULLER_H_
