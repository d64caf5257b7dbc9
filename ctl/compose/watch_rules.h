// Which files of a project are watched, and what a change of one does: develop.watch.
//
// Pure but for reading .dockerignore. Spec: compose-spec "Develop".
#ifndef GANTRY_CTL_COMPOSE_WATCH_RULES_H_
#define GANTRY_CTL_COMPOSE_WATCH_RULES_H_

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/ignore_file.h"
#include "ctl/compose/project.h"

namespace gantry::compose {

struct WatchRule {
  enum class Action { kSync, kRebuild, kRestart, kSyncAndRestart, kSyncAndExec };
  std::string service;
  std::string path;  // absolute
  Action action = Action::kSync;
  std::string target;  // in the container; of the syncs
  bool initial_sync = false;
  const Node* exec = nullptr;  // in the project's model
  // Relative to `path`.
  engine::IgnoreRules ignored;
  std::vector<engine::PathPattern> included;  // none: everything
  // The build's .dockerignore, relative to its context.
  std::string context;
  engine::IgnoreRules ignored_of_context;
};

// The rules of `services` (none: all), in the order of the file.
//   kInvalidArgument     a sync without a target, a pattern that does not parse; names the place
//   kFailedPrecondition  no service has any, or one that is named has none
absl::StatusOr<std::vector<WatchRule>> WatchRulesOf(
    const Project& project, const std::vector<std::string>& services,
    const std::function<absl::StatusOr<std::string>(const std::string&)>& read);

// Where a change of `path` (absolute, clean) is relative to the rule's path: "" for that path
// itself; nullopt: the rule does not apply to it.
std::optional<std::string> AppliesTo(const WatchRule& rule, const std::string& path);

// Editors' temporary files and the like, which are never worth an action.
bool IsTemporaryFile(absl::string_view path);

// What a batch of changed files asks for, each thing once.
struct WatchWork {
  struct Sync {
    std::string from;  // on the host
    std::string to;    // in the container
    bool operator<(const Sync& other) const {
      return to != other.to ? to < other.to : from < other.from;
    }
  };
  std::map<std::string, std::set<Sync>> syncs;  // by service
  std::set<std::string> rebuilds;               // services; nothing else is done to these
  std::set<std::string> restarts;
  std::vector<std::pair<std::string, const Node*>> execs;
  std::map<std::string, int> changes;  // files by service

  bool empty() const { return syncs.empty() && rebuilds.empty() && restarts.empty(); }
};
WatchWork WorkFor(const std::vector<WatchRule>& rules, const std::set<std::string>& changed);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_WATCH_RULES_H_
