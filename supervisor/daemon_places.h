// Places that a daemon takes on its machine: descriptors, sockets, directories, programs of ours.
//
// Functions without state, for the start of the daemon. Thread-safe.
#ifndef GANTRY_SUPERVISOR_DAEMON_PLACES_H_
#define GANTRY_SUPERVISOR_DAEMON_PLACES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gantry {

// The path of a program of ours: `given` where that is not empty, else beside this program, in the
// directory `room` next to it (a build tree), in /usr/libexec/gantry or in /usr/bin. "" if it is in
// none of them.
std::string FindProgram(const std::string& given, const std::string& name, const std::string& room);

// Raises this process's limit of open files to the most it may have, because each container and
// each client takes a descriptor or two. Returns the limit for programs that are started from here,
// many of which walk through all numbers up to it: what was given at first, or the usual 1024 where
// that is less.
uint64_t TakeAllDescriptors();

// Removes a socket file that a killed daemon left.
//   kUnavailable         another daemon answers there
//   kFailedPrecondition  the path is something else than a socket
absl::Status TakeOverSocket(const std::string& path);

// The identity of the root directory: written on the first call, the same ever after.
absl::StatusOr<std::string> PersistentUuid(const std::string& root);

// Unmounts what a killed daemon left mounted below `directory`, and makes it anew, empty.
absl::Status SweepMounts(const std::string& directory);

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_DAEMON_PLACES_H_
