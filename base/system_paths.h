// The paths of a container that are masked (empty) or read-only, and how docker's and podman's
// security options change them.
//
// Pure functions.
#ifndef GANTRY_BASE_SYSTEM_PATHS_H_
#define GANTRY_BASE_SYSTEM_PATHS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry {

struct SystemPaths {
  std::vector<std::string> masked;
  std::vector<std::string> read_only;
};

// Takes out of both lists what one of `patterns` matches: shell patterns separated by ':', of which
// '*' and '?' do not match '/', or "ALL".
void Unmask(absl::string_view patterns, SystemPaths& paths);

// Adds `masked`, paths separated by ':', to what is masked.
void Mask(absl::string_view masked, SystemPaths& paths);

}  // namespace gantry

#endif  // GANTRY_BASE_SYSTEM_PATHS_H_
