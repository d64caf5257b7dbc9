// YAML text as the JSON value that says the same, for documents that may be written in either.
//
// Plain scalars are read by YAML 1.2's core schema: true, false, null, numbers (010 is 8, as in
// YAML 1.1); all else, and what is quoted, is a string. Everything is bounded while it is read.
// Aliases are refused, because a short text can unfold to a very large value with them.
//
// A free function, safe to call from any thread. Exceptions of the libraries end here.
// Spec: yaml.org 1.2.2.
#ifndef GANTRY_SUPERVISOR_OCI_CDI_YAML_JSON_H_
#define GANTRY_SUPERVISOR_OCI_CDI_YAML_JSON_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json_fwd.hpp>

namespace gantry::oci::cdi {

struct YamlLimits {
  size_t max_bytes = 1 << 20;
  int max_depth = 16;
  int max_values = 50000;
};

// The one document of `text`; `what` names it in messages.
//   kInvalidArgument    not YAML, several documents, a key twice, a key that is no scalar, an alias
//   kResourceExhausted  beyond the limits
absl::StatusOr<nlohmann::json> ParseYaml(const std::string& text, absl::string_view what,
                                         const YamlLimits& limits = {});

}  // namespace gantry::oci::cdi

#endif  // GANTRY_SUPERVISOR_OCI_CDI_YAML_JSON_H_
