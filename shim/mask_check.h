// Whether what a container must not see is hidden from it.
//
// A runtime hides a file of /proc under the container's /dev/null. Where /dev is not a file system
// that the runtime has just made, others may change that name while it does so, and what it then
// takes is no null device: runc 1.1 puts a file of the kernel's in place of another, or hides
// nothing and says nothing (CVE-2025-31133).
#ifndef GANTRY_SHIM_MASK_CHECK_H_
#define GANTRY_SHIM_MASK_CHECK_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace gantry::shim {

// Looks with the eyes of `pid`, a process of the container that has its root and does not run yet.
// A path that is not there is hidden well. kPermissionDenied: one of them is not hidden, named with
// what to do.
absl::Status CheckMasks(pid_t pid, const std::vector<std::string>& masked_paths);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_MASK_CHECK_H_
