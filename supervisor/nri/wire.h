// The messages of NRI by a short name.
#ifndef GANTRY_SUPERVISOR_NRI_WIRE_H_
#define GANTRY_SUPERVISOR_NRI_WIRE_H_

#include "proto/nri/api.pb.h"

namespace gantry::nri {

namespace wire = ::nri::pkg::api::v1alpha1;

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_WIRE_H_
