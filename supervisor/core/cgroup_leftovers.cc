#include "supervisor/core/cgroup_leftovers.h"

#include <dirent.h>
#include <sys/stat.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/file.h"

namespace gantry::core {
namespace {

constexpr size_t kMost = 100;
constexpr size_t kIdLength = 64;
constexpr int kMaxDepth = 8;

std::vector<std::string> Directories(const std::string& path) {
  std::vector<std::string> names;
  DIR* const handle = opendir(path.c_str());
  if (handle == nullptr) return names;
  absl::Cleanup close = [handle] { closedir(handle); };
  while (const dirent* const entry = readdir(handle)) {
    const std::string name = entry->d_name;
    struct stat info;
    if (name != "." && name != ".." && lstat(absl::StrCat(path, "/", name).c_str(), &info) == 0 &&
        S_ISDIR(info.st_mode))
      names.push_back(name);
  }
  return names;
}

// It and all groups in it. What cannot be read may have processes.
bool IsEmpty(const std::string& group, int depth = 0) {
  const absl::StatusOr<std::string> processes = ReadFile(group + "/cgroup.procs", 4096);
  if (!processes.ok() || !absl::StripAsciiWhitespace(*processes).empty() || depth > kMaxDepth)
    return false;
  for (const std::string& name : Directories(group)) {
    if (!IsEmpty(absl::StrCat(group, "/", name), depth + 1)) return false;
  }
  return true;
}

bool IsId(absl::string_view text) {
  return text.size() == kIdLength &&
         text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

}  // namespace

std::vector<std::string> CgroupLeftovers(const std::string& mount, const std::set<std::string>& ids,
                                         time_t settled) {
  // With v1 each controller has a tree of its own below the mount.
  std::vector<std::string> trees = {mount};
  if (!absl::StatusOr<std::string>(ReadFile(mount + "/cgroup.controllers", 4096)).ok()) {
    for (const std::string& name : Directories(mount))
      trees.push_back(absl::StrCat(mount, "/", name));
  }
  std::vector<std::string> found;
  const auto look = [&](const std::string& parent, absl::string_view prefix,
                        absl::string_view suffix) {
    for (const std::string& name : Directories(parent)) {
      absl::string_view id = name;
      if (!absl::ConsumePrefix(&id, prefix) || !absl::ConsumeSuffix(&id, suffix)) continue;
      const std::string path = absl::StrCat(parent, "/", name);
      struct stat info;
      if (!IsId(id) || ids.contains(std::string(id)) || lstat(path.c_str(), &info) != 0 ||
          info.st_ctim.tv_sec > settled || !IsEmpty(path) || found.size() >= kMost)
        continue;
      found.push_back(path);
    }
  };
  for (const std::string& tree : trees) {
    look(tree + "/gantry", "", "");
    look(tree + "/system.slice", "gantry-", ".scope");
  }
  return found;
}

}  // namespace gantry::core
