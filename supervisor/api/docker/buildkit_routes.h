// Connections that become BuildKit's: POST /grpc, on which the client calls us, and POST /session,
// on which we call the client.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_BUILDKIT_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_BUILDKIT_ROUTES_H_

#include "supervisor/api/docker/router.h"

namespace gantry::api {
class BuildkitDoor;
}

namespace gantry::api::docker {

// `door` outlives the router; null: there are no such paths.
void AddBuildkitRoutes(Router& router, BuildkitDoor* door);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_BUILDKIT_ROUTES_H_
