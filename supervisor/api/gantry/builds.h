// Service gantry.v1.Builds over the builder. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_BUILDS_H_
#define GANTRY_SUPERVISOR_API_GANTRY_BUILDS_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class BuildCache;
}
namespace gantry::build {
class BuildExecutor;
}

namespace gantry::api::gantry_v1 {

// `work` runs builds, one thread each.
std::unique_ptr<grpc::Service> NewBuildsDoor(build::BuildExecutor& builder, core::BuildCache& cache,
                                             Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_BUILDS_H_
