// The options of a container's log, as docker's json-file driver has them.
//
// Thread-safe: functions without state.
#ifndef GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_
#define GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_

#include <string>

#include "absl/status/status.h"

namespace gantry::shim::v1 {
class Log;
}  // namespace gantry::shim::v1

namespace gantry::core {

// One option: max-size ("10m"), max-file ("3"), mode ("blocking", "non-blocking").
// kInvalidArgument: anything else.
absl::Status ApplyLogOption(const std::string& key, const std::string& value, shim::v1::Log& log);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_
