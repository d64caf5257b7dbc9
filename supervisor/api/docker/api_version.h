// The version of the Engine API that a client speaks.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_API_VERSION_H_
#define GANTRY_SUPERVISOR_API_DOCKER_API_VERSION_H_

#include <compare>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace gantry::api::docker {

struct ApiVersion {
  int major = 1;
  int minor = 0;

  // "1.41". nullopt: not two numbers with a point between them.
  static absl::optional<ApiVersion> Parse(absl::string_view text);

  friend auto operator<=>(const ApiVersion&, const ApiVersion&) = default;
};

// The newest one served, which is also that of a path without a version; and the oldest.
inline constexpr ApiVersion kNewest = {1, 51};
inline constexpr ApiVersion kOldest = {1, 24};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_API_VERSION_H_
