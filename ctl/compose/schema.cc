#include "ctl/compose/schema.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/compose/value_forms.h"
#include "ctl/flags.h"

namespace gantry::compose {
namespace {

// A value's shape. Strings that interpolation changed pass for numbers and booleans.
enum : unsigned {
  kText = 1,
  kNumber = 2,
  kBool = 4,
  kList = 8,
  kMap = 16,
  kNull = 32,
  kScalar = kText | kNumber | kBool,
  kAny = 63,
};

struct Shape {
  unsigned allowed;
  // Of what a map holds; null: anything. `keys` for a fixed set, `each` for free names.
  const std::map<std::string, Shape>* keys = nullptr;
  const Shape* each = nullptr;
  // Of a list's items.
  const Shape* items = nullptr;
  // How a scalar is spelled afterwards.
  Form form = Form::kAsWritten;
};

constexpr Shape Scalar(unsigned allowed, Form form) {
  return {allowed, nullptr, nullptr, nullptr, form};
}

using Keys = std::map<std::string, Shape>;

// Made at the first use, because every start of ctl would pay for it. Members point at those above
// them.
struct Tables {
  Tables() = default;
  Tables(const Tables&) = delete;

  const Shape kOneText{kText};
  const Shape kScalarOrNull = Scalar(kScalar | kNull, Form::kText);
  const Shape kTextOrNumber = Scalar(kText | kNumber, Form::kText);
  const Shape kFlag = Scalar(kBool, Form::kBoolean);
  const Shape kFlagAsText = Scalar(kText | kBool, Form::kText);
  const Shape kWhole = Scalar(kNumber, Form::kInteger);
  const Shape kWholeOrText = Scalar(kText | kNumber, Form::kInteger);
  const Shape kDecimalNumber = Scalar(kText | kNumber, Form::kDecimal);
  const Shape kSize = Scalar(kText | kNumber, Form::kBytes);
  const Shape kSizeText = Scalar(kText, Form::kBytes);
  const Shape kTime = Scalar(kText, Form::kDuration);
  const Shape kCountOrAll = Scalar(kText | kNumber, Form::kCount);
  const Shape kFileMode = Scalar(kText | kNumber, Form::kFileMode);

  const Shape kTexts{kList | kNull, nullptr, nullptr, &kTextOrNumber};
  const Shape kTextOrTexts{kText | kList | kNull, nullptr, nullptr, &kTextOrNumber};
  // "KEY=value" items or a map: environment, labels and their like.
  const Shape kMapOrTexts{kMap | kList | kNull, nullptr, &kScalarOrNull, &kTextOrNumber};
  // extra_hosts, build.additional_contexts: values may be lists.
  const Shape kTextList{kList, nullptr, nullptr, &kOneText};
  const Shape kTextOrList{kText | kList, nullptr, nullptr, &kOneText};
  const Shape kHosts{kMap | kList | kNull, nullptr, &kTextOrList, &kOneText};
  const Shape kOptions{kMap | kNull, nullptr, &kScalarOrNull};

  const Keys kUlimitKeys{{"soft", kWholeOrText}, {"hard", kWholeOrText}};
  const Shape kUlimit{kNumber | kText | kMap, &kUlimitKeys, nullptr, nullptr, Form::kInteger};
  const Shape kUlimits{kMap | kNull, nullptr, &kUlimit};

  const Keys kDeviceRequestKeys{{"capabilities", kTexts},
                                {"count", kCountOrAll},
                                {"device_ids", kTexts},
                                {"driver", kOneText},
                                {"options", kMapOrTexts}};
  const Shape kDeviceRequest{kMap, &kDeviceRequestKeys};
  const Shape kDeviceRequests{kList | kNull, nullptr, nullptr, &kDeviceRequest};

  const Keys kFileReferenceKeys{{"gid", kTextOrNumber},
                                {"mode", kFileMode},
                                {"source", kOneText},
                                {"target", kOneText},
                                {"uid", kTextOrNumber}};
  const Shape kFileReference{kText | kMap, &kFileReferenceKeys};

