// A build cache that lies elsewhere, as a build reads it: which steps it has, and their layers,
// which are fetched when a step is found.
//
// What comes from elsewhere is believed by the builds that name the place, and by no others: its
// results are recorded under keys of their own, which hold the place's name. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_BUILD_CACHE_IMPORT_H_
#define GANTRY_SUPERVISOR_CORE_BUILD_CACHE_IMPORT_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"

#include "supervisor/core/blob_origin.h"
#include "supervisor/core/build_cache.h"
#include "supervisor/core/build_cache_document.h"
#include "supervisor/core/image_build.h"

namespace gantry::core {

class BuildCacheImport {
 public:
  // Reads what steps there are: of a cache, or of images that hold one.
  //   kNotFound         there is nothing, or no cache in it
  //   kInvalidArgument  malformed
  static absl::StatusOr<std::unique_ptr<BuildCacheImport>> Load(ImageBuild::Session& session,
                                                                std::unique_ptr<BlobOrigin> origin);

  const std::string& name() const { return origin_->name(); }
  size_t steps() const { return by_key_.size(); }
  // The files after a step, on `root`; nullopt: the cache does not have it. What was found is
  // recorded in `cache`.
  absl::StatusOr<absl::optional<BuildCache::Hit>> Find(ImageBuild::Session& session,
                                                       BuildCache& cache, const BuildRoot& root,
                                                       const std::string& key,
                                                       const std::string& description);

 private:
  struct Step {
    size_t document = 0;
    CacheStep step;
  };
  explicit BuildCacheImport(std::unique_ptr<BlobOrigin> origin) : origin_(std::move(origin)) {}
  absl::Status AddTree(ImageBuild::Session& session, const content::Descriptor& target, int depth);
  void Add(CacheDocument document);

  const std::unique_ptr<BlobOrigin> origin_;
  std::vector<CacheDocument> documents_;
  std::map<std::string, Step> by_key_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BUILD_CACHE_IMPORT_H_
