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

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/build/run_mounts.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

class CacheMounts {
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

  struct Entry {
    std::string name;
    std::string id;
    int64_t size_bytes = 0;
    absl::Time last_used_at;
    bool in_use = false;
  };
  absl::StatusOr<std::vector<Entry>> List();
  // False: it is in use and stays.
  absl::StatusOr<bool> Remove(const std::string& name);

 private:
  const std::string directory_;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_CACHE_MOUNTS_H_