  const Keys kBuildKeys{{"additional_contexts", kHosts},
                        {"args", kMapOrTexts},
                        {"cache_from", kTexts},
                        {"cache_to", kTexts},
                        {"context", kOneText},
                        {"dockerfile", kOneText},
                        {"dockerfile_inline", kOneText},
                        {"entitlements", kTexts},
                        {"extra_hosts", kHosts},
                        {"isolation", kOneText},
                        {"labels", kMapOrTexts},
                        {"network", kOneText},
                        {"no_cache", kFlag},
                        {"no_cache_filter", kTextOrTexts},
                        {"platforms", kTexts},
                        {"privileged", kFlag},
                        {"provenance", kFlagAsText},
                        {"pull", kFlag},
                        {"sbom", kFlagAsText},
                        {"secrets", {kList | kNull, nullptr, nullptr, &kFileReference}},
                        {"shm_size", kSize},
                        {"ssh", {kMap | kList | kText | kNull}},
                        {"tags", kTexts},
                        {"target", kOneText},
                        {"ulimits", kUlimits}};

  const Keys kDependencyKeys{{"condition", kOneText}, {"required", kFlag}, {"restart", kFlag}};
  const Shape kDependency{kMap, &kDependencyKeys};

  const Keys kEnvFileKeys{{"format", kOneText}, {"path", kOneText}, {"required", kFlag}};
  const Shape kEnvFileItem{kText | kMap, &kEnvFileKeys};

  const Keys kHealthKeys{{"disable", kFlag},        {"interval", kTime},     {"retries", kWhole},
                         {"start_interval", kTime}, {"start_period", kTime}, {"test", kTextOrTexts},
                         {"timeout", kTime}};

  const Keys kLoggingKeys{{"driver", kOneText}, {"options", kOptions}};

  const Keys kServiceNetworkKeys{
      {"aliases", kTexts},          {"driver_opts", kOptions},  {"gw_priority", kWhole},
      {"interface_name", kOneText}, {"ipv4_address", kOneText}, {"ipv6_address", kOneText},
      {"link_local_ips", kTexts},   {"mac_address", kOneText},  {"priority", kWhole}};
  const Shape kServiceNetwork{kMap | kNull, &kServiceNetworkKeys};

  const Keys kPortKeys{{"app_protocol", kOneText}, {"host_ip", kOneText},
                       {"mode", kOneText},         {"name", kOneText},
                       {"protocol", kOneText},     {"published", kTextOrNumber},
                       {"target", kWholeOrText}};
  const Shape kPort{kText | kNumber | kMap, &kPortKeys};

  const Keys kBindKeys{{"create_host_path", kFlag},
                       {"propagation", kOneText},
                       {"recursive", kOneText},
                       {"selinux", kOneText}};
  const Keys kVolumeOptionKeys{{"labels", kMapOrTexts}, {"nocopy", kFlag}, {"subpath", kOneText}};
  const Keys kTmpfsKeys{{"mode", Scalar(kText | kNumber, Form::kTmpfsMode)}, {"size", kSize}};
  const Keys kImageMountKeys{{"subpath", kOneText}};
  const Keys kMountKeys{{"bind", {kMap | kNull, &kBindKeys}},
                        {"consistency", kOneText},
                        {"image", {kMap | kNull, &kImageMountKeys}},
                        {"read_only", kFlag},
                        {"source", kOneText},
                        {"target", kOneText},
                        {"tmpfs", {kMap | kNull, &kTmpfsKeys}},
                        {"type", kOneText},
                        {"volume", {kMap | kNull, &kVolumeOptionKeys}}};
  const Shape kMount{kText | kMap, &kMountKeys};

  const Keys kDeviceKeys{{"permissions", kOneText}, {"source", kOneText}, {"target", kOneText}};
  const Shape kDevice{kText | kMap, &kDeviceKeys};

  const Keys kLimitKeys{{"cpus", kDecimalNumber}, {"memory", kSizeText}, {"pids", kWhole}};
  const Keys kReservationKeys{{"cpus", kDecimalNumber},
                              {"devices", kDeviceRequests},
                              {"generic_resources", {kList}},
                              {"memory", kSizeText}};
  const Keys kResourceKeys{{"limits", {kMap | kNull, &kLimitKeys}},
                           {"reservations", {kMap | kNull, &kReservationKeys}}};
  const Keys kRestartKeys{
      {"condition", kOneText}, {"delay", kTime}, {"max_attempts", kWhole}, {"window", kTime}};
  const Keys kUpdateKeys{
      {"delay", kTime},   {"failure_action", kOneText}, {"max_failure_ratio", kDecimalNumber},
      {"monitor", kTime}, {"order", kOneText},          {"parallelism", kWhole}};
  const Keys kPreferenceKeys{{"spread", kOneText}};
  const Shape kPreference{kMap, &kPreferenceKeys};
  const Keys kPlacementKeys{{"constraints", kTexts},
                            {"max_replicas_per_node", kWhole},
                            {"preferences", {kList | kNull, nullptr, nullptr, &kPreference}}};
  const Keys kDeployKeys{{"endpoint_mode", kOneText},
                         {"labels", kMapOrTexts},
                         {"mode", kOneText},
                         {"placement", {kMap | kNull, &kPlacementKeys}},
                         {"replicas", kWholeOrText},
                         {"resources", {kMap | kNull, &kResourceKeys}},
                         {"restart_policy", {kMap | kNull, &kRestartKeys}},
                         {"rollback_config", {kMap | kNull, &kUpdateKeys}},
                         {"update_config", {kMap | kNull, &kUpdateKeys}}};

