// The options of a container's log, as docker's json-file driver has them:
//   max-size, max-file     size of one file ("10m", "-1" for no limit), number of files
//   mode                   "blocking": the container waits where the disk takes no more; "non-blocking"
//   labels, env            names, separated by commas, of labels and environment variables that are
//                          attributes of every line ("logs --details")
//   labels-regex, env-regex  the same by a pattern (RE2)
//   compress, max-buffer-size, tag   taken, and without effect
//
// Thread-safe: functions without state.
#ifndef GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_
#define GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_

#include "absl/status/status.h"

namespace gantry::shim::v1 {
class Log;
}  // namespace gantry::shim::v1
namespace gantry::v1 {
class ContainerConfig;
}

namespace gantry::core {

// Sets what the container's options ask for, attributes included; the rest of `log` stays as it is.
// kInvalidArgument: an option or a value that there is not; names the field.
absl::Status ApplyLogOptions(const v1::ContainerConfig& config, shim::v1::Log& log);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LOG_OPTIONS_H_
