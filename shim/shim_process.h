// What a gantry-shim process does after it was born, by fork from the zygote or by exec.
#ifndef GANTRY_SHIM_SHIM_PROCESS_H_
#define GANTRY_SHIM_SHIM_PROCESS_H_

#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "shim/zygote_protocol.h"

namespace gantry::shim {

// Leaves the session, the mount namespace and all descriptors of its parent, listens on the
// socket, reports that through `ready` (which may be invalid), then serves until its container is
// deleted. `sealed_runtime`, which may be invalid, is a copy of the program at request.runtime_path
// to run in its place. Never returns.
//
// The mount namespace keeps its propagation: mounts below the bundle stay private because the
// supervisor made that directory a private mount, while volumes go on exchanging mounts with the
// host.
//
// Call in a single-threaded process in which gRPC was never used.
[[noreturn]] void RunShim(const LaunchRequest& request, UniqueFd ready, UniqueFd sealed_runtime);

// The same for a container that is not known yet: does all of the above that is the same for every
// container, has `v1_controllers` ready to be mounted, then waits for a LaunchRequest on
// `assignment` (zygote_protocol.h), tells `on_assigned` of it and goes on as RunShim(). Ends when
// the socket does. Its mount namespace is a copy made now: the zygote assigns it only if the
// host's mounts have not changed since.
[[noreturn]] void RunStandbyShim(UniqueFd assignment,
                                 const std::vector<std::string>& v1_controllers,
                                 const std::function<void(const LaunchRequest&)>& on_assigned);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SHIM_PROCESS_H_
