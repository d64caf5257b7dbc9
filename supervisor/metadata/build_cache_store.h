// Records of the build cache: the layers that steps of builds made, by a digest of what the step
// read. Thread-safe.
//
// In the family `meta`, as "build_cache" / ns / key. A record keeps its blob and its snapshot
// (supervisor/gc/edges.h). It is written after both are durable.
#ifndef GANTRY_SUPERVISOR_METADATA_BUILD_CACHE_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_BUILD_CACHE_STORE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/record/v1/build_cache.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

struct StoredCacheRecord {
  std::string key;  // "sha256:..."
  record::v1::BuildCacheRecord record;
};

// What the keys begin with; the namespace and the key follow.
inline constexpr absl::string_view kBuildCachePrefix = "build_cache";

class BuildCacheStore {
 public:
  explicit BuildCacheStore(Database& db) : db_(db) {}

  // kNotFound.
  absl::StatusOr<record::v1::BuildCacheRecord> Find(const Scope& scope, absl::string_view key);
  // Creates or replaces.
  absl::Status Put(const Scope& scope, absl::string_view key,
                   const record::v1::BuildCacheRecord& record);
  // Notes a use. Lost in a power cut, which does not matter. kNotFound.
  absl::Status Touch(const Scope& scope, absl::string_view key, absl::Time now);
  // OK if there is none.
  absl::Status Remove(const Scope& scope, absl::string_view key);
  // In order of key.
  absl::StatusOr<std::vector<StoredCacheRecord>> List(absl::string_view ns);

 private:
  Database& db_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_BUILD_CACHE_STORE_H_
