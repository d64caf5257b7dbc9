// Files of a container: archives out of it and into it, and its whole file system.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_FILE_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_FILE_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddFileRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_FILE_ROUTES_H_
