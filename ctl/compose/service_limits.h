// A service's limits and devices: mem_limit, cpus, ulimits, devices, gpus, blkio_config,
// deploy.resources.
#ifndef GANTRY_CTL_COMPOSE_SERVICE_LIMITS_H_
#define GANTRY_CTL_COMPOSE_SERVICE_LIMITS_H_

#include <string>

#include "absl/status/status.h"

#include "ctl/compose/node.h"

namespace gantry::v1 {
class ContainerConfig;
}  // namespace gantry::v1

namespace gantry::compose {

// `name` is the service's, for errors. Sets resources and device_requests. kInvalidArgument: a
// value is not of its syntax.
absl::Status SetLimits(const std::string& name, const Node& service, v1::ContainerConfig* config);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_SERVICE_LIMITS_H_
