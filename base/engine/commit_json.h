// The body of POST /commit: a configuration that goes over that of the container's image.
#ifndef GANTRY_BASE_ENGINE_COMMIT_JSON_H_
#define GANTRY_BASE_ENGINE_COMMIT_JSON_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "base/engine/value.h"

namespace gantry::engine {

// The fields of a Config that an image has, each as the Dockerfile instruction that sets it:
// {"Cmd":["sh"]} -> CMD ["sh"]. Fields that are absent or empty change nothing, as in docker.
// kInvalidArgument: a FieldError.
absl::StatusOr<std::vector<std::string>> ChangesFromDocument(const Value& config);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_COMMIT_JSON_H_
