// Service gantry.v1.System over core::SystemService. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_SYSTEM_H_
#define GANTRY_SUPERVISOR_API_GANTRY_SYSTEM_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class SystemService;
}

namespace gantry::api::gantry_v1 {

// `work` moves events for moments at a time. Both outlive the service.
std::unique_ptr<grpc::Service> NewSystemDoor(core::SystemService& system, Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_SYSTEM_H_
