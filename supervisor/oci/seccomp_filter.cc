#include "supervisor/oci/seccomp_filter.h"

#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/oci/json_fields.h"
#include "supervisor/oci/seccomp_rule.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

constexpr char kProgramAnnotation[] = "run.oci.seccomp_bpf_data";
constexpr size_t kMaxPrograms = 32;
constexpr size_t kMaxProgramBytes = 1 << 20;
constexpr uint32_t kBinarySearch = 2;  // SCMP_FLTATR_CTL_OPTIMIZE

using Context = std::unique_ptr<void, decltype(&seccomp_release)>;

absl::Status Refused(int error, absl::string_view step) {
  return absl::InvalidArgumentError(
      absl::StrCat("seccomp profile: ", step, ": ", ErrnoToStatus(-error, "").message()));
}

absl::StatusOr<uint32_t> Action(const std::string& name, uint32_t errno_value) {
  if (name == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (name == "SCMP_ACT_ERRNO") return SCMP_ACT_ERRNO(errno_value);
  if (name == "SCMP_ACT_KILL" || name == "SCMP_ACT_KILL_THREAD") return SCMP_ACT_KILL_THREAD;
  if (name == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  if (name == "SCMP_ACT_LOG") return SCMP_ACT_LOG;
  if (name == "SCMP_ACT_TRACE") return SCMP_ACT_TRACE(errno_value);
  if (name == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  if (name == "SCMP_ACT_NOTIFY") {
    return absl::UnimplementedError("seccomp profile: SCMP_ACT_NOTIFY wants a listener");
  }
  return absl::InvalidArgumentError(absl::StrCat("seccomp profile: unknown action \"", name, "\""));
}

scmp_compare Operator(SeccompComparison comparison) {
  switch (comparison) {
    case SeccompComparison::kNe:
      return SCMP_CMP_NE;
    case SeccompComparison::kLt:
      return SCMP_CMP_LT;
    case SeccompComparison::kLe:
      return SCMP_CMP_LE;
    case SeccompComparison::kEq:
      return SCMP_CMP_EQ;
    case SeccompComparison::kGe:
      return SCMP_CMP_GE;
    case SeccompComparison::kGt:
      return SCMP_CMP_GT;
    case SeccompComparison::kMaskedEq:
      return SCMP_CMP_MASKED_EQ;
  }
  return SCMP_CMP_EQ;  // no such value
}

absl::Status AddArchitectures(scmp_filter_ctx context, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::string known = absl::AsciiStrToLower(absl::StripPrefix(name, "SCMP_ARCH_"));
    const uint32_t architecture = seccomp_arch_resolve_name(known.c_str());
    if (architecture == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("seccomp profile: unknown architecture \"", name, "\""));
    }
    const int error = seccomp_arch_add(context, architecture);
    if (error < 0 && error != -EEXIST) return Refused(error, absl::StrCat("add ", name));
  }
  return absl::OkStatus();
}

// The kernel's filter cannot hold two conditions on one argument in one rule; such a rule means
// "any of them".
bool NameOneArgumentTwice(const std::vector<scmp_arg_cmp>& comparisons) {
  uint32_t seen = 0;
  for (const scmp_arg_cmp& comparison : comparisons) {
    if (seen & (1u << comparison.arg)) return true;
    seen |= 1u << comparison.arg;
  }
  return false;
}

absl::Status AddRule(scmp_filter_ctx context, const json& document, uint32_t default_action) {
  GANTRY_ASSIGN_OR_RETURN(const SeccompRule rule, ParseSeccompRule(document));
  GANTRY_ASSIGN_OR_RETURN(const uint32_t action,
                          Action(rule.action, rule.errno_value.value_or(EPERM)));
  if (action == default_action) return absl::OkStatus();
  std::vector<scmp_arg_cmp> all;
  for (const SeccompCondition& condition : rule.conditions) {
    all.push_back(
        {condition.argument, Operator(condition.comparison), condition.value, condition.value_two});
  }
  std::vector<std::vector<scmp_arg_cmp>> alternatives;
  if (NameOneArgumentTwice(all)) {
    for (const scmp_arg_cmp& one : all) alternatives.push_back({one});
  } else {
    alternatives.push_back(all);
  }
  for (const std::string& name : rule.names) {
    const int number = seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) continue;
    for (const std::vector<scmp_arg_cmp>& comparisons : alternatives) {
      const int error = seccomp_rule_add_array(
          context, action, number, static_cast<unsigned>(comparisons.size()), comparisons.data());
      if (error < 0) return Refused(error, absl::StrCat("rule for ", name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Export(scmp_filter_ctx context) {
  const UniqueFd file(memfd_create("seccomp", MFD_CLOEXEC));
  if (!file.valid()) return ErrnoToStatus(errno, "seccomp profile: memfd");
  if (const int error = seccomp_export_bpf(context, file.get()); error < 0) {
    return Refused(error, "compile");
  }
  return ReadFile(absl::StrCat("/proc/self/fd/", file.get()), kMaxProgramBytes);
}

}  // namespace

absl::StatusOr<std::string> CompileSeccomp(const json& profile) {
  std::string default_action_name;
  uint32_t default_errno = EPERM;
  std::vector<std::string> architectures;
  std::vector<std::string> flags;
  JsonFields fields(profile, "seccomp profile");
  fields.Get("defaultAction", default_action_name);
  fields.Get("defaultErrnoRet", default_errno);
  fields.Get("architectures", architectures);
  fields.Get("flags", flags);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (!flags.empty() || fields.Find("listenerPath") != nullptr ||
      fields.Find("listenerMetadata") != nullptr) {
    return absl::UnimplementedError("seccomp profile: flags and listeners are the runtime's");
  }
  GANTRY_ASSIGN_OR_RETURN(const uint32_t default_action,
                          Action(default_action_name, default_errno));
  const Context context(seccomp_init(default_action), &seccomp_release);
  if (context == nullptr) return absl::InternalError("seccomp profile: seccomp_init failed");
  if (const int error = seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, kBinarySearch);
      error < 0) {
    return Refused(error, "ask for binary search");
  }
  GANTRY_RETURN_IF_ERROR(AddArchitectures(context.get(), architectures));
  if (const json* rules = fields.Find("syscalls"); rules != nullptr && !rules->is_null()) {
    if (!rules->is_array()) {
      return absl::InvalidArgumentError("seccomp profile: `syscalls` is not a list");
    }
    for (const json& rule : *rules) {
      GANTRY_RETURN_IF_ERROR(AddRule(context.get(), rule, default_action));
    }
  }
  return Export(context.get());
}

bool SeccompFilters::Prebuild(RuntimeSpec& spec) {
  json& document = spec.document();
  const auto linux_part = document.find("linux");
  if (linux_part == document.end() || !linux_part->is_object()) return false;
  const auto profile = linux_part->find("seccomp");
  if (profile == linux_part->end() || !profile->is_object()) return false;
  const auto annotations = document.find("annotations");
  if (annotations != document.end() && !annotations->is_null() &&
      (!annotations->is_object() || annotations->contains(kProgramAnnotation))) {
    return false;
  }

  const std::string text = profile->dump(-1, ' ', false, json::error_handler_t::replace);
  std::optional<std::string> program;
  {
    absl::MutexLock lock(&mu_);
    if (const auto known = programs_.find(text); known != programs_.end()) program = known->second;
  }
  if (!program.has_value()) {
    // Outside the lock: two that come at once both compile.
    const absl::StatusOr<std::string> compiled = CompileSeccomp(*profile);
    program = compiled.ok() ? absl::Base64Escape(*compiled) : "";
    absl::MutexLock lock(&mu_);
    if (programs_.size() >= kMaxPrograms) programs_.erase(programs_.begin());
    programs_.insert_or_assign(text, *program);
  }
  if (program->empty()) return false;
  json denial = json::object();
  denial["defaultAction"] = "SCMP_ACT_ERRNO";
  *profile = std::move(denial);
  document["annotations"][kProgramAnnotation] = *std::move(program);
  return true;
}

}  // namespace gantry::oci
