// The cgroup that the daemon itself runs in, where the configuration names one (`[cgroup] path`).
//
// Processes that the daemon starts afterwards, the zygote and so the shims, begin in it as well.
// Containers have groups of their own elsewhere. The group is made if it is missing and stays when
// the daemon ends.
#ifndef GANTRY_SUPERVISOR_SERVICE_CGROUP_H_
#define GANTRY_SUPERVISOR_SERVICE_CGROUP_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry {

inline constexpr char kCgroupTree[] = "/sys/fs/cgroup";

// Moves process `pid` into the group `path` ("/services/gantry") of every hierarchy below `tree`:
// the one of version 2, or each of version 1, whose new cpuset groups get the processors and memory
// nodes of the group above. Errors are the system's and name the group; a move that failed in one
// hierarchy leaves the process where it was in that one.
absl::Status JoinCgroup(const std::string& tree, absl::string_view path, pid_t pid);

// Whether `path` can name a group: not empty, no "." or ".." in it.
bool IsCgroupPath(absl::string_view path);

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_SERVICE_CGROUP_H_
