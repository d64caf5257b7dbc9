// A build's context as a tar: the files of a directory less what its .dockerignore leaves out,
// sorted, and owned by root whoever they belong to.
#ifndef GANTRY_CTL_COMMANDS_CONTEXT_TAR_H_
#define GANTRY_CTL_COMMANDS_CONTEXT_TAR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "base/engine/ignore_file.h"

namespace gantry::ctl {

// Of `<dockerfile>.dockerignore` if that is there, else of `.dockerignore` in the directory; no
// rules if there is neither. kInvalidArgument: it does not parse.
absl::StatusOr<engine::IgnoreRules> ContextRules(const std::string& directory,
                                                 const std::string& dockerfile);

// `dockerfile` is a path in the directory that is sent whatever the rules say; "" for none.
absl::Status WriteContext(const std::string& directory, const engine::IgnoreRules& rules,
                          const std::string& dockerfile, ByteSink& out);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_CONTEXT_TAR_H_
