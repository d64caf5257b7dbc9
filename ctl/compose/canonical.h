// Short forms of a compose file's values as long ones, and relative paths as absolute ones.
//
// After this every value has one shape: `ports`, `volumes`, `devices`, `secrets`, `configs` and
// `env_file` are lists of maps; `environment`, `labels`, `networks` and `depends_on` are maps;
// `command` and `entrypoint` are lists of words. Files are merged in this form (merge.h), and
// `config` prints it.
// Spec: compose-spec "Services top-level element".
#ifndef GANTRY_CTL_COMPOSE_CANONICAL_H_
#define GANTRY_CTL_COMPOSE_CANONICAL_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

struct CanonicalOptions {
  std::string directory;  // absolute; relative paths start here
  std::string home;       // for "~"
  bool resolve_paths = true;
  // The document was not interpolated: short forms that hold a variable stay as they are.
  bool variables = false;
};

// `document` has passed CheckSchema(). kInvalidArgument: a value that is not of its syntax.
absl::Status MakeCanonical(Node& document, const CanonicalOptions& options);

// One service: of another file, for `extends`.
absl::Status MakeServiceCanonical(Node& service, const std::string& path,
                                  const CanonicalOptions& options);

// `path` from `directory`, "." and ".." taken out. "~" is `home`.
std::string ResolvePath(const std::string& path, const CanonicalOptions& options);

// A command line as a shell splits it, without a shell's substitutions.
absl::StatusOr<std::vector<std::string>> SplitCommand(absl::string_view text);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_CANONICAL_H_
