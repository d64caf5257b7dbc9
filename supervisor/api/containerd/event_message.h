// containerd's events, made from core's: topic, payload, envelope.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_EVENT_MESSAGE_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_EVENT_MESSAGE_H_

#include <memory>
#include <string>

#include "google/protobuf/message.h"

#include "supervisor/core/event.h"

namespace containerd::types {
class Envelope;
}

namespace gantry::api::containerd_api {

// "/tasks/exit"; "" for an event that containerd's API does not have.
absl::string_view TopicOf(const core::Event& event);

// The payload, a message of package containerd.events. Null: there is none, or a client handed in
// one of a type that is not known here.
std::unique_ptr<google::protobuf::Message> PayloadOf(const core::Event& event);

// False, and nothing written, where the topic is "". What a client handed in comes out unchanged.
bool FillEnvelope(const core::Event& event, containerd::types::Envelope& envelope);

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_EVENT_MESSAGE_H_
