#include "supervisor/oci/cdi/apply_edits.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::oci::cdi {
namespace {

using nlohmann::json;

json& Object(json& parent, const char* key) {
  json& child = parent[key];
  if (!child.is_object()) child = json::object();
  return child;
}

json& List(json& parent, const char* key) {
  json& child = parent[key];
  if (!child.is_array()) child = json::array();
  return child;
}

std::string TextAt(const json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

uint32_t NumberAt(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint32_t>() : 0;
}

// Takes out the entries of a list that have `value` at `key`.
void Remove(json& list, const char* key, const std::string& value) {
  list.erase(std::remove_if(list.begin(), list.end(),
                            [&](const json& one) { return TextAt(one, key) == value; }),
             list.end());
}

std::string TypeOf(mode_t mode) {
  if (S_ISBLK(mode)) return "b";
  if (S_ISCHR(mode)) return "c";
  if (S_ISFIFO(mode)) return "p";
  return "";
}

absl::Status AddDeviceNode(const DeviceNode& node, const json& user, json& linux_part) {
  std::string type = node.type == "u" ? "c" : node.type;
  int64_t device_major = node.major.value_or(0);
  int64_t device_minor = node.minor.value_or(0);
  std::optional<uint32_t> mode = node.file_mode;
  const bool described = type == "p" || (!type.empty() && node.major.has_value());
  if (!described) {
    const std::string& path = node.host_path.empty() ? node.path : node.host_path;
    struct stat info;
    if (stat(path.c_str(), &info) != 0)
      return ErrnoToStatus(errno, absl::StrCat("device node ", path));
    const std::string there = TypeOf(info.st_mode);
    if (there.empty() || (!type.empty() && type != there)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "device node ", path, ": it is ", there.empty() ? "no device" : "of type " + there,
          type.empty() ? "" : absl::StrCat(", and its file says ", type)));
    }
    type = there;
    device_major = major(info.st_rdev);
    device_minor = minor(info.st_rdev);
    if (!mode.has_value()) mode = info.st_mode & 07777;
  }
  json out = {{"path", node.path}, {"type", type}};
  if (type != "p") {
    out["major"] = device_major;
    out["minor"] = device_minor;
  }
  if (mode.has_value()) out["fileMode"] = *mode;
  const uint32_t uid = node.uid.value_or(NumberAt(user, "uid"));
  const uint32_t gid = node.gid.value_or(NumberAt(user, "gid"));
  if (node.uid.has_value() || uid != 0) out["uid"] = uid;
  if (node.gid.has_value() || gid != 0) out["gid"] = gid;
  json& devices = List(linux_part, "devices");
  Remove(devices, "path", node.path);
  devices.push_back(std::move(out));
  if (type != "p") {
    List(Object(linux_part, "resources"), "devices")
        .push_back({{"allow", true},
                    {"type", type},
                    {"major", device_major},
                    {"minor", device_minor},
                    {"access", node.permissions.empty() ? "rwm" : node.permissions}});
  }
  return absl::OkStatus();
}

void AddMount(const Mount& mount, json& mounts) {
  std::vector<std::string> options = mount.options;
  std::string type = mount.type;
  const bool binds = std::any_of(options.begin(), options.end(), [](const std::string& option) {
    return option == "bind" || option == "rbind";
  });
  if (type.empty()) type = "bind";
  // What names a place on the host and no type is meant to be shown from there.
  if (type == "bind" && !binds) options.insert(options.begin(), "rbind");
  Remove(mounts, "destination", mount.container_path);
  mounts.push_back({{"destination", mount.container_path},
                    {"type", type},
                    {"source", mount.host_path},
                    {"options", options}});
}

size_t Depth(const json& mount) {
  const std::string path = TextAt(mount, "destination");
  size_t depth = 0;
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    if (path[i] == '/' && path[i + 1] != '/') ++depth;
  }
  return depth;
}

json RdtDocument(const IntelRdt& rdt) {
  json out = json::object();
  if (!rdt.clos_id.empty()) out["closID"] = rdt.clos_id;
  if (!rdt.l3_cache_schema.empty()) out["l3CacheSchema"] = rdt.l3_cache_schema;
  if (!rdt.memory_bandwidth_schema.empty()) out["memBwSchema"] = rdt.memory_bandwidth_schema;
  if (!rdt.schemata.empty()) out["schemata"] = rdt.schemata;
  if (rdt.enable_cmt) out["enableCMT"] = true;
  if (rdt.enable_mbm) out["enableMBM"] = true;
  if (rdt.enable_monitoring) out["enableMonitoring"] = true;
  return out;
}

}  // namespace

absl::Status ApplyEdits(const ContainerEdits& edits, RuntimeSpec& spec) {
  if (!edits.net_devices.empty()) {
    return absl::UnimplementedError(
        absl::StrCat("network interface ", edits.net_devices.front(),
                     ": the runtimes of this daemon cannot move interfaces of the host"));
  }
  json& document = spec.document();
  for (const std::string& entry : edits.env) {
    const size_t equals = entry.find('=');
    spec.SetEnv(entry.substr(0, equals), entry.substr(equals + 1));
  }
  json& process = Object(document, "process");
  const json user = Object(process, "user");
  for (const DeviceNode& node : edits.device_nodes)
    GANTRY_RETURN_IF_ERROR(AddDeviceNode(node, user, Object(document, "linux")));
  if (!edits.mounts.empty()) {
    json& mounts = List(document, "mounts");
    for (const Mount& mount : edits.mounts) AddMount(mount, mounts);
    std::stable_sort(mounts.begin(), mounts.end(),
                     [](const json& a, const json& b) { return Depth(a) < Depth(b); });
  }
  for (const Hook& hook : edits.hooks) {
    json out = {{"path", hook.path}};
    if (!hook.args.empty()) out["args"] = hook.args;
    if (!hook.env.empty()) out["env"] = hook.env;
    if (hook.timeout_seconds.has_value()) out["timeout"] = *hook.timeout_seconds;
    List(Object(document, "hooks"), hook.name.c_str()).push_back(std::move(out));
  }
  for (const uint32_t gid : edits.additional_gids) {
    json& gids = List(Object(process, "user"), "additionalGids");
    if (gid != 0 && std::find(gids.begin(), gids.end(), json(gid)) == gids.end())
      gids.push_back(gid);
  }
  if (edits.intel_rdt.has_value())
    Object(document, "linux")["intelRdt"] = RdtDocument(*edits.intel_rdt);
  return absl::OkStatus();
}

}  // namespace gantry::oci::cdi
