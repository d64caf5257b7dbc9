// Paths of an image, as text: "/a/../b" -> "/b". Nothing is looked up.
//
// Free functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_PATHS_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_PATHS_H_

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace gantry::build {

// `path` in the directory `base` (absolute), without "." and "..", which end at the root.
inline std::string JoinPath(absl::string_view base, absl::string_view path) {
  const std::string whole =
      absl::StartsWith(path, "/") ? std::string(path) : absl::StrCat(base, "/", path);
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(whole, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else {
      parts.push_back(part);
    }
  }
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

inline std::string BaseName(absl::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_PATHS_H_
