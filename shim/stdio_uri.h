// The stdio strings of containerd clients, taken apart. Pure.
#ifndef GANTRY_SHIM_STDIO_URI_H_
#define GANTRY_SHIM_STDIO_URI_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::shim {

struct StdioUri {
  enum class Kind {
    kNone,      // ""
    kPath,      // a FIFO, or a regular file: the file system tells
    kFile,      // file://
    kBinary,    // binary://, ready when fd 5 is closed
    kBinaryV2,  // binary-v2://, ready when a byte came through fd 5
  };
  Kind kind = Kind::kNone;
  std::string path;
  std::vector<std::string> args;  // of a logger: k v k v ...
};

// kInvalidArgument: another scheme, or no absolute path.
absl::StatusOr<StdioUri> ParseStdioUri(absl::string_view text);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_STDIO_URI_H_
