// Bodies of docker's requests about networks: the way back of network_json.h.
//
// Types are checked as far as that needs no host; keys are matched without regard to case, and
// unknown ones skipped, as docker does. kInvalidArgument: a FieldError (base/field_error.h) whose
// field is the path in the document, "IPAM.Config[0].Subnet".
#ifndef GANTRY_BASE_ENGINE_NETWORK_REQUEST_JSON_H_
#define GANTRY_BASE_ENGINE_NETWORK_REQUEST_JSON_H_

#include <string>

#include "absl/status/statusor.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class ConnectNetworkRequest;
class CreateNetworkRequest;
class DisconnectNetworkRequest;
class NetworkAttachment;
}  // namespace gantry::v1

namespace gantry::engine {

class FieldReader;

// The body of POST /networks/create.
absl::StatusOr<v1::CreateNetworkRequest> CreateNetworkFromDocument(const Value& body);
// Of POST /networks/{id}/connect and .../disconnect; `network` is the id.
absl::StatusOr<v1::ConnectNetworkRequest> ConnectNetworkFromDocument(const Value& body,
                                                                     std::string network);
absl::StatusOr<v1::DisconnectNetworkRequest> DisconnectNetworkFromDocument(const Value& body,
                                                                           std::string network);

// The fields of an EndpointSettings, which a container's create body has too.
void ReadEndpoint(FieldReader& in, v1::NetworkAttachment& out);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_NETWORK_REQUEST_JSON_H_
