// Service gantry.v1.Manifests over core's manifest service. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_MANIFESTS_H_
#define GANTRY_SUPERVISOR_API_GANTRY_MANIFESTS_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class ManifestService;
}

namespace gantry::api::gantry_v1 {

// `work` runs the calls.
std::unique_ptr<grpc::Service> NewManifestsDoor(core::ManifestService& manifests, Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_MANIFESTS_H_
