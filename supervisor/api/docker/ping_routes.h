// /_ping, by which clients find out whether somebody answers and which API version they may use.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_PING_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_PING_ROUTES_H_

namespace gantry::api::docker {

class Router;

// `buildkit`: builds are better asked for by BuildKit's protocol.
void AddPingRoutes(Router& router, bool buildkit);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_PING_ROUTES_H_
