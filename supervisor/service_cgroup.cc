#include "supervisor/service_cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry {
namespace {

constexpr size_t kMaxListBytes = 64 << 10;

absl::StatusOr<std::vector<std::string>> Hierarchies(const std::string& tree) {
  if (access(absl::StrCat(tree, "/cgroup.controllers").c_str(), F_OK) == 0)
    return std::vector<std::string>{tree};
  GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> names, ListDirectory(tree));
  std::sort(names.begin(), names.end());
  std::vector<std::string> found;
  for (const std::string& name : names) {
    const std::string directory = absl::StrCat(tree, "/", name);
    struct stat info;
    // "cpu" may be a link to "cpu,cpuacct", which is in the list itself.
    if (lstat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) continue;
    if (access(absl::StrCat(directory, "/cgroup.procs").c_str(), F_OK) == 0)
      found.push_back(directory);
  }
  if (found.empty())
    return absl::FailedPreconditionError(absl::StrCat(tree, ": no cgroup hierarchy is mounted"));
  return found;
}

absl::Status WriteTo(const std::string& file, const std::string& text) {
  const UniqueFd fd(open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || write(fd.get(), text.data(), text.size()) < 0)
    return ErrnoToStatus(errno, file);
  return absl::OkStatus();
}

// Version 1: nothing can be moved into a cpuset group that has no processors or memory nodes, and a
// new one has none.
absl::Status InheritCpuset(const std::string& above, const std::string& group) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    absl::StatusOr<std::string> own = ReadFile(group + file, kMaxListBytes);
    if (!own.ok() || !absl::StripAsciiWhitespace(*own).empty()) continue;
    GANTRY_ASSIGN_OR_RETURN(const std::string inherited, ReadFile(above + file, kMaxListBytes));
    GANTRY_RETURN_IF_ERROR(WriteTo(group + file, inherited));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsCgroupPath(absl::string_view path) {
  const std::vector<absl::string_view> names = absl::StrSplit(path, '/', absl::SkipEmpty());
  return !names.empty() && std::none_of(names.begin(), names.end(), [](absl::string_view name) {
    return name == "." || name == "..";
  });
}

absl::Status JoinCgroup(const std::string& tree, absl::string_view path, pid_t pid) {
  if (!IsCgroupPath(path))
    return absl::InvalidArgumentError(absl::StrCat("\"", path, "\" is not the path of a cgroup"));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> hierarchies, Hierarchies(tree));
  for (const std::string& hierarchy : hierarchies) {
    std::string group = hierarchy;
    for (absl::string_view name : absl::StrSplit(path, '/', absl::SkipEmpty())) {
      const std::string above = group;
      absl::StrAppend(&group, "/", name);
      if (mkdir(group.c_str(), 0755) != 0 && errno != EEXIST)
        return ErrnoToStatus(errno, absl::StrCat("make cgroup ", group));
      GANTRY_RETURN_IF_ERROR(WithContext(InheritCpuset(above, group), "set up the cpuset"));
    }
    GANTRY_RETURN_IF_ERROR(WithContext(WriteTo(group + "/cgroup.procs", absl::StrCat(pid)),
                                       absl::StrCat("move into cgroup ", group)));
  }
  return absl::OkStatus();
}

}  // namespace gantry
