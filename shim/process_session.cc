#include "shim/process_session.h"

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/file.h"

namespace gantry::shim {

std::vector<pid_t> SessionOf(pid_t leader, const std::vector<pid_t>& candidates) {
  struct Relation {
    pid_t parent = 0;
    pid_t session = 0;
  };
  std::map<pid_t, Relation> relations;
  for (const pid_t pid : candidates) {
    constexpr size_t kMaxBytes = 4096;
    const absl::StatusOr<std::string> text =
        ReadFile(absl::StrCat("/proc/", pid, "/stat"), kMaxBytes);
    if (!text.ok()) continue;
    // "pid (name) state parent group session ...", and the name may hold anything.
    const size_t end = text->rfind(')');
    if (end == std::string::npos) continue;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(absl::string_view(*text).substr(end + 1), ' ', absl::SkipEmpty());
    Relation relation;
    if (fields.size() < 4 || !absl::SimpleAtoi(fields[1], &relation.parent) ||
        !absl::SimpleAtoi(fields[3], &relation.session))
      continue;
    relations[pid] = relation;
  }
  const auto belongs = [&](pid_t pid) {
    // Bounded: a chain of parents that changes while it is read need not end at a root.
    for (size_t steps = 0; steps <= relations.size(); ++steps) {
      if (pid == leader) return true;
      const auto found = relations.find(pid);
      if (found == relations.end()) return false;
      if (found->second.session == leader) return true;
      pid = found->second.parent;
    }
    return false;
  };
  std::vector<pid_t> members;
  for (const auto& [pid, relation] : relations) {
    if (belongs(pid)) members.push_back(pid);
  }
  return members;
}

}  // namespace gantry::shim
