// Options whose value is a file: environment and label files, seccomp profiles.
//
// kInvalidArgument messages name the file and the line.
#ifndef GANTRY_CTL_OPTION_FILES_H_
#define GANTRY_CTL_OPTION_FILES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::ctl {

// --env-file, --label-file: a line each, # comments, no quoting. For labels `environment` is empty
// and bare names stay.
absl::StatusOr<std::vector<std::string>> ReadAssignments(
    const std::string& path, bool labels, const std::map<std::string, std::string>& environment);
// seccomp=FILE becomes seccomp=<content of the file>.
absl::StatusOr<std::string> ParseSecurityOption(absl::string_view text);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_OPTION_FILES_H_
