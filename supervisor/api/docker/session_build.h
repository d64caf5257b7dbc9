// POST /build?version=2: a build whose files come over the client's session, in a request of their
// own, or in the body, told in BuildKit's messages inside of docker's JSON.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_SESSION_BUILD_H_
#define GANTRY_SUPERVISOR_API_DOCKER_SESSION_BUILD_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/api/buildkit/solver.h"

namespace gantry::api {
class BuildkitDoor;
}
namespace gantry::build {
class BuildExecutor;
}

namespace gantry::api::docker {

class NamedBuilds;
class Request;

// What the query asks for. A context that the client uploads is met in `builds`, which outlives the
// job.
absl::StatusOr<buildkit::Solver::Job> SessionBuildOf(const Request& request, NamedBuilds& builds);

absl::Status BuildInSession(BuildkitDoor& door, NamedBuilds& builds, Request& request);
// A build without a session: the body is the context.
absl::Status BuildFromBody(build::BuildExecutor& builder, Request& request);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_SESSION_BUILD_H_
