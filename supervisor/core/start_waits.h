// Waits for the next start of a container, by namespace and id.
//
// Answered by the start, on its thread, when the shim is up and before it makes the process: what
// is connected then misses no output. The shim is valid for as long as the callback runs. Answered
// with kNotFound when the container is removed.
#ifndef GANTRY_SUPERVISOR_CORE_START_WAITS_H_
#define GANTRY_SUPERVISOR_CORE_START_WAITS_H_

#include <string>
#include <utility>

#include "supervisor/core/wait_board.h"

namespace gantry::runtime {
class Shim;
}

namespace gantry::core {

using StartWaits = WaitBoard<std::pair<std::string, std::string>, runtime::Shim*>;

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_START_WAITS_H_
