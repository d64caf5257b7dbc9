// What pods' containers and images use: disk, processes, open files.
//
// Thread-safe. kNotFound: no such task or snapshot.
#ifndef GANTRY_SUPERVISOR_CORE_POD_FIGURES_H_
#define GANTRY_SUPERVISOR_CORE_POD_FIGURES_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {

struct Stores;

struct DiskUse {
  int64_t bytes = 0;
  int64_t inodes = 0;
  absl::Time at;
};

struct ProcessUse {
  uint64_t processes = 0;
  uint64_t threads = 0;
  uint64_t files = 0;
  uint64_t sockets = 0;
  uint64_t open_files_limit = 0;  // soft, of the first process
};

class PodFigures {
 public:
  // Nothing is owned.
  struct Parts {
    Stores* stores;
    TaskService* tasks;
  };
  explicit PodFigures(const Parts& parts) : parts_(parts) {}

  // What the container has written to its root file system; looked at every ten seconds at most.
  absl::StatusOr<DiskUse> DiskUseOf(const CallContext& context, const LoadedContainer& container);
  // What the unpacked layers of all images of the namespace take, each counted once; looked at as
  // often.
  absl::StatusOr<DiskUse> ImageUse(const CallContext& context);
  // Open files, sockets and threads of its processes.
  absl::StatusOr<ProcessUse> ProcessUseOf(const CallContext& context, const std::string& id) const;

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, id

  const Parts parts_;

  absl::Mutex mu_;
  // Of containers; with "" as id of the namespace's images.
  std::map<Key, DiskUse> disk_uses_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_FIGURES_H_
