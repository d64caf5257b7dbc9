// Service gantry.v1.Images over core's classes of images. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_IMAGES_H_
#define GANTRY_SUPERVISOR_API_GANTRY_IMAGES_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
struct ImageServices;
}

namespace gantry::api::gantry_v1 {

// `work` runs pulls, pushes, loads and saves, one thread each. It is not the pool that they
// themselves work with.
std::unique_ptr<grpc::Service> NewImagesDoor(core::ImageServices& images, Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_IMAGES_H_
