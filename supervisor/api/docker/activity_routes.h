// What a container does: its processes, its use of resources, the files it has changed.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_ACTIVITY_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_ACTIVITY_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddActivityRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_ACTIVITY_ROUTES_H_
