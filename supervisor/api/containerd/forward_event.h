// Events that clients hand in with their envelope, by either socket.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_FORWARD_EVENT_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_FORWARD_EVENT_H_

#include "absl/status/status.h"

#include "supervisor/api/containerd/ttrpc_server.h"

namespace containerd::types {
class Envelope;
}
namespace gantry::core {
class EventBus;
}

namespace gantry::api {

// Publishes the envelope as it is. kInvalidArgument: its namespace or topic is malformed, or it has
// no time.
absl::Status ForwardEvent(core::EventBus& events, const containerd::types::Envelope& envelope);

// What the ttrpc socket serves: containerd.services.events.ttrpc.v1.Events/Forward. `events`
// outlives the server.
TtrpcServer::Methods TtrpcMethods(core::EventBus& events);

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_FORWARD_EVENT_H_
