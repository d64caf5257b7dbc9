// Builds: POST /build as docker's classic builder answers it or, in the session of a client, as
// BuildKit does; POST /build/cancel and /build/prune.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_BUILD_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_BUILD_ROUTES_H_

#include "supervisor/api/docker/router.h"

namespace gantry::build {
class BuildExecutor;
}
namespace gantry::core {
class BuildCache;
}
namespace gantry::api {
class BuildkitDoor;
}

namespace gantry::api::docker {

// Nothing is owned; all outlive the door.
struct BuildParts {
  build::BuildExecutor* builder = nullptr;  // null: there are no builds
  core::BuildCache* cache = nullptr;
  BuildkitDoor* buildkit = nullptr;  // null: BuildKit's protocol is not spoken
};

void AddBuildRoutes(Router& router, const BuildParts& parts);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_BUILD_ROUTES_H_
