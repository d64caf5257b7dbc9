// Tar archives between a directory tree of ours and a container: what `cp` sends and receives.
//
// Writing: POSIX ustar with pax headers where a name, a size or a time needs one. Reading: ustar, pax and GNU's long names. What is
// read comes out of a container and is not trusted: nothing is ever written outside the target, whatever links say.
//
// Thread-compatible.
#ifndef GANTRY_CTL_TAR_H_
#define GANTRY_CTL_TAR_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"

namespace gantry::ctl {

// Writes `path` (a file, link or whole directory) into `out` under the name `name`. With `content_only`, what is in the directory under
// names relative to it instead. A symbolic link given as `path` itself is followed if `follow`.
absl::Status WriteTree(const std::string& path, const std::string& name, bool content_only,
                       bool follow, ByteSink& out);

struct ExtractOptions {
  // The first component of names becomes this; "" leaves names as they are.
  std::string rename_root;
  bool keep_owner = false;  // uid and gid as in the archive; otherwise ours
};
// Unpacks into an existing directory. kFailedPrecondition: an entry would leave it, or a directory would replace a file or the other
// way round. Devices are made if we may. Returns the number of entries.
absl::StatusOr<int64_t> ExtractTree(ByteSource& tar, const std::string& directory,
                                    const ExtractOptions& options);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TAR_H_
