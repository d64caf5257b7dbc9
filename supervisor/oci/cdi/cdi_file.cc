#include "supervisor/oci/cdi/cdi_file.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

#include "base/status_macros.h"
#include "supervisor/oci/json_fields.h"

namespace gantry::oci::cdi {
namespace {

using nlohmann::json;
using Version = std::array<int, 3>;

constexpr Version kOldest = {0, 3, 0};
constexpr Version kNewest = {1, 1, 0};
constexpr size_t kMaxEntries = 4096;  // of one list

absl::Status Bad(absl::string_view what, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", why));
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(text.substr(0, 128)), "\"");
}

std::string Print(const Version& version) {
  return absl::StrCat(version[0], ".", version[1], ".", version[2]);
}

absl::StatusOr<Version> ParseVersion(const std::string& text, absl::string_view what) {
  absl::string_view bare = text;
  if (absl::StartsWith(bare, "v")) bare.remove_prefix(1);
  const std::vector<absl::string_view> parts = absl::StrSplit(bare, '.');
  Version version = {};
  bool good = parts.size() == 3;
  for (size_t i = 0; good && i < 3; ++i) {
    good = !parts[i].empty() && absl::ascii_isdigit(static_cast<unsigned char>(parts[i][0])) &&
           absl::SimpleAtoi(parts[i], &version[i]);
  }
  if (!good) return Bad(what, absl::StrCat("cdiVersion ", Quoted(text), " is not a version"));
  if (version < kOldest || version > kNewest) {
    return Bad(what, absl::StrCat("cdiVersion ", Quoted(text), " is unknown; from ", Print(kOldest),
                                  " to ", Print(kNewest), " are read"));
  }
  return version;
}

// A name of the given characters beside letters and digits, which begin and end it.
bool IsWord(absl::string_view text, absl::string_view inside, bool digit_first) {
  if (text.empty() || text.size() > 253) return false;
  const auto alnum = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); };
  const char first = text.front();
  if (digit_first ? !alnum(first) : !absl::ascii_isalpha(static_cast<unsigned char>(first)))
    return false;
  return alnum(text.back()) && std::all_of(text.begin(), text.end(), [&](char c) {
           return alnum(c) || inside.find(c) != absl::string_view::npos;
         });
}

bool IsKind(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  return parts.size() == 2 && IsWord(parts[0], "_-.", false) && IsWord(parts[1], "_-.", false);
}

bool IsPath(absl::string_view text) {
  return !text.empty() && text.front() == '/' && text.find('\0') == absl::string_view::npos;
}

// Members that nobody reads would be without effect, and silently so.
absl::Status OnlyKnown(const json& object, std::initializer_list<absl::string_view> known,
                       absl::string_view what) {
  if (!object.is_object()) return Bad(what, "is not an object");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      return Bad(what, absl::StrCat("member ", Quoted(key), " is unknown"));
  }
  return absl::OkStatus();
}

// Calls `read` for each element of a list.
template <typename Read>
absl::Status EachOf(const json* list, absl::string_view what, const Read& read) {
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return Bad(what, "is not a list");
  if (list->size() > kMaxEntries)
    return Bad(what, absl::StrCat("has more than ", kMaxEntries, " entries"));
  size_t i = 0;
  for (const json& item : *list)
    GANTRY_RETURN_IF_ERROR(read(item, absl::StrCat(what, "[", i++, "]")));
  return absl::OkStatus();
}

absl::Status ReadDeviceNode(const json& in, const std::string& what, ContainerEdits& out) {
  GANTRY_RETURN_IF_ERROR(OnlyKnown(
      in, {"path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"},
      what));
  DeviceNode node;
  JsonFields fields(in, what);
  fields.Get("path", node.path);
  fields.Get("hostPath", node.host_path);
  fields.Get("type", node.type);
  fields.Get("major", node.major);
  fields.Get("minor", node.minor);
  fields.Get("fileMode", node.file_mode);
  fields.Get("permissions", node.permissions);
  fields.Get("uid", node.uid);
  fields.Get("gid", node.gid);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (!IsPath(node.path)) return Bad(what, "path is not absolute");
  if (!node.host_path.empty() && !IsPath(node.host_path))
    return Bad(what, "hostPath is not absolute");
  if (!node.type.empty() && node.type != "b" && node.type != "c" && node.type != "u" &&
      node.type != "p")
    return Bad(what, absl::StrCat("type ", Quoted(node.type), " is not b, c, u or p"));
  if (node.permissions.find_first_not_of("rwm") != std::string::npos)
    return Bad(what, absl::StrCat("permissions ", Quoted(node.permissions), " are not of \"rwm\""));
  if (node.file_mode.value_or(0) > 07777) return Bad(what, "fileMode has more than twelve bits");
  out.device_nodes.push_back(std::move(node));
  return absl::OkStatus();
}

