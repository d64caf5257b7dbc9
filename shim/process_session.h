// Which processes an exec has started.
//
// A free function; reads /proc, and may be called from any thread.
#ifndef GANTRY_SHIM_PROCESS_SESSION_H_
#define GANTRY_SHIM_PROCESS_SESSION_H_

#include <sys/types.h>

#include <vector>

namespace gantry::shim {

// Those of `candidates` that are in the session that `leader` leads, or descend from it. A process
// that made a session of its own after its parents had ended is not found.
std::vector<pid_t> SessionOf(pid_t leader, const std::vector<pid_t>& candidates);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_PROCESS_SESSION_H_
