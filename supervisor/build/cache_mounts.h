// The directories of RUN --mount=type=cache, which outlive builds: <directory>/<digest of the
// id>[.N].
//
// A directory in use is locked, shared or exclusively as its mount says, by a lock that ends with
// the daemon's process; so a crash leaves nothing locked. A private mount whose directory is in use
// gets the next one, .1, .2, ...
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_BUILD_CACHE_MOUNTS_H_
#define GANTRY_SUPERVISOR_BUILD_CACHE_MOUNTS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/build/run_mounts.h"
#include "supervisor/core/build_cache_directories.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

class CacheMounts : public core::BuildCacheDirectories {
 public:
  explicit CacheMounts(std::string directory) : directory_(std::move(directory)) {}

  // A directory for the length of a step.
  struct Lease {
    std::string path;    // of its files
    bool fresh = false;  // it was made for this call, and is empty
    UniqueFd lock;
  };
  // `name_space` keeps apart caches of the same id. A locked mount waits for its turn. kCancelled.
  absl::StatusOr<Lease> Acquire(const RunMount& mount, const std::string& name_space,
                                CancelToken* cancel);

  // One that was not used since the last call is not measured again.
  absl::StatusOr<std::vector<Directory>> Directories() override;
  absl::StatusOr<bool> RemoveDirectory(const std::string& id) override;

 private:
  struct Measured {
    absl::Time last_used_at;
    int64_t size_bytes = 0;
  };
  int64_t SizeOf(const Directory& one, const std::string& path) ABSL_LOCKS_EXCLUDED(mu_);

  const std::string directory_;
  absl::Mutex mu_;  // also held for each attempt to take a lock
  std::map<std::string, Measured> measured_ ABSL_GUARDED_BY(mu_);  // by name
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_CACHE_MOUNTS_H_
