// The calls of services gantry.v1.Life and gantry.v1.Doctor.
#include "ctl/client_wire.h"
#include "proto/gantry/v1/doctor.grpc.pb.h"
#include "proto/gantry/v1/life.grpc.pb.h"

namespace gantry::ctl {

GANTRY_CTL_UNARY(v1::Life, Set, v1::SetContainerRequest, v1::SetContainerResponse)
GANTRY_CTL_UNARY(v1::Life, ExplainEnd, v1::ExplainEndRequest, v1::ExplainEndResponse)
GANTRY_CTL_UNARY(v1::Doctor, Examine, v1::ExamineRequest, v1::ExamineResponse)

}  // namespace gantry::ctl
