// Streams of a container's main process: attach, logs, and the size of its terminal.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_STREAM_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_STREAM_ROUTES_H_

#include "absl/status/status.h"

#include "supervisor/api/docker/parts.h"

namespace gantry::v1 {
class TerminalSize;
}

namespace gantry::api::docker {

class Request;
class Router;

// The query parameters h and w. kInvalidArgument: one is missing or no number.
absl::Status ReadTerminalSize(const Request& request, v1::TerminalSize& size);

void AddStreamRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_STREAM_ROUTES_H_
