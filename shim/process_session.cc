#include "shim/process_session.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/file.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

struct Relation {
  pid_t parent = 0;
  pid_t session = 0;
  uint64_t start_ticks = 0;
};
using Relations = std::map<pid_t, Relation>;

std::optional<Relation> ReadRelation(pid_t pid) {
  constexpr size_t kMaxBytes = 4096;
  const absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat("/proc/", pid, "/stat"), kMaxBytes);
  if (!text.ok()) return std::nullopt;
  // "pid (name) state parent group session ...", and the name may hold anything.
  const size_t end = text->rfind(')');
  if (end == std::string::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(*text).substr(end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTicks = 19;
  Relation relation;
  if (fields.size() <= kStartTicks || !absl::SimpleAtoi(fields[1], &relation.parent) ||
      !absl::SimpleAtoi(fields[3], &relation.session) ||
      !absl::SimpleAtoi(fields[kStartTicks], &relation.start_ticks))
    return std::nullopt;
  // It has ended, and takes no signal; its children have another parent already.
  if (fields[0] == "Z" || fields[0] == "X") return std::nullopt;
  return relation;
}

Relations ReadRelations(const std::vector<pid_t>& candidates) {
  Relations relations;
  for (const pid_t pid : candidates) {
    if (const std::optional<Relation> relation = ReadRelation(pid)) relations[pid] = *relation;
  }
  return relations;
}

// Those that are one of `roots`, descend from one, or are in one of `sessions`.
std::vector<ProcessId> Members(const Relations& relations, const std::set<pid_t>& roots,
                               const std::set<pid_t>& sessions) {
  const auto belongs = [&](pid_t pid) {
    // Bounded: a chain of parents that changes while it is read need not end at a root.
    for (size_t steps = 0; steps <= relations.size(); ++steps) {
      if (roots.contains(pid)) return true;
      const auto found = relations.find(pid);
      if (found == relations.end()) return false;
      if (sessions.contains(found->second.session)) return true;
      pid = found->second.parent;
    }
    return false;
  };
  std::vector<ProcessId> members;
  for (const auto& [pid, relation] : relations) {
    if (belongs(pid)) members.push_back({pid, relation.start_ticks});
  }
  return members;
}

}  // namespace

std::vector<ProcessId> SessionOf(pid_t leader, const std::vector<pid_t>& candidates) {
  return Members(ReadRelations(candidates), {leader}, {leader});
}

std::vector<ProcessId> SessionSince(const std::vector<ProcessId>& earlier,
                                    const std::vector<pid_t>& candidates) {
  const Relations relations = ReadRelations(candidates);
  std::set<pid_t> leaders;
  for (const ProcessId& process : earlier) leaders.insert(process.pid);
  std::set<pid_t> roots;
  std::set<pid_t> sessions;
  for (const ProcessId& process : earlier) {
    const auto found = relations.find(process.pid);
    if (found == relations.end() || found->second.start_ticks != process.start_ticks) continue;
    roots.insert(process.pid);
    // As long as one of it is there the number stands for the same session. One that none of them
    // leads is the container's own.
    if (leaders.contains(found->second.session)) sessions.insert(found->second.session);
  }
  return Members(relations, roots, sessions);
}

bool SignalProcess(const ProcessId& process, int signal) {
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  if (!pidfd.valid()) return false;
  // The handle is of whoever has the pid now; read after it was taken, the time of the start says
  // who that is.
  const std::optional<Relation> now = ReadRelation(process.pid);
  if (!now.has_value() || now->start_ticks != process.start_ticks) return false;
  return syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
}

}  // namespace gantry::shim
