// How a container's processes and their states are called in messages.
#ifndef GANTRY_SHIM_PROCESS_WORDS_H_
#define GANTRY_SHIM_PROCESS_WORDS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "proto/shim/v1/shim.pb.h"

namespace gantry::shim {

// "container" for the init process, "exec ID" for others.
std::string NameOf(absl::string_view exec_id);

// kFailedPrecondition: "cannot WHAT: container is running".
absl::Status WrongState(absl::string_view exec_id, v1::Status status, absl::string_view what);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_PROCESS_WORDS_H_
