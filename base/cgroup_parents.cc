#include "base/cgroup_parents.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace gantry {
namespace {

// "trusted", because cgroup v1 stores no other kind.
constexpr char kMark[] = "trusted.gantry.made";

}  // namespace

void MakeCgroupParents(const std::string& hierarchy, absl::string_view path) {
  for (size_t slash = path.find('/', 1); slash != absl::string_view::npos;
       slash = path.find('/', slash + 1)) {
    const std::string directory = hierarchy + std::string(path.substr(0, slash));
    if (mkdir(directory.c_str(), 0755) == 0)
      setxattr(directory.c_str(), kMark, "1", 1, 0);  // unmarked, it stays: that is all
  }
}

void RemoveCgroupParents(const std::string& directory) {
  std::string parent = directory;
  while (true) {
    const size_t slash = parent.rfind('/');
    if (slash == std::string::npos || slash == 0) return;
    parent.resize(slash);
    if (getxattr(parent.c_str(), kMark, nullptr, 0) < 0 || rmdir(parent.c_str()) != 0) return;
  }
}

}  // namespace gantry