  const Keys kExtendsKeys{{"file", kOneText}, {"service", kOneText}};
  const Keys kHookKeys{{"command", kTextOrTexts},
                       {"environment", kMapOrTexts},
                       {"privileged", kFlag},
                       {"user", kTextOrNumber},
                       {"working_dir", kOneText}};
  const Shape kHook{kMap, &kHookKeys};
  const Shape kHooks{kList | kNull, nullptr, nullptr, &kHook};
  const Keys kWatchKeys{{"action", kOneText},     {"exec", kHook},
                        {"ignore", kTextOrTexts}, {"include", kTextOrTexts},
                        {"initial_sync", kFlag},  {"path", kOneText},
                        {"target", kOneText}};
  const Shape kWatch{kMap, &kWatchKeys};
  const Keys kDevelopKeys{{"watch", {kList | kNull, nullptr, nullptr, &kWatch}}};
  const Keys kDeviceWeightKeys{{"path", kOneText}, {"weight", kWhole}};
  const Shape kDeviceWeight{kMap, &kDeviceWeightKeys};
  const Keys kRateKeys{{"path", kOneText}, {"rate", kSize}};
  const Shape kRate{kMap, &kRateKeys};
  const Shape kRates{kList | kNull, nullptr, nullptr, &kRate};
  const Keys kBlkioKeys{{"device_read_bps", kRates},
                        {"device_read_iops", kRates},
                        {"device_write_bps", kRates},
                        {"device_write_iops", kRates},
                        {"weight", kWhole},
                        {"weight_device", {kList | kNull, nullptr, nullptr, &kDeviceWeight}}};

  const Keys kCredentialKeys{{"config", kOneText}, {"file", kOneText}, {"registry", kOneText}};
  const Shape kScalarOrTexts{kScalar | kList, nullptr, nullptr, &kScalarOrNull, Form::kText};
  const Keys kProviderKeys{{"options", {kMap | kNull, nullptr, &kScalarOrTexts}},
                           {"type", kOneText}};
  const Keys kServiceModelKeys{{"endpoint_var", kOneText}, {"model_var", kOneText}};
  const Shape kServiceModel{kMap | kNull, &kServiceModelKeys};

