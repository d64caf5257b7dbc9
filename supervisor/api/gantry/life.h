// Service gantry.v1.Life over core's. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_LIFE_H_
#define GANTRY_SUPERVISOR_API_GANTRY_LIFE_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

#include "supervisor/core/container_set.h"

namespace gantry {
class Executor;
}
namespace gantry::core {
class EndReports;
}  // namespace gantry::core

namespace gantry::api::gantry_v1 {

// `work` runs the calls.
std::unique_ptr<grpc::Service> NewLifeDoor(core::EndReports& ends,
                                           const core::ContainerSet::Parts& set, Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_LIFE_H_
