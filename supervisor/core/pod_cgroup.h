// Where the cgroups of a pod's containers are. Pure.
#ifndef GANTRY_SUPERVISOR_CORE_POD_CGROUP_H_
#define GANTRY_SUPERVISOR_CORE_POD_CGROUP_H_

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

#include "supervisor/core/container_spec.h"

namespace gantry::core {

// linux.cgroupsPath of a container below `parent`, which the kubelet writes as a path also where
// systemd makes cgroups: its last part is then the slice.
inline std::string PodCgroupsPath(absl::string_view id, absl::string_view parent, bool systemd) {
  if (absl::EndsWith(parent, ".slice")) {
    const size_t slash = parent.rfind('/');
    if (slash != absl::string_view::npos) parent.remove_prefix(slash + 1);
    systemd = true;
  } else if (!parent.empty()) {
    systemd = false;
  }
  return CgroupsPath(id, std::string(parent), systemd);
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_CGROUP_H_
