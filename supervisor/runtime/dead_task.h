// What is left of a task whose shim is gone: its exit, as recorded or synthesised, and its
// processes, runtime state and cgroups.
//
// Thread-compatible functions without state; they block, each within its timeout.
#ifndef GANTRY_SUPERVISOR_RUNTIME_DEAD_TASK_H_
#define GANTRY_SUPERVISOR_RUNTIME_DEAD_TASK_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "supervisor/runtime/bundle.h"

namespace gantry::runtime {

struct TaskExit {
  pid_t pid = 0;  // 0 when it is not known
  uint32_t exit_status = 0;
  absl::Time exited_at;
  bool oom_killed = false;
  bool synthesised = false;  // the exit was not seen; exit_status is 137
  std::string reason;        // why, when synthesised
};

// How the init process ended, by the shim's record. kNotFound: it left none.
absl::StatusOr<TaskExit> ReadTaskExit(const Bundle& bundle);

// Pid of the init process from the runtime's own state; 0 when the container was never made, or is
// deleted. A number for messages: nothing says that the process still lives.
pid_t ReadInitPid(const Bundle& bundle);

// Ends the runtime that the dead shim may have had at work (shim/runtime_guard.h), kills what the
// container left running (never a process outside its cgroup: membership is checked on an open
// pidfd), has the runtime forget it (`delete --force`), removes its cgroups. Leaves the bundle,
// whose removal is BundleStore's. Everything is tried even when one step fails; the first failure
// is returned:
//   kFailedPrecondition  processes survive SIGKILL (names them and their state)
//   kUnavailable         the runtime did not answer in time; processes and cgroups are gone all the same
// Returns the recorded exit, or one of 137 made up on the spot with `reason`.
absl::StatusOr<TaskExit> ReapDeadTask(const Bundle& bundle, absl::string_view reason,
                                      absl::Duration timeout);

// Directories of this container's cgroup on the host, those that exist, v1 controllers and v2
// alike. Understands cgroupfs paths ("/a/b") and systemd's ("slice:prefix:name"). `cgroup_root` is
// /sys/fs/cgroup but in tests.
std::vector<std::string> FindCgroups(absl::string_view cgroups_path, absl::string_view container_id,
                                     const std::string& cgroup_root);

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_DEAD_TASK_H_