absl::Status ReadMount(const json& in, const std::string& what, ContainerEdits& out) {
  GANTRY_RETURN_IF_ERROR(OnlyKnown(in, {"hostPath", "containerPath", "type", "options"}, what));
  Mount mount;
  JsonFields fields(in, what);
  fields.Get("hostPath", mount.host_path);
  fields.Get("containerPath", mount.container_path);
  fields.Get("type", mount.type);
  fields.Get("options", mount.options);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (mount.host_path.empty()) return Bad(what, "hostPath is missing");
  if (!IsPath(mount.container_path)) return Bad(what, "containerPath is not absolute");
  out.mounts.push_back(std::move(mount));
  return absl::OkStatus();
}

absl::Status ReadHook(const json& in, const std::string& what, ContainerEdits& out) {
  GANTRY_RETURN_IF_ERROR(OnlyKnown(in, {"hookName", "path", "args", "env", "timeout"}, what));
  Hook hook;
  JsonFields fields(in, what);
  fields.Get("hookName", hook.name);
  fields.Get("path", hook.path);
  fields.Get("args", hook.args);
  fields.Get("env", hook.env);
  fields.Get("timeout", hook.timeout_seconds);
  GANTRY_RETURN_IF_ERROR(fields.status());
  static const std::set<std::string>* const names = new std::set<std::string>{
      "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};
  if (!names->contains(hook.name))
    return Bad(what, absl::StrCat("hookName ", Quoted(hook.name), " is unknown"));
  if (!IsPath(hook.path)) return Bad(what, "path is not absolute");
  if (hook.timeout_seconds.value_or(1) <= 0) return Bad(what, "timeout is not above 0");
  out.hooks.push_back(std::move(hook));
  return absl::OkStatus();
}

absl::StatusOr<IntelRdt> ReadIntelRdt(const json& in, const std::string& what) {
  GANTRY_RETURN_IF_ERROR(OnlyKnown(in,
                                   {"closID", "l3CacheSchema", "memBwSchema", "schemata",
                                    "enableCMT", "enableMBM", "enableMonitoring"},
                                   what));
  IntelRdt rdt;
  JsonFields fields(in, what);
  fields.Get("closID", rdt.clos_id);
  fields.Get("l3CacheSchema", rdt.l3_cache_schema);
  fields.Get("memBwSchema", rdt.memory_bandwidth_schema);
  fields.Get("schemata", rdt.schemata);
  fields.Get("enableCMT", rdt.enable_cmt);
  fields.Get("enableMBM", rdt.enable_mbm);
  fields.Get("enableMonitoring", rdt.enable_monitoring);
  GANTRY_RETURN_IF_ERROR(fields.status());
  // It becomes the name of a directory.
  if (rdt.clos_id == "." || rdt.clos_id == ".." || rdt.clos_id.size() >= 4096 ||
      rdt.clos_id.find_first_of("/\n") != std::string::npos)
    return Bad(what,
               absl::StrCat("closID ", Quoted(rdt.clos_id), " is not a name for a directory"));
  return rdt;
}

absl::StatusOr<ContainerEdits> ReadEdits(const json& in, const std::string& what) {
  GANTRY_RETURN_IF_ERROR(OnlyKnown(
      in, {"env", "deviceNodes", "mounts", "hooks", "additionalGids", "intelRdt", "netDevices"},
      what));
  ContainerEdits out;
  JsonFields fields(in, what);
  fields.Get("env", out.env);
  fields.Get("additionalGids", out.additional_gids);
  GANTRY_RETURN_IF_ERROR(fields.status());
  for (const std::string& entry : out.env) {
    const size_t equals = entry.find('=');
    if (equals == 0 || equals == std::string::npos || entry.find('\0') != std::string::npos)
      return Bad(what, absl::StrCat("env: ", Quoted(entry), " is not NAME=value"));
  }
  const auto each = [&](const char* key, auto read) {
    return EachOf(fields.Find(key), absl::StrCat(what, ".", key),
                  [&](const json& item, const std::string& name) { return read(item, name, out); });
  };
  GANTRY_RETURN_IF_ERROR(each("deviceNodes", ReadDeviceNode));
  GANTRY_RETURN_IF_ERROR(each("mounts", ReadMount));
  GANTRY_RETURN_IF_ERROR(each("hooks", ReadHook));
  if (const json* rdt = fields.Find("intelRdt")) {
    GANTRY_ASSIGN_OR_RETURN(out.intel_rdt, ReadIntelRdt(*rdt, absl::StrCat(what, ".intelRdt")));
  }
  GANTRY_RETURN_IF_ERROR(
      each("netDevices",
           [](const json& item, const std::string& name, ContainerEdits& edits) -> absl::Status {
             GANTRY_RETURN_IF_ERROR(OnlyKnown(item, {"hostInterfaceName", "name"}, name));
             std::string interface;
             JsonFields device(item, name);
             device.Get("hostInterfaceName", interface);
             GANTRY_RETURN_IF_ERROR(device.status());
             if (interface.empty()) return Bad(name, "hostInterfaceName is missing");
             edits.net_devices.push_back(std::move(interface));
             return absl::OkStatus();
           }));
  return out;
}

// The oldest version that has all that the edits use.
Version NeededBy(const ContainerEdits& edits) {
  Version needed = kOldest;
  const auto at_least = [&needed](Version version) { needed = std::max(needed, version); };
  for (const Mount& mount : edits.mounts) {
    if (!mount.type.empty()) at_least({0, 4, 0});
  }
  for (const DeviceNode& node : edits.device_nodes) {
    if (!node.host_path.empty()) at_least({0, 5, 0});
  }
  if (!edits.additional_gids.empty() || edits.intel_rdt.has_value()) at_least({0, 7, 0});
  if (!edits.net_devices.empty()) at_least({1, 1, 0});
  if (edits.intel_rdt.has_value() &&
      (!edits.intel_rdt->schemata.empty() || edits.intel_rdt->enable_monitoring))
    at_least({1, 1, 0});
  return needed;
}

Version NeededBy(const CdiFile& file) {
  Version needed = NeededBy(file.edits);
  const auto at_least = [&needed](Version version) { needed = std::max(needed, version); };
  if (!file.annotations.empty()) at_least({0, 6, 0});
  if (absl::StrContains(absl::string_view(file.kind).substr(file.kind.find('/')), "."))
    at_least({0, 6, 0});
  for (const Device& device : file.devices) {
    at_least(NeededBy(device.edits));
    if (!device.annotations.empty()) at_least({0, 6, 0});
    if (!absl::ascii_isalpha(static_cast<unsigned char>(device.name.front()))) at_least({0, 5, 0});
  }
  return needed;
}

}  // namespace

