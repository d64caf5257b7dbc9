// What the query and the header of POST /build ask for, as docker's classic builder has it.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_BUILD_QUERY_H_
#define GANTRY_SUPERVISOR_API_DOCKER_BUILD_QUERY_H_

#include "absl/status/statusor.h"

#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/api/docker/request.h"

namespace gantry::api::docker {

// The opening of a build: everything but its context, which is the body.
//   kInvalidArgument  a number, a JSON document or a tag that is none; the parameter is named
//   kUnimplemented    what the classic builder here does not have
absl::StatusOr<v1::BuildRequest::Open> BuildQuery(const Request& request);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_BUILD_QUERY_H_
