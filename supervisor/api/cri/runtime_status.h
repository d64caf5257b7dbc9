// What the kubelet asks of the runtime as a whole: is it ready, is the network, what can it do.
// Used by the runtime service only. Safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_API_CRI_RUNTIME_STATUS_H_
#define GANTRY_SUPERVISOR_API_CRI_RUNTIME_STATUS_H_

#include "proto/cri/v1/runtime_service.pb.h"
#include "supervisor/api/cri/cri_door.h"
#include "supervisor/api/cri/translate.h"
#include "supervisor/core/call_context.h"

namespace gantry::api::cri {

// What is not ready is said in a condition, so that there is always an answer.
void FillStatus(const CriParts& parts, const core::CallContext& in, bool verbose,
                wire::StatusResponse& response);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_RUNTIME_STATUS_H_
