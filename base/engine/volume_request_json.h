// Bodies of docker's requests about volumes: the way back of volume_json.h.
#ifndef GANTRY_BASE_ENGINE_VOLUME_REQUEST_JSON_H_
#define GANTRY_BASE_ENGINE_VOLUME_REQUEST_JSON_H_

#include "absl/status/statusor.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class CreateVolumeRequest;
}

namespace gantry::engine {

// The body of POST /volumes/create; null, which is no body, asks for an
// anonymous volume. kInvalidArgument: a FieldError.
absl::StatusOr<v1::CreateVolumeRequest> CreateVolumeFromDocument(const Value& body);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_VOLUME_REQUEST_JSON_H_
