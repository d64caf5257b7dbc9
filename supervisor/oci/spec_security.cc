#include "supervisor/oci/spec_security.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "base/system_paths.h"
#include "supervisor/oci/checked_text.h"
#include "supervisor/oci/default_profile.h"
#include "supervisor/oci/json_document.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

absl::StatusOr<std::vector<std::string>> CleanPaths(absl::string_view what,
                                                    const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    GANTRY_ASSIGN_OR_RETURN(std::string clean, CleanPath(what, path));
    out.push_back(std::move(clean));
  }
  return out;
}

// "user", "role", "type" and "level" stand for a part of the label that SELinux's policies have for
// containers; "filetype" is that of the files that are mounted.
void ApplyLabel(absl::string_view value, ContainerConfig& config) {
  const auto set = [](const char* usual, size_t part, absl::string_view text, std::string& label) {
    std::vector<std::string> parts =
        absl::StrSplit(label.empty() ? usual : label.c_str(), absl::MaxSplits(':', 3));
    if (parts.size() <= part) parts.resize(part + 1);
    parts[part] = std::string(text);
    label = absl::StrJoin(parts, ":");
  };
  constexpr char kProcess[] = "system_u:system_r:container_t:s0";
  constexpr char kFiles[] = "system_u:object_r:container_file_t:s0";
  if (value == "disable") {
    config.selinux_label.clear();
    config.mount_label.clear();
  } else if (absl::ConsumePrefix(&value, "user:")) {
    set(kProcess, 0, value, config.selinux_label);
  } else if (absl::ConsumePrefix(&value, "role:")) {
    set(kProcess, 1, value, config.selinux_label);
  } else if (absl::ConsumePrefix(&value, "type:")) {
    set(kProcess, 2, value, config.selinux_label);
  } else if (absl::ConsumePrefix(&value, "level:")) {
    set(kProcess, 3, value, config.selinux_label);
    set(kFiles, 3, value, config.mount_label);
  } else if (absl::ConsumePrefix(&value, "filetype:")) {
    set(kFiles, 2, value, config.mount_label);
  } else {
    config.selinux_label = std::string(value);
  }
}

}  // namespace

absl::Status AddConfinement(const ContainerConfig& config,
                            const std::vector<std::string>& capabilities, const HostFacts& host,
                            json& linux_part) {
  SystemPaths paths;
  if (!config.privileged) {
    paths.masked.assign(MaskedPaths().begin(), MaskedPaths().end());
    paths.masked.insert(paths.masked.end(), host.thermal_throttle_paths.begin(),
                        host.thermal_throttle_paths.end());
    paths.read_only.assign(ReadonlyPaths().begin(), ReadonlyPaths().end());
    if (config.masked_paths.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(paths.masked, CleanPaths("masked path", *config.masked_paths));
    }
    if (config.readonly_paths.has_value()) {
      GANTRY_ASSIGN_OR_RETURN(paths.read_only,
                              CleanPaths("read-only path", *config.readonly_paths));
    }
  }
  for (const std::string& patterns : config.unmask) Unmask(patterns, paths);
  for (const std::string& path : config.mask) Mask(path, paths);
  if (!paths.masked.empty()) linux_part["maskedPaths"] = paths.masked;
  if (!paths.read_only.empty()) linux_part["readonlyPaths"] = paths.read_only;
  if (config.seccomp_unconfined || (config.privileged && config.seccomp_profile.empty()))
    return absl::OkStatus();
  std::string profile;
  if (config.seccomp_profile.empty()) {
    profile = *DefaultSeccomp(host, capabilities);
  } else {
    GANTRY_ASSIGN_OR_RETURN(profile, ResolveSeccomp(config.seccomp_profile, host, capabilities));
  }
  GANTRY_ASSIGN_OR_RETURN(linux_part["seccomp"], ParseJson(profile, "seccomp profile"));
  return absl::OkStatus();
}

absl::Status CheckWritableCgroups(const ContainerConfig& config, const HostFacts& host) {
  if (!config.writable_cgroups || config.privileged) return absl::OkStatus();
  if (host.cgroup_v2 && config.cgroup.kind == NamespaceMode::Kind::kPrivate)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      "security option writable-cgroups: it needs cgroup v2 and a cgroup namespace of the "
      "container's own (--cgroupns private)");
}

absl::Status ApplySecurityOption(absl::string_view option, ContainerConfig& config) {
  const size_t split = option.find_first_of("=:");
  const absl::string_view name = option.substr(0, split);
  const absl::string_view value =
      split == absl::string_view::npos ? absl::string_view() : option.substr(split + 1);
  if (name == "no-new-privileges") {
    if (!value.empty() && value != "true" && value != "false") {
      return absl::InvalidArgumentError(
          absl::StrCat("security option \"", option, "\": expected true or false"));
    }
    config.no_new_privileges = value != "false";
    return absl::OkStatus();
  }
  if (name == "seccomp" && !value.empty()) {
    config.seccomp_unconfined = value == "unconfined";
    config.seccomp_profile = value == "unconfined" || value == "builtin" ? "" : std::string(value);
    return absl::OkStatus();
  }
  if (name == "apparmor" && !value.empty()) {
    config.apparmor_profile = std::string(value);
    return absl::OkStatus();
  }
  if (name == "label" && !value.empty()) {
    ApplyLabel(value, config);
    return absl::OkStatus();
  }
  if (name == "systempaths" && value == "unconfined") {
    config.masked_paths.emplace();
    config.readonly_paths.emplace();
    return absl::OkStatus();
  }
  if (name == "mask" && !value.empty()) {
    for (const absl::string_view path : absl::StrSplit(value, ':', absl::SkipEmpty())) {
      GANTRY_ASSIGN_OR_RETURN(std::string clean, CleanPath("masked path", path));
      if (clean == "/") {
        return absl::InvalidArgumentError(
            absl::StrCat("security option \"", option, "\": nothing would be left to see"));
      }
      config.mask.push_back(std::move(clean));
    }
    return absl::OkStatus();
  }
  if (name == "unmask" && !value.empty()) {
    for (const absl::string_view pattern : absl::StrSplit(value, ':', absl::SkipEmpty())) {
      if (pattern != "ALL" && !absl::StartsWith(pattern, "/")) {
        return absl::InvalidArgumentError(
            absl::StrCat("security option \"", option.substr(0, 128),
                         "\": expected ALL, absolute paths or patterns of such"));
      }
      config.unmask.emplace_back(pattern);
    }
    return absl::OkStatus();
  }
  if (name == "writable-cgroups" && (value.empty() || value == "true" || value == "false")) {
    config.writable_cgroups = value != "false";
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("security option \"", option.substr(0, 128), "\": unknown"));
}

}  // namespace gantry::oci
