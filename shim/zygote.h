// A warmed process that forks shims on request.
//
// A shim forked from it shares its pages and needs no program start: under a millisecond, a third
// of a megabyte. For that to be safe the zygote has one thread and has never touched gRPC. One shim
// is always forked ahead and stands by with gRPC started, for the container that comes next.
#ifndef GANTRY_SHIM_ZYGOTE_H_
#define GANTRY_SHIM_ZYGOTE_H_

#include "base/unique_fd.h"

namespace gantry::shim {

// Serves launch requests (zygote_protocol.h) on `socket` until its other end is closed, then
// returns. Shims live on. In a forked shim it does not return. `argv` is main's: shims show
// namespace and id there.
void RunZygote(UniqueFd socket, int argc, char** argv);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_ZYGOTE_H_
