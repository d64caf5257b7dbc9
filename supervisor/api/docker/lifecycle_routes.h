// A container's life: start, stop, restart, kill, pause and wait.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_LIFECYCLE_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_LIFECYCLE_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddLifecycleRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_LIFECYCLE_ROUTES_H_
