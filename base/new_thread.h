// A thread, or the reason why it could not be made: std::thread throws when the kernel refuses,
// which callers do not expect.

#ifndef GANTRY_BASE_NEW_THREAD_H_
#define GANTRY_BASE_NEW_THREAD_H_

#include <functional>
#include <thread>

#include "absl/status/statusor.h"

namespace gantry {

// What a person can do when the kernel gives no more processes or threads (EAGAIN).
inline constexpr char kNoMoreProcesses[] =
    "no more processes or threads can be made here; raise TasksMax of the service, pids.max of its "
    "group or kernel.threads-max";

// kResourceExhausted: kNoMoreProcesses.
absl::StatusOr<std::thread> NewThread(std::function<void()> work);

}  // namespace gantry

#endif  // GANTRY_BASE_NEW_THREAD_H_
