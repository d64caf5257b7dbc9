// Waits for containers to be removed, by namespace and id. Answered by the removal, with the last
// exit.
#ifndef GANTRY_SUPERVISOR_CORE_REMOVAL_WAITS_H_
#define GANTRY_SUPERVISOR_CORE_REMOVAL_WAITS_H_

#include <string>
#include <utility>

#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/core/wait_board.h"

namespace gantry::core {

using RemovalWaits = WaitBoard<std::pair<std::string, std::string>, v1::WaitContainerResponse>;

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_REMOVAL_WAITS_H_
