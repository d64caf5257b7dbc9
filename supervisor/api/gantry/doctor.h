// Service gantry.v1.Doctor over core's. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_DOCTOR_H_
#define GANTRY_SUPERVISOR_API_GANTRY_DOCTOR_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class Doctor;
}

namespace gantry::api::gantry_v1 {

// `work` runs the calls.
std::unique_ptr<grpc::Service> NewDoctorDoor(core::Doctor& doctor, Executor& work);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_DOCTOR_H_
