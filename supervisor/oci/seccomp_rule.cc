#include "supervisor/oci/seccomp_rule.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/oci/json_fields.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

constexpr uint32_t kMaxArgument = 5;

constexpr const char* kActions[] = {
    "SCMP_ACT_ALLOW",        "SCMP_ACT_ERRNO",       "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG",         "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",        "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"};

// In the order of SeccompComparison.
constexpr const char* kComparisons[] = {"SCMP_CMP_NE",       "SCMP_CMP_LT", "SCMP_CMP_LE",
                                        "SCMP_CMP_EQ",       "SCMP_CMP_GE", "SCMP_CMP_GT",
                                        "SCMP_CMP_MASKED_EQ"};

absl::StatusOr<SeccompCondition> ParseCondition(const json& arg) {
  SeccompCondition condition;
  std::string op;
  JsonFields fields(arg, "seccomp profile: args");
  fields.Get("index", condition.argument);
  fields.Get("value", condition.value);
  fields.Get("valueTwo", condition.value_two);
  fields.Get("op", op);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (condition.argument > kMaxArgument) {
    return absl::InvalidArgumentError(absl::StrCat("seccomp profile: argument ", condition.argument,
                                                   "; there are 0 to ", kMaxArgument));
  }
  const auto known = std::find(std::begin(kComparisons), std::end(kComparisons), op);
  if (known == std::end(kComparisons)) {
    return absl::InvalidArgumentError(
        absl::StrCat("seccomp profile: unknown operator \"", op, "\""));
  }
  condition.comparison = static_cast<SeccompComparison>(known - std::begin(kComparisons));
  return condition;
}

}  // namespace

absl::Status CheckSeccompAction(absl::string_view action) {
  if (std::find(std::begin(kActions), std::end(kActions), action) != std::end(kActions))
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("seccomp profile: unknown action \"", action, "\""));
}

absl::StatusOr<SeccompRule> ParseSeccompRule(const json& rule) {
  SeccompRule out;
  std::string name;
  JsonFields fields(rule, "seccomp profile: syscalls");
  fields.Get("name", name);
  fields.Get("names", out.names);
  fields.Get("action", out.action);
  fields.Get("errnoRet", out.errno_value);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (!name.empty()) out.names.push_back(std::move(name));
  if (out.names.empty()) return absl::InvalidArgumentError("seccomp profile: a rule without names");
  GANTRY_RETURN_IF_ERROR(CheckSeccompAction(out.action));
  const json* args = fields.Find("args");
  if (args == nullptr || args->empty()) return out;
  if (!args->is_array()) return absl::InvalidArgumentError("seccomp profile: `args` is not a list");
  for (const json& arg : *args) {
    GANTRY_ASSIGN_OR_RETURN(SeccompCondition condition, ParseCondition(arg));
    out.conditions.push_back(condition);
  }
  return out;
}

json PrintSeccompRule(const SeccompRule& rule) {
  json out = {{"names", rule.names}, {"action", rule.action}};
  if (rule.errno_value.has_value()) out["errnoRet"] = *rule.errno_value;
  for (const SeccompCondition& condition : rule.conditions) {
    out["args"].push_back({{"index", condition.argument},
                           {"value", condition.value},
                           {"valueTwo", condition.value_two},
                           {"op", kComparisons[static_cast<int>(condition.comparison)]}});
  }
  return out;
}

}  // namespace gantry::oci
