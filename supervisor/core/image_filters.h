// Values of image filters that lists and prunes share.
//
// Free functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace gantry::core {

// "24h": so long ago; or a moment, RFC 3339.
absl::StatusOr<absl::Time> ParseUntil(const std::string& value);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_
