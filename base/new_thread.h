// A thread, or the reason why there is none: std::thread throws where the kernel gives no more, and nobody expects that of it.

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
