// Service gantry.v1.Networks over core's network service. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_NETWORKS_H_
#define GANTRY_SUPERVISOR_API_GANTRY_NETWORKS_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class ContainerNetworks;
class NetworkService;
}  // namespace gantry::core

namespace gantry::api::gantry_v1 {

// `work` runs the calls.
std::unique_ptr<grpc::Service> NewNetworksDoor(core::NetworkService& networks,
                                               core::ContainerNetworks& containers, Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_NETWORKS_H_