  const Keys kServiceKeys{
      {"annotations", kMapOrTexts},
      {"attach", kFlag},
      {"blkio_config", {kMap | kNull, &kBlkioKeys}},
      {"build", {kText | kMap, &kBuildKeys}},
      {"cap_add", kTexts},
      {"cap_drop", kTexts},
      {"cgroup", kOneText},
      {"cgroup_parent", kOneText},
      {"command", kTextOrTexts},
      {"configs", {kList | kNull, nullptr, nullptr, &kFileReference}},
      {"container_name", kOneText},
      {"cpu_count", kWhole},
      {"cpu_percent", Scalar(kNumber, Form::kDecimal)},
      {"cpu_period", kWholeOrText},
      {"cpu_quota", kWholeOrText},
      {"cpu_rt_period", kWholeOrText},
      {"cpu_rt_runtime", kWholeOrText},
      {"cpu_shares", kWholeOrText},
      {"cpus", kDecimalNumber},
      {"cpuset", kOneText},
      {"credential_spec", {kMap, &kCredentialKeys}},
      {"depends_on", {kList | kMap | kNull, nullptr, &kDependency, &kOneText}},
      {"deploy", {kMap | kNull, &kDeployKeys}},
      {"develop", {kMap | kNull, &kDevelopKeys}},
      {"device_cgroup_rules", kTexts},
      {"devices", {kList | kNull, nullptr, nullptr, &kDevice}},
      {"dns", kTextOrTexts},
      {"dns_opt", kTexts},
      {"dns_search", kTextOrTexts},
      {"domainname", kOneText},
      {"entrypoint", kTextOrTexts},
      {"env_file", {kText | kList | kNull, nullptr, nullptr, &kEnvFileItem}},
      {"environment", kMapOrTexts},
      {"expose", kTexts},
      {"extends", {kText | kMap, &kExtendsKeys}},
      {"external_links", kTexts},
      {"extra_hosts", kHosts},
      {"gpus", {kText | kList, nullptr, nullptr, &kDeviceRequest}},
      {"group_add", kTexts},
      {"healthcheck", {kMap | kNull, &kHealthKeys}},
      {"hostname", kOneText},
      {"image", kOneText},
      {"init", kFlag},
      {"ipc", kOneText},
      {"isolation", kOneText},
      {"label_file", kTextOrTexts},
      {"labels", kMapOrTexts},
      {"links", kTexts},
      {"logging", {kMap | kNull, &kLoggingKeys}},
      {"mac_address", kOneText},
      {"mem_limit", kSize},
      {"mem_reservation", kSize},
      {"mem_swappiness", kSize},
      {"memswap_limit", kSize},
      {"models", {kList | kMap, nullptr, &kServiceModel, &kOneText}},
      {"network_mode", kOneText},
      {"networks", {kList | kMap | kNull, nullptr, &kServiceNetwork, &kOneText}},
      {"oom_kill_disable", kFlag},
      {"oom_score_adj", kWhole},
      {"pid", {kText | kNull}},
      {"pids_limit", kWholeOrText},
      {"platform", kOneText},
      {"ports", {kList | kNull, nullptr, nullptr, &kPort}},
      {"post_start", kHooks},
      {"pre_stop", kHooks},
      {"privileged", kFlag},
      {"profiles", kTexts},
      {"provider", {kMap, &kProviderKeys}},
      {"pull_policy", kOneText},
      {"read_only", kFlag},
      {"restart", kOneText},
      {"runtime", kOneText},
      {"scale", kWhole},
      {"secrets", {kList | kNull, nullptr, nullptr, &kFileReference}},
      {"security_opt", kTexts},
      {"shm_size", kSize},
      {"stdin_open", kFlag},
      {"stop_grace_period", kTime},
      {"stop_signal", kOneText},
      {"storage_opt", kOptions},
      {"sysctls", kMapOrTexts},
      {"tmpfs", kTextOrTexts},
      {"tty", kFlag},
      {"ulimits", kUlimits},
      {"use_api_socket", kFlag},
      {"user", kTextOrNumber},
      {"userns_mode", kOneText},
      {"uts", kOneText},
      {"volumes", {kList | kNull, nullptr, nullptr, &kMount}},
      {"volumes_from", kTexts},
      {"working_dir", kOneText},
  };

  const Keys kExternalKeys{{"name", kOneText}};
  const Shape kExternal{kBool | kMap, &kExternalKeys, nullptr, nullptr, Form::kBoolean};
  const Keys kIpamConfigKeys{{"aux_addresses", kOptions},
                             {"gateway", kOneText},
                             {"ip_range", kOneText},
                             {"subnet", kOneText}};
  const Shape kIpamConfig{kMap, &kIpamConfigKeys};
  const Keys kIpamKeys{{"config", {kList | kNull, nullptr, nullptr, &kIpamConfig}},
                       {"driver", kOneText},
                       {"options", kOptions}};
  const Keys kNetworkKeys{{"attachable", kFlag},     {"driver", kOneText},
                          {"driver_opts", kOptions}, {"enable_ipv4", kFlag},
                          {"enable_ipv6", kFlag},    {"external", kExternal},
                          {"internal", kFlag},       {"ipam", {kMap | kNull, &kIpamKeys}},
                          {"labels", kMapOrTexts},   {"name", kOneText}};
  const Keys kVolumeKeys{{"driver", kOneText},
                         {"driver_opts", kOptions},
                         {"external", kExternal},
                         {"labels", kMapOrTexts},
                         {"name", kOneText}};
  const Keys kFileKeys{
      {"content", kOneText},     {"driver", kOneText},    {"driver_opts", kOptions},
      {"environment", kOneText}, {"external", kExternal}, {"file", kOneText},
      {"labels", kMapOrTexts},   {"name", kOneText},      {"template_driver", kOneText}};
  const Keys kIncludeKeys{
      {"env_file", kTextOrTexts}, {"path", kTextOrTexts}, {"project_directory", kOneText}};
  const Shape kInclude{kText | kMap, &kIncludeKeys};

