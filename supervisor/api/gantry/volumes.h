// Service gantry.v1.Volumes over core's volume service. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_VOLUMES_H_
#define GANTRY_SUPERVISOR_API_GANTRY_VOLUMES_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class VolumeContent;
class VolumeService;
}  // namespace gantry::core

namespace gantry::api::gantry_v1 {

// `work` runs the calls.
std::unique_ptr<grpc::Service> NewVolumesDoor(core::VolumeService& volumes,
                                              core::VolumeContent& content, Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_VOLUMES_H_
