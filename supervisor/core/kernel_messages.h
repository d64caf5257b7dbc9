// What the kernel's log says about the processes of a container: kills for want of memory, faults
// that ended a process, system calls that seccomp killed for.
//
// Free functions, safe to call from any thread. ReadKernelMessages() reads the whole log, which
// takes milliseconds.
// Spec: Documentation/ABI/testing/dev-kmsg of the kernel.
#ifndef GANTRY_SUPERVISOR_CORE_KERNEL_MESSAGES_H_
#define GANTRY_SUPERVISOR_CORE_KERNEL_MESSAGES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/record/v1/run_end.pb.h"

namespace gantry::core {

// Whose messages are wanted.
struct KernelSubject {
  std::string container_id;  // part of the name of its cgroup
  int32_t pid = 0;           // of its first process; 0: not known
  // The run, on the kernel's clock since boot.
  absl::Duration from = absl::ZeroDuration();
  absl::Duration until = absl::InfiniteDuration();
  // Its process passed on that another had been ended by a signal: faults near the end of the run
  // are taken, of whatever pid.
  bool child_was_ended = false;
};

struct KernelMessages {
  std::vector<std::string> lines;  // at most 16, oldest first
  std::optional<record::v1::OomKill> oom;
};

// `records` as /dev/kmsg gives them, oldest first.
KernelMessages SelectKernelMessages(const std::vector<std::string>& records,
                                    const KernelSubject& subject);
// Empty where the log cannot be read. Does not block.
KernelMessages ReadKernelMessages(const KernelSubject& subject);

// The number of the system call in a line about seccomp; no value in any other.
std::optional<int> SeccompCall(absl::string_view line);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_KERNEL_MESSAGES_H_
