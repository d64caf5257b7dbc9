// The file that tells whether an OCI runtime is at work for a container.
//
// The shim hands every runtime that it starts a descriptor of <bundle>/runtime.lock with a shared
// lock on it. The runtime's forks inherit it, until they become the container's program. A
// supervisor whose shim has died takes the lock exclusively before it looks for what the container
// left: as long as it does not get it, a runtime may still make processes and cgroups.
#ifndef GANTRY_SHIM_RUNTIME_GUARD_H_
#define GANTRY_SHIM_RUNTIME_GUARD_H_

namespace gantry::shim {

inline constexpr char kRuntimeGuardFile[] = "/runtime.lock";
inline constexpr int kRuntimeGuardFd = 3;  // in the runtime's processes

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_RUNTIME_GUARD_H_
