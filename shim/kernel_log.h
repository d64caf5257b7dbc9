// What the kernel's log tells of a process that was killed. For when the cgroup's own counters are
// gone: systemd removes a scope's group as soon as its last process has died, often before they
// could be read.
#ifndef GANTRY_SHIM_KERNEL_LOG_H_
#define GANTRY_SHIM_KERNEL_LOG_H_

#include <sys/types.h>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::shim {

// Whether the kernel killed the process because memory ran out after `since` (monotonic; a pid may
// have been another's before). False where the log cannot be read, or does not know the pid because
// we see another pid namespace than the kernel's. Does not block.
bool KernelLogTellsOomKill(pid_t pid, absl::Duration since);

// One record of /dev/kmsg.
// Spec: Documentation/ABI/testing/dev-kmsg of the kernel.
bool RecordTellsOomKill(absl::string_view record, pid_t pid, absl::Duration since);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_KERNEL_LOG_H_