  const Shape kService{kMap | kNull, &kServiceKeys};
  const Shape kNetwork{kMap | kNull, &kNetworkKeys};
  const Shape kVolume{kMap | kNull, &kVolumeKeys};
  const Shape kFile{kMap | kNull, &kFileKeys};
  const Keys kModelKeys{
      {"context_size", kWhole}, {"model", kOneText}, {"name", kOneText}, {"runtime_flags", kTexts}};
  const Shape kModel{kMap | kNull, &kModelKeys};

  const Keys kTopKeys{{"configs", {kMap | kNull, nullptr, &kFile}},
                      {"include", {kList | kNull, nullptr, nullptr, &kInclude}},
                      {"models", {kMap | kNull, nullptr, &kModel}},
                      {"name", kOneText},
                      {"networks", {kMap | kNull, nullptr, &kNetwork}},
                      {"secrets", {kMap | kNull, nullptr, &kFile}},
                      {"services", {kMap | kNull, nullptr, &kService}},
                      {"version", kTextOrNumber},
                      {"volumes", {kMap | kNull, nullptr, &kVolume}}};
  const Shape kTop{kMap, &kTopKeys};
};

unsigned ShapeOf(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return kNull;
    case Node::Kind::kBool:
      return kBool;
    case Node::Kind::kNumber:
      return kNumber;
    case Node::Kind::kString:
      return node.interpolated ? static_cast<unsigned>(kScalar) : static_cast<unsigned>(kText);
    case Node::Kind::kList:
      return kList;
    case Node::Kind::kMap:
      return kMap;
  }
  return 0;
}

std::string Expected(unsigned allowed) {
  std::vector<std::string> words;
  if (allowed & kText) words.push_back("string");
  if (allowed & kNumber) words.push_back("number");
  if (allowed & kBool) words.push_back("boolean");
  if (allowed & kList) words.push_back("array");
  if (allowed & kMap) words.push_back("mapping");
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
    out += words[i];
  }
  return out;
}

bool IsOfForm(Node node, Form form) {
  return form != Form::kAsWritten && PutInForm(node, form).ok();
}

// `variables`: strings may hold ${VARIABLES}, and then stand for any scalar.
absl::Status Check(Node& node, const Shape& shape, const std::string& path, bool variables) {
  if (variables && node.is_string() && node.text.find('$') != std::string::npos &&
      (shape.allowed & kScalar) != 0)
    return absl::OkStatus();
  // A string may stand for a number or a boolean.
  const bool castable = node.is_string() && (shape.allowed & (kNumber | kBool)) != 0 &&
                        (node.text.find_first_not_of("0123456789.-") == std::string::npos ||
                         IsOfForm(node, shape.form));
  if ((ShapeOf(node) & shape.allowed) == 0 && !castable) {
    return absl::InvalidArgumentError(absl::StrCat(node.at.Text(), ": ",
                                                   path.empty() ? "the file" : path, " must be a ",
                                                   Expected(shape.allowed)));
  }
  if (node.is_list() && shape.items != nullptr) {
    for (size_t i = 0; i < node.items.size(); ++i)
      GANTRY_RETURN_IF_ERROR(
          Check(node.items[i], *shape.items, absl::StrCat(path, "[", i, "]"), variables));
  }
  if (const absl::Status formed = PutInForm(node, shape.form); !formed.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(node.at.Text(), ": ", path, ": ", formed.message()));
  }
  if (!node.is_map()) return absl::OkStatus();
  for (auto& [key, value] : node.entries) {
    const std::string below = path.empty() ? key : absl::StrCat(path, ".", key);
    if (shape.each != nullptr) {
      GANTRY_RETURN_IF_ERROR(Check(value, *shape.each, below, variables));
      continue;
    }
    if (shape.keys == nullptr) continue;
    const auto known = shape.keys->find(key);
    if (known != shape.keys->end()) {
      // An explicit null keeps what an earlier file said.
      if (!value.is_null()) GANTRY_RETURN_IF_ERROR(Check(value, known->second, below, variables));
      continue;
    }
    if (absl::StartsWith(key, "x-")) continue;
    std::vector<std::string> names;
    for (const auto& [name, unused] : *shape.keys) names.push_back(name);
    const std::string nearest = ctl::Nearest(key, names);
    return absl::InvalidArgumentError(absl::StrCat(
        value.at.Text(), ": ", path.empty() ? "the file:" : path, " additional properties '", key,
        "' not allowed", nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSchema(Node& document, bool variables) {
  static const Tables tables;
  return Check(document, tables.kTop, "", variables);
}

}  // namespace gantry::compose
