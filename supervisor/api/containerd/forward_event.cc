#include "supervisor/api/containerd/forward_event.h"

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/status_macros.h"
#include "proto/containerd/services/events/v1/events.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"

namespace gantry::api {

absl::Status ForwardEvent(core::EventBus& events, const containerd::types::Envelope& envelope) {
  GANTRY_RETURN_IF_ERROR(metadata::ValidateIdentifier("event namespace", envelope.namespace_()));
  if (!envelope.has_timestamp()) return absl::InvalidArgumentError("event: no timestamp");
  return events.PublishForeign(
      envelope.namespace_(),
      {envelope.topic(), envelope.event().type_url(), envelope.event().value()},
      metadata::TimeOf(envelope.timestamp()));
}

TtrpcServer::Methods TtrpcMethods(core::EventBus& events) {
  return {{"containerd.services.events.ttrpc.v1.Events/Forward",
           [&events](absl::string_view bytes) -> absl::StatusOr<std::string> {
             // The same message by another name.
             containerd::services::events::v1::ForwardRequest request;
             if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
               return absl::InvalidArgumentError("the request does not parse");
             GANTRY_RETURN_IF_ERROR(ForwardEvent(events, request.envelope()));
             return "";
           }}};
}

}  // namespace gantry::api
