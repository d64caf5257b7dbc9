// Why a process did not start, in the words and exit codes a person can act on.
//
// Free functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_CORE_START_FAILURE_H_
#define GANTRY_SUPERVISOR_CORE_START_FAILURE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {

// docker's exit codes for what never ran: 127 the program is not there, 126 it cannot be run, 128
// anything else.
uint32_t StartFailureCode(const absl::Status& why);

// "container NAME: OCI runtime ... failed: ...". Which of our processes passed the runtime's words
// along is left out. Of the process that was to run, its program is named where the runtime does
// not, and a limit of open files that a runtime may fail of, whatever it says then, with what to
// do.
absl::Status NamingTheContainer(const absl::Status& why, absl::string_view name,
                                const oci::ProcessSpec& process);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_START_FAILURE_H_
