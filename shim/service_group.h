// The cgroup of the systemd service that the supervisor is, and how shims get out of it.
//
// systemd limits, counts and, at `systemctl kill`, kills what is in a service's group, and
// complains of what is still there when it starts the service again. Shims outlive the supervisor:
// they belong in a group of their own.
#ifndef GANTRY_SHIM_SERVICE_GROUP_H_
#define GANTRY_SHIM_SERVICE_GROUP_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::shim {

// At the top of the v2 hierarchy, beside the containers' /gantry. Stays when it is empty.
inline constexpr char kShimGroup[] = "/gantry-shims";

// Whether a child of `supervisor` with this /proc/<pid>/cgroup is in the group of a service whose
// main process `supervisor` is. `exec_pid` is $SYSTEMD_EXEC_PID. A daemon that is not the main
// process of a service, but runs inside of one, stays in its group.
bool InServiceOf(pid_t supervisor, absl::string_view exec_pid, absl::string_view proc_cgroup);

// Moves this process, a child of the supervisor, into kShimGroup, and so all that it will fork. OK
// and nothing done where InServiceOf() says no, and on hosts without a pure v2 hierarchy: there the
// unit's KillMode=process has to do.
absl::Status LeaveServiceGroup();

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SERVICE_GROUP_H_
