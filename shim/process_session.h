// Which processes an exec has started, and signals to them.
//
// Free functions; they read /proc, and may be called from any thread. A process is named by its pid
// and the time of its start, so that a signal never meets another one that got its pid meanwhile.
#ifndef GANTRY_SHIM_PROCESS_SESSION_H_
#define GANTRY_SHIM_PROCESS_SESSION_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace gantry::shim {

struct ProcessId {
  pid_t pid = 0;
  uint64_t start_ticks = 0;  // field 22 of /proc/<pid>/stat

  friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

// Those of `candidates` that are in the session that `leader` leads, or descend from it. The leader
// has not been reaped, or its pid says nothing. A process that made a session of its own after its
// parents had ended is not found.
std::vector<ProcessId> SessionOf(pid_t leader, const std::vector<pid_t>& candidates);

// Those of `earlier` that are still there, and of `candidates` those that descend from them or are
// in a session with one of them that one of `earlier` led: what became of an earlier SessionOf().
std::vector<ProcessId> SessionSince(const std::vector<ProcessId>& earlier,
                                    const std::vector<pid_t>& candidates);

// Sends a signal to this very process. False: it has ended.
bool SignalProcess(const ProcessId& process, int signal);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_PROCESS_SESSION_H_
