// Looks at the host: /proc, /sys, /etc and the daemon's places. Reads only, makes nothing, sends
// nothing, and never fails: what cannot be read keeps the value of a clean host.
//
// Free functions, safe to call from any thread. A file system that hangs (a dead NFS server) can
// hold the call up.
#ifndef GANTRY_BASE_HOST_OBSERVER_H_
#define GANTRY_BASE_HOST_OBSERVER_H_

#include <string>

#include "base/host/observation.h"

namespace gantry::host {

struct Places {
  std::string root_directory;  // of the daemon
  std::string state_directory;
  std::string socket;  // of the daemon
  std::string tree;    // what is before "/proc", "/sys", "/etc" and "/run"; "" for the host
};

// Everything about the host itself and the daemon's places. The daemon's objects are not seen.
Observation Observe(const Places& places);

// Of a daemon that did not answer: what is at its socket, and whether a process holds the lock of
// its root directory. `error` is what the call said.
void ObserveSilentDaemon(const Places& places, const std::string& error, Observation& seen);

}  // namespace gantry::host

#endif  // GANTRY_BASE_HOST_OBSERVER_H_
