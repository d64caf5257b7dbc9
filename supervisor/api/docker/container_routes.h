// Containers: creation, lists and details, changes to records, removal.
//
// Routes of a running container's life are in lifecycle_routes.h, its streams in stream_routes.h,
// its files in file_routes.h, its numbers in activity_routes.h.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_CONTAINER_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_CONTAINER_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddContainerRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_CONTAINER_ROUTES_H_
