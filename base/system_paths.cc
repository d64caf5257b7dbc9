#include "base/system_paths.h"

#include <fnmatch.h>

#include <algorithm>

#include "absl/strings/str_split.h"

namespace gantry {

void Unmask(absl::string_view patterns, SystemPaths& paths) {
  for (const absl::string_view part : absl::StrSplit(patterns, ':', absl::SkipEmpty())) {
    const std::string pattern(part);
    for (std::vector<std::string>* list : {&paths.masked, &paths.read_only}) {
      std::erase_if(*list, [&](const std::string& path) {
        return pattern == "ALL" || fnmatch(pattern.c_str(), path.c_str(), FNM_PATHNAME) == 0;
      });
    }
  }
}

void Mask(absl::string_view masked, SystemPaths& paths) {
  for (const absl::string_view path : absl::StrSplit(masked, ':', absl::SkipEmpty())) {
    if (std::find(paths.masked.begin(), paths.masked.end(), path) == paths.masked.end())
      paths.masked.emplace_back(path);
  }
}

}  // namespace gantry
