// Directories that belong to the build cache and hold no layers: files that builds keep for each
// other. They count to its ceiling, are listed and pruned with its records.
#ifndef GANTRY_SUPERVISOR_CORE_BUILD_CACHE_DIRECTORIES_H_
#define GANTRY_SUPERVISOR_CORE_BUILD_CACHE_DIRECTORIES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace gantry::core {

// Thread-safe.
class BuildCacheDirectories {
 public:
  virtual ~BuildCacheDirectories() = default;
  struct Directory {
    std::string id;
    std::string type;  // as in v1::BuildCacheRecord
    std::string description;
    int64_t size_bytes = 0;
    absl::Time last_used_at;
    bool in_use = false;
  };
  virtual absl::StatusOr<std::vector<Directory>> Directories() = 0;
  // False: it is in use and stays.
  virtual absl::StatusOr<bool> RemoveDirectory(const std::string& id) = 0;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BUILD_CACHE_DIRECTORIES_H_
