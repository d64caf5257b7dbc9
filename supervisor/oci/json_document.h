// JSON from outside, parsed within bounds: size, nesting and number of values are checked before
// anything is built.
//
// Free functions, safe to call from any thread. Exceptions of the JSON library end here.
#ifndef GANTRY_SUPERVISOR_OCI_JSON_DOCUMENT_H_
#define GANTRY_SUPERVISOR_OCI_JSON_DOCUMENT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json_fwd.hpp>

namespace gantry::oci {

struct JsonLimits {
  int64_t max_bytes = 4393216;  // what containerd's clients accept for a manifest
  int max_depth = 64;
  int64_t max_values = 400000;  // members and elements of the whole document
  // Reads U+FFFD for bytes that are not UTF-8, as Go's decoder does, in place of refusing the
  // document.
  bool replace_invalid_utf8 = false;
};

// kInvalidArgument: not JSON, or deeper or richer than the limits; kResourceExhausted: too many
// bytes. `what` names the document in the message ("manifest sha256:...").
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view bytes, absl::string_view what,
                                         const JsonLimits& limits = {});

// Compact text; bytes that are not UTF-8 are replaced, so printing cannot fail.
std::string PrintJson(const nlohmann::json& value);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_JSON_DOCUMENT_H_
