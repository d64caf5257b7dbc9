// The stream of what happens to pods and their containers, as the kubelet follows it. Used by the
// runtime service only.
#ifndef GANTRY_SUPERVISOR_API_CRI_CONTAINER_EVENTS_H_
#define GANTRY_SUPERVISOR_API_CRI_CONTAINER_EVENTS_H_

#include "absl/status/status.h"

#include "base/cancel_token.h"
#include "proto/cri/v1/runtime_service.pb.h"
#include "supervisor/api/cri/cri_door.h"
#include "supervisor/api/cri/translate.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/core/call_context.h"

namespace gantry::api::cri {

// Sends events from now on until `cancel`, `out` or the subscription ends it, and returns why.
// Blocks its thread, which is the call's; each call has a subscription of its own. Safe to call
// from any thread.
absl::Status SendEvents(const CriParts& parts, const core::CallContext& in, CancelToken& cancel,
                        Sender<wire::ContainerEventResponse>& out);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_CONTAINER_EVENTS_H_
