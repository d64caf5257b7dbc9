// Service gantry.v1.System over core::SystemService. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_SYSTEM_H_
#define GANTRY_SUPERVISOR_API_GANTRY_SYSTEM_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry::core {
class SystemService;
}

namespace gantry::api::gantry_v1 {

// `system` outlives the service.
std::unique_ptr<grpc::Service> NewSystemDoor(core::SystemService& system);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_SYSTEM_H_
