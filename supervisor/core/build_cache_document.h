// The build cache as it lies in a registry or an OCI layout: which steps have been done, and the
// layers that they made.
//
// A step is named by its key, a digest of all that it reads (build_cache.h). Its result is a layer
// on top of others: each layer names the one below it, as far as the cache holds that. In the
// envelope that BuildKit's caches have, so that registries take it; BuildKit itself, whose keys are
// others, finds nothing in it.
//
//   cache manifest or index -> configuration (kCacheConfig) -> records -> layers, by their number
//   image -> configuration -> "moby.buildkit.cache.v0": records, whose layers are the image's own
//
// Values and free functions, safe to call from any thread. What is parsed is outside input.
#ifndef GANTRY_SUPERVISOR_CORE_BUILD_CACHE_DOCUMENT_H_
#define GANTRY_SUPERVISOR_CORE_BUILD_CACHE_DOCUMENT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "content-store/descriptor.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {

inline constexpr char kCacheConfig[] = "application/vnd.buildkit.cacheconfig.v0";
// The member of an image's configuration that holds its own cache, in base64.
inline constexpr char kInlineCache[] = "moby.buildkit.cache.v0";

struct CacheLayer {
  content::Descriptor blob;
  content::Digest diff_id;
  int parent = -1;  // the layer below, by number; -1: one that the cache does not hold, or none
  absl::Time created;
};

struct CacheStep {
  std::string key;  // "sha256:..."
  int layer = 0;    // that it made, by number
  absl::Time created;
};

struct CacheDocument {
  std::vector<CacheLayer> layers;
  std::vector<CacheStep> steps;
};

// The configuration. Equal documents print equal bytes.
std::string PrintCacheConfig(const CacheDocument& document);
// `blobs` are the layers as the manifest names them. A layer that is not among them is left out,
// with the steps that made it. kInvalidArgument: malformed; kResourceExhausted: too large.
absl::StatusOr<CacheDocument> ParseCacheConfig(absl::string_view text,
                                               const std::vector<content::Descriptor>& blobs);

// The records of an image's own cache: JSON, not yet in base64.
std::string PrintInlineCache(const std::vector<CacheStep>& steps);
// Of an image with these layers, base first. Records that fit none of them are left out.
absl::StatusOr<CacheDocument> ParseInlineCache(absl::string_view text,
                                               const oci::Manifest& manifest,
                                               const std::vector<content::Digest>& diff_ids);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BUILD_CACHE_DOCUMENT_H_
