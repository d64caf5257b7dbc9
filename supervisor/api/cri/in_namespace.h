// The namespace of pods, which CRI's calls do not name.
#ifndef GANTRY_SUPERVISOR_API_CRI_IN_NAMESPACE_H_
#define GANTRY_SUPERVISOR_API_CRI_IN_NAMESPACE_H_

#include "supervisor/api/cri/cri_door.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/core/call_context.h"

namespace gantry::api::cri {

inline core::CallContext InNamespace(const Call& call) {
  core::CallContext context = call.context();
  context.ns = kNamespace;
  context.lease.clear();
  context.caller.door = "CRI";
  return context;
}

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_IN_NAMESPACE_H_
