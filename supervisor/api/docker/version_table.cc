#include "supervisor/api/docker/version_table.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

struct Field {
  Document document;
  const char* path;  // "*" stands for every key of a map and every element of a list
  ApiVersion since;
  ApiVersion gone = {kNewest.major + 1, 0};  // the first version without it
};

constexpr Field kFields[] = {
    {Document::kContainer, "HostConfig.CgroupnsMode", {1, 41}},
    {Document::kContainer, "HostConfig.Annotations", {1, 43}},
    {Document::kContainer, "HostConfig.Mounts.*.BindOptions.CreateMountpoint", {1, 42}},
    {Document::kContainer, "HostConfig.Mounts.*.BindOptions.ReadOnlyNonRecursive", {1, 44}},
    {Document::kContainer, "HostConfig.Mounts.*.BindOptions.ReadOnlyForceRecursive", {1, 44}},
    {Document::kContainer, "HostConfig.Mounts.*.VolumeOptions.Subpath", {1, 45}},
    {Document::kContainer, "HostConfig.Mounts.*.TmpfsOptions.Options", {1, 46}},
    {Document::kContainer, "HostConfig.Mounts.*.ImageOptions", {1, 48}},
    {Document::kContainer, "Config.Healthcheck.StartInterval", {1, 44}},
    {Document::kContainer, "NetworkSettings.Networks.*.DNSNames", {1, 44}},
    {Document::kContainer, "NetworkSettings.Networks.*.GwPriority", {1, 48}},
    {Document::kContainer, "ImageManifestDescriptor", {1, 48}},
    {Document::kContainerSummary, "ImageManifestDescriptor", {1, 48}},
    {Document::kContainerSummary, "HostConfig.Annotations", {1, 46}},
    {Document::kContainerSummary, "NetworkSettings.Networks.*.DNSNames", {1, 44}},
    {Document::kContainerSummary, "NetworkSettings.Networks.*.GwPriority", {1, 48}},
    {Document::kInfo, "CDISpecDirs", {1, 44}},
    {Document::kInfo, "DiscoveredDevices", {1, 50}},
    {Document::kInfo, "BridgeNfIptables", kOldest, {1, 50}},
    {Document::kInfo, "BridgeNfIp6tables", kOldest, {1, 50}},
    {Document::kInfo, "RegistryConfig.AllowNondistributableArtifactsCIDRs", kOldest, {1, 47}},
    {Document::kInfo, "RegistryConfig.AllowNondistributableArtifactsHostnames", kOldest, {1, 47}},
    {Document::kInfo, "ContainerdCommit.Expected", kOldest, {1, 49}},
    {Document::kInfo, "RuncCommit.Expected", kOldest, {1, 49}},
    {Document::kInfo, "InitCommit.Expected", kOldest, {1, 49}},
};

bool Has(const Field& field, ApiVersion version) {
  return version >= field.since && version < field.gone;
}

using Path = std::vector<absl::string_view>;

Value Without(Value value, const Path& path, size_t depth) {
  const bool last = depth + 1 == path.size();
  if (value.is_object()) {
    Value::Object kept;
    for (const auto& [key, field] : value.object().fields) {
      const bool named = path[depth] == "*" || path[depth] == key;
      if (named && last) continue;
      kept.fields.emplace_back(key, named ? Without(field, path, depth + 1) : field);
    }
    return Value(std::move(kept));
  }
  if (value.is_list() && path[depth] == "*" && !last) {
    Value::List kept;
    for (const Value& element : value.list()) kept.push_back(Without(element, path, depth + 1));
    return Value(std::move(kept));
  }
  return value;
}

}  // namespace

bool HasField(Document document, ApiVersion version, absl::string_view path) {
  for (const Field& field : kFields) {
    if (field.document == document && path == field.path) return Has(field, version);
  }
  return true;
}

Value ForVersion(Document document, ApiVersion version, Value whole) {
  for (const Field& field : kFields) {
    if (field.document != document || Has(field, version)) continue;
    whole = Without(std::move(whole), absl::StrSplit(field.path, '.'), 0);
  }
  return whole;
}

}  // namespace gantry::api::docker
