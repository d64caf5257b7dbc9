// Calls of gantry.v1.Builds.
#include "ctl/client_wire.h"
#include "proto/gantry/v1/builds.grpc.pb.h"

namespace gantry::ctl {

GANTRY_CTL_DUPLEX(v1::Builds, Build, v1::BuildRequest, v1::BuildResponse)
GANTRY_CTL_UNARY(v1::Builds, DiskUsage, v1::BuildCacheUsageRequest, v1::BuildCacheUsageResponse)
GANTRY_CTL_UNARY(v1::Builds, Prune, v1::PruneBuildCacheRequest, v1::PruneBuildCacheResponse)

}  // namespace gantry::ctl
