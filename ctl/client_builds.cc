// Calls of gantry.v1.Builds and gantry.v1.Manifests.
#include "ctl/client_wire.h"
#include "proto/gantry/v1/builds.grpc.pb.h"
#include "proto/gantry/v1/manifests.grpc.pb.h"

namespace gantry::ctl {

GANTRY_CTL_DUPLEX(v1::Builds, Build, v1::BuildRequest, v1::BuildResponse)
GANTRY_CTL_UNARY(v1::Builds, DiskUsage, v1::BuildCacheUsageRequest, v1::BuildCacheUsageResponse)
GANTRY_CTL_UNARY(v1::Builds, Prune, v1::PruneBuildCacheRequest, v1::PruneBuildCacheResponse)
GANTRY_CTL_UNARY(v1::Manifests, Read, v1::ReadManifestRequest, v1::ReadManifestResponse)
GANTRY_CTL_READ(v1::Manifests, PushIndex, v1::PushIndexRequest, v1::PushIndexResponse)

}  // namespace gantry::ctl
