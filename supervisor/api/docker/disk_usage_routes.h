// GET /system/df: what images, containers and volumes take of the disk.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_DISK_USAGE_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_DISK_USAGE_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::api::docker {

class Router;

void AddDiskUsageRoutes(Router& router, const Parts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_DISK_USAGE_ROUTES_H_
