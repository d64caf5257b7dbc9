// /images/... and /distribution/...: what is looked at, named and removed. Pull, push, load and
// save are in image_transfer_routes.h.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_IMAGE_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_IMAGE_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddImageRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_IMAGE_ROUTES_H_
