// What docker has and Gantry has not: swarms, plugins, builds. Answers as a docker does that is in
// no swarm and has no plugins; a build is refused with what to do instead.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_ABSENT_ROUTES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_ABSENT_ROUTES_H_

namespace gantry::api::docker {

class Router;

void AddAbsentRoutes(Router& router);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_ABSENT_ROUTES_H_
