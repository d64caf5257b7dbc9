// /volumes/...
#ifndef GANTRY_SUPERVISOR_API_DOCKER_VOLUME_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_VOLUME_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddVolumeRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_VOLUME_ROUTES_H_
