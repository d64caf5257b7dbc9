// GET /system/df: what images, containers and volumes take of the disk.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_DISK_USAGE_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_DISK_USAGE_ROUTES_H_

#include "supervisor/api/docker/parts.h"

namespace gantry::core {
class BuildCache;
}

namespace gantry::api::docker {

class Router;

// `cache`: of builds; null: there are none.
void AddDiskUsageRoutes(Router& router, const Parts& parts, core::BuildCache* cache);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_DISK_USAGE_ROUTES_H_
