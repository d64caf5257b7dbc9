// A service's limits and devices: mem_limit, cpus, ulimits, devices, blkio_config, deploy.resources.
#ifndef GANTRY_CTL_COMPOSE_SERVICE_LIMITS_H_
#define GANTRY_CTL_COMPOSE_SERVICE_LIMITS_H_

#include <string>

#include "absl/status/status.h"

#include "ctl/compose/node.h"

namespace gantry::v1 {
class Resources;
}  // namespace gantry::v1

namespace gantry::compose {

// `name` is the service's, for errors.
//   kInvalidArgument     a value is not of its syntax
//   kFailedPrecondition  devices by capability, which are not served
absl::Status SetLimits(const std::string& name, const Node& service, v1::Resources* resources);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_SERVICE_LIMITS_H_
