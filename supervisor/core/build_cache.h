// The build cache: what steps of builds made, by a digest of all that a step reads, for later
// builds to take over.
//
// A record keeps the layer's blob and snapshot from collection. It is written when both are
// durable, so a daemon that dies leaves no record of what is not there. Concurrent builds that make
// the same step each write the same record. When the cache grows over its ceiling, the records that
// were used least recently go first; images keep what they refer to all the same.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_BUILD_CACHE_H_
#define GANTRY_SUPERVISOR_CORE_BUILD_CACHE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

#include "proto/gantry/v1/builds.pb.h"
#include "proto/record/v1/build_cache.pb.h"
#include "supervisor/core/build_cache_directories.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_build.h"
#include "supervisor/core/stores.h"
#include "supervisor/metadata/build_cache_store.h"

namespace gantry::gc {
class Scheduler;
}

namespace gantry::core {

class BuildCache {
 public:
  // Nothing is owned.
  struct Parts {
    Stores* stores;
    gc::Scheduler* gc;
    int64_t max_bytes = 0;  // 0: no ceiling
  };
  explicit BuildCache(const Parts& parts) : parts_(parts), records_(parts.stores->db) {}

  // These count, are listed and are removed like records, in every namespace. Before the first call
  // of another method; outlives this.
  void Include(BuildCacheDirectories* directories) { directories_.push_back(directories); }

  struct Hit {
    BuildRoot root;
    absl::Time made_at;
  };
  // The files after a step, on `root`, if a build of any namespace made them before; nullopt: it
  // has to be done. They are kept by the session from here on. What another namespace has is taken
  // over into this one.
  absl::StatusOr<absl::optional<Hit>> Find(ImageBuild::Session& session, const BuildRoot& root,
                                           const std::string& key);
  // `after` is `before` and one layer.
  absl::Status Put(ImageBuild::Session& session, const std::string& key,
                   const std::string& description, const BuildRoot& after, absl::Time made_at);

  absl::StatusOr<v1::BuildCacheUsageResponse> Usage(const CallContext& context,
                                                    const v1::BuildCacheUsageRequest& request);
  // What images share stays unless the request says `all`: nothing would be won by its removal.
  absl::StatusOr<v1::PruneBuildCacheResponse> Prune(const CallContext& context,
                                                    const v1::PruneBuildCacheRequest& request);
  // After a build: takes away what is over the ceiling, of all namespaces together.
  absl::Status KeepCeiling();

 private:
  // The same where a build of the namespace `other` made them.
  absl::StatusOr<absl::optional<Hit>> TakeOver(ImageBuild::Session& session, const BuildRoot& root,
                                               const std::string& key, const std::string& other);

  struct Item {
    v1::BuildCacheRecord shown;
    std::string ns;
    std::string key;                               // of a record
    std::string layer;                             // the same: its blob
    int depth = 0;                                 // of its layers
    BuildCacheDirectories* directories = nullptr;  // null: a record
  };
  // In the order in which they go: least recently used first, and of one build the last layers
  // before those that they stand on. `ns` nullopt: of all namespaces.
  absl::StatusOr<std::vector<Item>> InOrder(const absl::optional<std::string>& ns);
  // Says of those of a namespace which have their layer in common with an image.
  absl::Status MarkShared(const CallContext& context, std::vector<Item>& items);
  // False: it is in use and stays.
  absl::StatusOr<bool> Remove(const Item& item);

  const Parts parts_;
  std::vector<BuildCacheDirectories*> directories_;
  metadata::BuildCacheStore records_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BUILD_CACHE_H_
