// POST /build?version=2: a build whose files come over the client's session, told in BuildKit's
// messages inside of docker's JSON.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_SESSION_BUILD_H_
#define GANTRY_SUPERVISOR_API_DOCKER_SESSION_BUILD_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/api/buildkit/solver.h"

namespace gantry::api {
class BuildkitDoor;
}

namespace gantry::api::docker {

class Request;

// What the query asks for.
absl::StatusOr<buildkit::Solver::Job> SessionBuildOf(const Request& request);

absl::Status BuildInSession(BuildkitDoor& door, Request& request);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_SESSION_BUILD_H_