void ContainerEdits::Append(const ContainerEdits& other) {
  const auto append = [](auto& into, const auto& from) {
    into.insert(into.end(), from.begin(), from.end());
  };
  append(env, other.env);
  append(device_nodes, other.device_nodes);
  append(mounts, other.mounts);
  append(hooks, other.hooks);
  append(additional_gids, other.additional_gids);
  append(net_devices, other.net_devices);
  if (other.intel_rdt.has_value()) intel_rdt = other.intel_rdt;
}

bool ContainerEdits::empty() const {
  return env.empty() && device_nodes.empty() && mounts.empty() && hooks.empty() &&
         additional_gids.empty() && !intel_rdt.has_value() && net_devices.empty();
}

absl::StatusOr<CdiFile> ParseCdiFile(const json& document, absl::string_view what) {
  GANTRY_RETURN_IF_ERROR(OnlyKnown(
      document, {"cdiVersion", "kind", "annotations", "devices", "containerEdits"}, what));
  CdiFile file;
  JsonFields fields(document, what);
  fields.Get("cdiVersion", file.version);
  fields.Get("kind", file.kind);
  fields.Get("annotations", file.annotations);
  GANTRY_RETURN_IF_ERROR(fields.status());
  GANTRY_ASSIGN_OR_RETURN(const Version version, ParseVersion(file.version, what));
  if (!IsKind(file.kind))
    return Bad(what, absl::StrCat("kind ", Quoted(file.kind), " is not VENDOR/CLASS"));
  if (const json* edits = fields.Find("containerEdits")) {
    GANTRY_ASSIGN_OR_RETURN(file.edits, ReadEdits(*edits, absl::StrCat(what, ": containerEdits")));
  }
  std::set<std::string> names;
  GANTRY_RETURN_IF_ERROR(EachOf(
      fields.Find("devices"), absl::StrCat(what, ": devices"),
      [&](const json& item, const std::string& where) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(OnlyKnown(item, {"name", "annotations", "containerEdits"}, where));
        Device device;
        JsonFields own(item, where);
        own.Get("name", device.name);
        own.Get("annotations", device.annotations);
        GANTRY_RETURN_IF_ERROR(own.status());
        if (!IsWord(device.name, "_-.:", true))
          return Bad(where, absl::StrCat("name ", Quoted(device.name), " is not a name"));
        if (!names.insert(device.name).second)
          return Bad(where, absl::StrCat("the name ", Quoted(device.name), " twice"));
        if (const json* edits = own.Find("containerEdits")) {
          GANTRY_ASSIGN_OR_RETURN(device.edits, ReadEdits(*edits, where + ".containerEdits"));
        }
        if (device.edits.empty()) return Bad(where, "containerEdits change nothing");
        file.devices.push_back(std::move(device));
        return absl::OkStatus();
      }));
  if (file.devices.empty()) return Bad(what, "no devices");
  if (const Version needed = NeededBy(file); version < needed) {
    return Bad(what, absl::StrCat("cdiVersion ", Print(version), ", but what it uses came with ",
                                  Print(needed)));
  }
  return file;
}

bool IsDeviceName(absl::string_view text) {
  const size_t equals = text.find('=');
  return equals != absl::string_view::npos && IsKind(text.substr(0, equals)) &&
         IsWord(text.substr(equals + 1), "_-.:", true);
}

}  // namespace gantry::oci::cdi
