// Service gantry.v1.Containers over core::ContainerService. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_CONTAINERS_H_
#define GANTRY_SUPERVISOR_API_GANTRY_CONTAINERS_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class ContainerService;
}

namespace gantry::api::gantry_v1 {

// `work` runs what takes a moment (starts, copies), `followers` what may last for days (logs -f, stats): separate, so that the one
// never waits for the other. All outlive the service, which is stopped first.
std::unique_ptr<grpc::Service> NewContainersDoor(core::ContainerService& containers, Executor& work,
                                                 Executor& followers);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_CONTAINERS_H_
