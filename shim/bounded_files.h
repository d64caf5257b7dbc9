// Copies of a few files on a file system of a bounded size, which a container is shown in place of
// the files themselves: what it writes to them does not go to the host's disk.
//
// Thread-compatible. The calling process has a mount namespace of its own, and `at` lies on a mount
// that others do not see changes of.
#ifndef GANTRY_SHIM_BOUNDED_FILES_H_
#define GANTRY_SHIM_BOUNDED_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry::shim {

class BoundedFiles {
 public:
  // Copies those of `names` that are in `directory`, with owner and mode, to a new file system at
  // `at`, which is made. The copies may grow to `max_bytes` together; no less than they have now.
  //   kInvalidArgument  a name with a '/', or paths that are not absolute
  //   others            the system's
  static absl::StatusOr<BoundedFiles> Make(const std::string& directory,
                                           const std::vector<std::string>& names, int64_t max_bytes,
                                           const std::string& at);
  BoundedFiles(BoundedFiles&&) = default;
  BoundedFiles& operator=(BoundedFiles&&) = default;

  // Writes what differs back to the directory, and takes the file system away. A copy that is no
  // regular file any more is left out. Goes on past errors and returns the first.
  absl::Status End();

 private:
  BoundedFiles() = default;

  std::string directory_;
  std::vector<std::string> names_;
  int64_t max_bytes_ = 0;
  std::string at_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_BOUNDED_FILES_H_
