// The names of containers: which are allowed, and the ones given to containers that come without.
//
// Thread-safe: functions without state.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_NAMES_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_NAMES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::core {

// kInvalidArgument: not a name by docker's rule, or longer than 255 bytes; the message says the
// rule.
absl::Status CheckContainerName(absl::string_view name);

// Two words joined by an underscore; `random` decides which.
std::string MakeUpName(uint64_t random);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_NAMES_H_
