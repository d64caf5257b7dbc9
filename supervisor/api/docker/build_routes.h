// Builds: POST /build as docker's classic builder answers it, and POST /build/prune.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_BUILD_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_BUILD_ROUTES_H_

#include "supervisor/api/docker/router.h"

namespace gantry::build {
class BuildExecutor;
}
namespace gantry::core {
class BuildCache;
}

namespace gantry::api::docker {

// Nothing is owned; both outlive the door.
struct BuildParts {
  build::BuildExecutor* builder = nullptr;  // null: there are no builds
  core::BuildCache* cache = nullptr;
};

void AddBuildRoutes(Router& router, const BuildParts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_BUILD_ROUTES_H_
