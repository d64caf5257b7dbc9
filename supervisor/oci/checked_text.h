// Text of requests on its way into a runtime spec: what is refused, and one way to write it.
//
// Pure functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_OCI_CHECKED_TEXT_H_
#define GANTRY_SUPERVISOR_OCI_CHECKED_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::oci {

bool HasControl(absl::string_view text);

// Absolute, without "." and "..", without doubled or trailing slashes. A destination that climbs
// above the root is refused rather than clamped, because the user meant something else.
// kInvalidArgument begins with `what`.
absl::StatusOr<std::string> CleanPath(absl::string_view what, absl::string_view path);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_CHECKED_TEXT_H_
