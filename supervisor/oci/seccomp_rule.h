// One rule of a seccomp profile, as docker's profiles and `linux.seccomp` of a runtime spec write
// it.
//
// Free functions, safe to call from any thread. Spec: OCI runtime-spec "Seccomp".
#ifndef GANTRY_SUPERVISOR_OCI_SECCOMP_RULE_H_
#define GANTRY_SUPERVISOR_OCI_SECCOMP_RULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json_fwd.hpp>

namespace gantry::oci {

enum class SeccompComparison { kNe, kLt, kLe, kEq, kGe, kGt, kMaskedEq };

struct SeccompCondition {
  uint32_t argument = 0;  // of the system call, 0 to 5
  SeccompComparison comparison = SeccompComparison::kEq;
  uint64_t value = 0;  // kMaskedEq: the mask
  uint64_t value_two = 0;
};

struct SeccompRule {
  std::vector<std::string> names;
  std::string action;  // "SCMP_ACT_..."
  std::optional<uint32_t> errno_value;
  std::vector<SeccompCondition> conditions;
};

// kInvalidArgument: not such a rule, an unknown action or operator, no names, an argument above 5.
// What else is in the object, such as docker's `includes`, is the caller's.
absl::StatusOr<SeccompRule> ParseSeccompRule(const nlohmann::json& rule);
nlohmann::json PrintSeccompRule(const SeccompRule& rule);

// kInvalidArgument: no such action.
absl::Status CheckSeccompAction(absl::string_view action);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_SECCOMP_RULE_H_
