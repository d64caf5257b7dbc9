// Files that go into running containers when they change: `watch` and `up --watch`.
#ifndef GANTRY_CTL_COMMANDS_COMPOSE_WATCH_H_
#define GANTRY_CTL_COMMANDS_COMPOSE_WATCH_H_

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "ctl/commands/compose.h"
#include "ctl/compose/engine.h"
#include "ctl/compose/project.h"

namespace gantry::ctl {

struct WatchOptions {
  std::vector<std::string> services;  // none: all that have something to watch
  bool quiet = false;                 // no lines about what is done
  bool prune = true;                  // remove the image that a rebuild replaced
  // Called with the containers that a rebuild made.
  std::function<void(const std::vector<compose::ObservedContainer>&)> on_renewed;
};

// Watches until `stopped`. What fails for one change is said, and the watch goes on.
//   kInvalidArgument, kFailedPrecondition   develop.watch is wrong or empty (watch_rules.h)
//   kNotFound, kResourceExhausted           a path cannot be watched (file_watcher.h)
absl::Status WatchProject(Context& context, const ProjectFlags& flags, compose::Engine& engine,
                          const compose::Project& project, const WatchOptions& options,
                          const std::atomic<bool>& stopped);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_COMPOSE_WATCH_H_
