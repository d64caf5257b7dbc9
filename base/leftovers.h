// Directories whose removal has failed (no descriptor free, input or output error): known, so that
// they can be removed without looking for them.
//
// Thread-safe.
#ifndef GANTRY_BASE_LEFTOVERS_H_
#define GANTRY_BASE_LEFTOVERS_H_

#include <sys/types.h>

#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace gantry {

class Leftovers {
 public:
  // RemoveTree(path). After a failure `path` is a leftover.
  absl::Status Remove(const std::string& path);

  // mkdir(path, mode). From then on `path` is in use and no leftover. Waits for a Sweep(), so that
  // the new directory is not taken for the old one. kAlreadyExists: it exists.
  absl::Status Make(const std::string& path, mode_t mode);

  // Tries again to remove all; returns the first failure.
  absl::Status Sweep();

 private:
  absl::Mutex sweep_mu_ ABSL_ACQUIRED_BEFORE(mu_);  // exclusive: leftovers are being removed
  absl::Mutex mu_;
  std::set<std::string> paths_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry

#endif  // GANTRY_BASE_LEFTOVERS_H_
