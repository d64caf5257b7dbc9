// docker's create body as our configuration: the way back of engine_json.h.
#ifndef GANTRY_BASE_ENGINE_CONFIG_JSON_H_
#define GANTRY_BASE_ENGINE_CONFIG_JSON_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class ContainerConfig;
class Resources;
class RestartPolicy;
class TerminalSize;
}  // namespace gantry::v1

namespace gantry::engine {

// The body of POST /containers/create: the fields of Config beside HostConfig and NetworkingConfig.
//
// Types and values are checked as far as that needs no host and no image. Keys are matched without
// regard to case, and unknown ones skipped, as docker does. kInvalidArgument: a FieldError
// (base/field_error.h) whose field is the path in the document, "HostConfig.Memory".
absl::StatusOr<v1::ContainerConfig> ConfigFromJson(absl::string_view body);
absl::StatusOr<v1::ContainerConfig> ConfigFromDocument(const Value& body);

class FieldReader;
// "ConsoleSize": [HEIGHT, WIDTH] of a container or an exec. False: there is none, or it is zero.
bool ReadConsoleSize(FieldReader& in, v1::TerminalSize& size);

// The body of POST /containers/{id}/update. A policy without a name is none.
absl::Status UpdateFromDocument(const Value& body, v1::Resources& resources,
                                v1::RestartPolicy& policy);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_CONFIG_JSON_H_
