#include "supervisor/api/docker/build_query.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "base/engine/value.h"
#include "base/status_macros.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

// A query parameter that holds a JSON object; null where it is missing.
absl::StatusOr<Value> JsonQuery(const Request& request, absl::string_view name) {
  const std::string& text = request.Query(name);
  if (text.empty()) return Value();
  absl::StatusOr<Value> value = Value::FromJson(text);
  if (!value.ok())
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": not a JSON document: ", value.status().message()));
  return value;
}

absl::Status FillResources(const Request& request, v1::BuildRequest::Open& open) {
  v1::Resources& resources = *open.mutable_resources();
  const auto number = [&](absl::string_view name, auto set) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(const std::optional<int64_t> value, request.Number(name));
    if (value.has_value() && *value != 0) set(*value);
    return absl::OkStatus();
  };
  GANTRY_RETURN_IF_ERROR(
      number("memory", [&](int64_t value) { resources.set_memory_bytes(value); }));
  GANTRY_RETURN_IF_ERROR(
      number("memswap", [&](int64_t value) { resources.set_memory_swap_bytes(value); }));
  GANTRY_RETURN_IF_ERROR(number(
      "cpushares", [&](int64_t value) { resources.set_cpu_shares(static_cast<uint64_t>(value)); }));
  GANTRY_RETURN_IF_ERROR(
      number("cpuperiod", [&](int64_t value) { resources.set_cpu_period_micros(value); }));
  GANTRY_RETURN_IF_ERROR(
      number("cpuquota", [&](int64_t value) { resources.set_cpu_quota_micros(value); }));
  GANTRY_RETURN_IF_ERROR(number("shmsize", [&](int64_t value) { open.set_shm_size_bytes(value); }));
  resources.set_cpuset_cpus(request.Query("cpusetcpus"));
  resources.set_cpuset_mems(request.Query("cpusetmems"));
  open.set_cgroup_parent(request.Query("cgroupparent"));
  GANTRY_ASSIGN_OR_RETURN(const Value ulimits, JsonQuery(request, "ulimits"));
  if (!ulimits.is_list()) return absl::OkStatus();
  for (const Value& one : ulimits.list()) {
    const Value* name = one.Find("Name");
    const Value* soft = one.Find("Soft");
    const Value* hard = one.Find("Hard");
    if (name == nullptr || !name->is_string())
      return absl::InvalidArgumentError("ulimits: a limit has no Name");
    v1::Ulimit& ulimit = *resources.add_ulimits();
    ulimit.set_name(name->string());
    if (soft != nullptr && soft->is_number()) ulimit.set_soft(soft->integer());
    if (hard != nullptr && hard->is_number()) ulimit.set_hard(hard->integer());
  }
  return absl::OkStatus();
}

// {"https://index.docker.io/v1/": {"username": ..., "password": ...}}; a bad one counts as none.
void FillCredentials(const Request& request, v1::BuildRequest::Open& open) {
  std::string text;
  const std::string& header = std::string(request.head().field("x-registry-config"));
  if (!absl::WebSafeBase64Unescape(header, &text) && !absl::Base64Unescape(header, &text)) return;
  const absl::StatusOr<Value> config = Value::FromJson(text);
  if (!config.ok() || !config->is_object()) return;
  for (const auto& [name, value] : config->object().fields) {
    std::string registry = name;
    if (const size_t scheme = registry.find("://"); scheme != std::string::npos)
      registry.erase(0, scheme + 3);
    registry = registry.substr(0, registry.find('/'));
    if (registry == "index.docker.io") registry = "docker.io";
    v1::BuildRegistryAuth& one = *open.add_registries();
    one.set_registry(registry);
    const auto field = [&value = value](absl::string_view key) {
      const Value* found = value.Find(key);
      return found != nullptr && found->is_string() ? found->string() : std::string();
    };
    one.mutable_auth()->set_server_address(registry);
    one.mutable_auth()->set_username(field("username"));
    one.mutable_auth()->set_password(field("password"));
    one.mutable_auth()->set_identity_token(field("identitytoken"));
    one.mutable_auth()->set_registry_token(field("registrytoken"));
  }
}

absl::Status FillMaps(const Request& request, v1::BuildRequest::Open& open) {
  GANTRY_ASSIGN_OR_RETURN(const Value arguments, JsonQuery(request, "buildargs"));
  if (arguments.is_object()) {
    for (const auto& [name, value] : arguments.object().fields) {
      v1::BuildArgument& argument = *open.add_arguments();
      argument.set_name(name);
      if (value.is_string()) argument.set_value(value.string());
    }
  }
  GANTRY_ASSIGN_OR_RETURN(const Value labels, JsonQuery(request, "labels"));
  if (labels.is_object()) {
    for (const auto& [name, value] : labels.object().fields) {
      if (value.is_string()) (*open.mutable_labels())[name] = value.string();
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::BuildRequest::Open> BuildQuery(const Request& request) {
  const std::string& remote = request.Query("remote");
  const std::string& version = request.Query("version");
  if (!version.empty() && version != "1" && version != "2")
    return absl::InvalidArgumentError(absl::StrCat("invalid version \"", version, "\""));
  if (request.Flag("squash")) return absl::UnimplementedError("squash is not supported");
  // As docker on Linux, whose containers have neither.
  if (request.HasQuery("securityopt"))
    return absl::InvalidArgumentError(
        "The daemon on this platform does not support setting security options on build");
  const std::string& isolation = request.Query("isolation");
  if (!isolation.empty() && isolation != "default")
    return absl::InvalidArgumentError(
        absl::StrCat("isolation \"", isolation, "\": on Linux there is only default"));
  if (remote == "client-session")
    return absl::InvalidArgumentError(
        "remote=client-session: a context in a session needs version=2");
  v1::BuildRequest::Open open;
  if (remote.empty()) {
    open.set_has_context(true);
  } else {
    open.set_remote_context(remote);
  }
  open.set_dockerfile(request.Query("dockerfile"));
  for (const std::string& tag : request.QueryAll("t")) {
    if (tag.find('@') != std::string::npos)
      return absl::InvalidArgumentError("build tag cannot contain a digest");
    open.add_tags(tag);
  }
  open.set_target(request.Query("target"));
  open.set_platform(request.Query("platform"));
  open.set_no_cache(request.Flag("nocache"));
  open.set_pull(request.Flag("pull"));
  const std::string& network = request.Query("networkmode");
  if (network != "default") open.set_network_mode(network);
  for (std::string& host : request.QueryAll("extrahosts")) open.add_extra_hosts(std::move(host));
  // docker's classic builder asks nobody.
  open.add_allow("network.host");
  GANTRY_ASSIGN_OR_RETURN(const Value caches, JsonQuery(request, "cachefrom"));
  if (caches.is_list()) {
    for (const Value& one : caches.list()) {
      if (one.is_string() && !one.string().empty())
        open.add_cache_from()->set_reference(one.string());
    }
  }
  GANTRY_RETURN_IF_ERROR(FillMaps(request, open));
  GANTRY_RETURN_IF_ERROR(FillResources(request, open));
  FillCredentials(request, open);
  return open;
}

}  // namespace gantry::api::docker
