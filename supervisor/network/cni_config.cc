#include "supervisor/network/cni_config.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"

namespace gantry::network {
namespace {

using nlohmann::json;

constexpr std::array<absl::string_view, 7> kVersions = {"0.1.0", "0.2.0", "0.3.0", "0.3.1",
                                                        "0.4.0", "1.0.0", "1.1.0"};
constexpr size_t kMaxPlugins = 64;
// A file that was changed so shortly before it was read may be changed again within the grain of
// the file system's clock: its version does not say that it is the same.
constexpr absl::Duration kGrain = absl::Seconds(1);

std::array<int, 3> Numbers(absl::string_view version) {
  std::array<int, 3> numbers = {0, version.empty() ? 1 : 0, 0};
  size_t at = 0;
  for (const absl::string_view part : absl::StrSplit(version, '.')) {
    if (at == numbers.size() || !absl::SimpleAtoi(part, &numbers[at])) break;
    ++at;
  }
  return numbers;
}

absl::Status Wrong(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", field, "\" ", why));
}

absl::StatusOr<std::string> StringOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::string();
  if (!found->is_string()) return Wrong(key, "is not a string");
  return found->get<std::string>();
}

// Go's libraries also take "true" as text here.
absl::StatusOr<bool> BoolOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return false;
  if (found->is_boolean()) return found->get<bool>();
  bool value = false;
  if (found->is_string() && absl::SimpleAtob(found->get<std::string>(), &value)) return value;
  return Wrong(key, "is neither true nor false");
}

absl::Status CheckName(absl::string_view name) {
  bool valid = !name.empty() && name.size() <= 200 && absl::ascii_isalnum(name[0]);
  for (const char c : name) valid &= absl::ascii_isalnum(c) || absl::StrContains("_.-", c);
  if (valid) return absl::OkStatus();
  return Wrong("name",
               "must be letters, digits, \"_\", \".\" and \"-\", beginning with a letter or "
               "digit");
}

absl::StatusOr<std::string> VersionOf(const json& list) {
  GANTRY_ASSIGN_OR_RETURN(std::string written, StringOf(list, "cniVersion"));
  if (written.empty()) written = "0.1.0";
  std::vector<std::string> offered = {written};
  if (const auto more = list.find("cniVersions"); more != list.end() && !more->is_null()) {
    if (!more->is_array()) return Wrong("cniVersions", "is not a list");
    for (const json& one : *more) {
      if (!one.is_string()) return Wrong("cniVersions", "is not a list of strings");
      offered.push_back(one.get<std::string>());
    }
  }
  std::optional<std::string> best;
  for (const std::string& one : offered) {
    if (IsCniVersion(one) && (!best.has_value() || CniVersionAtLeast(one, *best))) best = one;
  }
  if (best.has_value()) return *best;
  return Wrong("cniVersion", absl::StrCat("is \"", written,
                                          "\"; 0.1.0 to 1.1.0 are served, add one of them to "
                                          "\"cniVersions\" or lower it"));
}

absl::StatusOr<CniPlugin> PluginOf(const json& object) {
  if (!object.is_object()) return Wrong("plugins", "is not a list of objects");
  CniPlugin plugin;
  GANTRY_ASSIGN_OR_RETURN(plugin.type, StringOf(object, "type"));
  if (plugin.type.empty() || absl::StrContains(plugin.type, '/') || plugin.type == "." ||
      plugin.type == ".." || absl::StrContains(plugin.type, '\0')) {
    return Wrong("type", "must be the name of a plugin's program, without directories");
  }
  if (const auto found = object.find("capabilities"); found != object.end() && !found->is_null()) {
    if (!found->is_object()) return Wrong("capabilities", "is not an object");
    for (const auto& [name, declared] : found->items()) {
      if (declared.is_boolean() && declared.get<bool>()) plugin.capabilities.insert(name);
    }
  }
  plugin.json = oci::PrintJson(object);
  return plugin;
}

// A directory's files that may be networks, sorted.
absl::StatusOr<std::vector<std::string>> Candidates(const std::string& directory) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  std::vector<std::string> files;
  for (const std::string& name : names) {
    if (absl::EndsWith(name, ".conflist") || absl::EndsWith(name, ".conf") ||
        absl::EndsWith(name, ".json")) {
      files.push_back(name);
    }
  }
  return files;
}

// Adds the plugins that lie in files of their own.
absl::Status AddFromDirectory(const std::string& directory, json& list) {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
  if (absl::IsNotFound(names.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(names.status());
  for (const std::string& name : *names) {
    if (!absl::EndsWith(name, ".conf")) continue;
    const std::string path = absl::StrCat(directory, "/", name);
    GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxCniBytes));
    GANTRY_ASSIGN_OR_RETURN(json plugin, oci::ParseJson(text, path));
    list["plugins"].push_back(std::move(plugin));
  }
  return absl::OkStatus();
}

absl::StatusOr<CniNetwork> LoadFile(const std::string& directory, const std::string& name) {
  const std::string path = absl::StrCat(directory, "/", name);
  GANTRY_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxCniBytes));
  if (!absl::EndsWith(name, ".conflist")) return ParseCniNetwork(text);
  GANTRY_ASSIGN_OR_RETURN(json list, oci::ParseJson(text, "the file"));
  if (list.is_object()) {
    GANTRY_ASSIGN_OR_RETURN(const bool inlined_only, BoolOf(list, "loadOnlyInlinedPlugins"));
    GANTRY_ASSIGN_OR_RETURN(const std::string network, StringOf(list, "name"));
    if (!list.contains("plugins") || list["plugins"].is_null()) list["plugins"] = json::array();
    if (!list["plugins"].is_array()) return Wrong("plugins", "is not a list");
    if (!inlined_only && CheckName(network).ok())
      GANTRY_RETURN_IF_ERROR(AddFromDirectory(absl::StrCat(directory, "/", network), list));
  }
  return ParseCniNetwork(oci::PrintJson(list));
}

// The names and versions of a directory's files and of those in its subdirectories, and whether one
// of them was changed too recently to be known by its version.
std::pair<std::string, bool> Fingerprint(const std::string& directory, bool deeper) {
  std::string text;
  bool recent = false;
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
  if (!names.ok()) return {absl::StrCat("!", names.status().ToString()), false};
  for (const std::string& name : *names) {
    const std::string path = absl::StrCat(directory, "/", name);
    struct stat st;
    if (stat(path.c_str(), &st) != 0) {
      absl::StrAppend(&text, name, "\n-", errno, "\n");
      continue;
    }
    absl::StrAppend(&text, name, "\n", st.st_dev, " ", st.st_ino, " ", st.st_size, " ",
                    st.st_ctim.tv_sec, ".", st.st_ctim.tv_nsec, "\n");
    recent |= absl::Now() - absl::TimeFromTimespec(st.st_ctim) < kGrain;
    if (deeper && S_ISDIR(st.st_mode)) {
      const auto [below, below_recent] = Fingerprint(path, false);
      absl::StrAppend(&text, "{", below, "}\n");
      recent |= below_recent;
    }
  }
  return {text.empty() ? "empty" : text, recent};
}

}  // namespace

bool IsCniVersion(absl::string_view version) {
  for (const absl::string_view one : kVersions) {
    if (one == version) return true;
  }
  return false;
}

bool CniVersionAtLeast(absl::string_view version, absl::string_view least) {
  return Numbers(version) >= Numbers(least);
}

absl::StatusOr<CniNetwork> ParseCniNetwork(absl::string_view text) {
  GANTRY_ASSIGN_OR_RETURN(
      json list,
      oci::ParseJson(text, "the file", {.max_bytes = 2 * kMaxCniBytes, .max_depth = kMaxCniDepth}));
  if (!list.is_object()) return absl::InvalidArgumentError("the file is not a JSON object");
  if (!list.contains("plugins")) {
    if (!list.contains("type")) return Wrong("plugins", "is missing");
    json single = std::move(list);
    list = json::object();
    for (const char* key : {"cniVersion", "name"}) {
      if (single.contains(key)) list[key] = single[key];
    }
    list["plugins"] = json::array({std::move(single)});
  }
  CniNetwork network;
  GANTRY_ASSIGN_OR_RETURN(network.name, StringOf(list, "name"));
  GANTRY_RETURN_IF_ERROR(CheckName(network.name));
  GANTRY_ASSIGN_OR_RETURN(network.version, VersionOf(list));
  GANTRY_ASSIGN_OR_RETURN(network.disable_check, BoolOf(list, "disableCheck"));
  GANTRY_ASSIGN_OR_RETURN(network.disable_gc, BoolOf(list, "disableGC"));
  const json& plugins = list["plugins"];
  if (!plugins.is_array() || plugins.empty()) return Wrong("plugins", "lists no plugin");
  if (plugins.size() > kMaxPlugins)
    return Wrong("plugins", absl::StrCat("lists more than ", kMaxPlugins, " plugins"));
  for (const json& one : plugins) {
    GANTRY_ASSIGN_OR_RETURN(CniPlugin plugin, PluginOf(one));
    network.plugins.push_back(std::move(plugin));
  }
  list["cniVersion"] = network.version;
  list.erase("cniVersions");
  network.json = oci::PrintJson(list);
  return network;
}

absl::StatusOr<CniNetwork> LoadCniNetwork(const std::string& directory) {
  const absl::StatusOr<std::vector<std::string>> files = Candidates(directory);
  if (!files.ok() && !absl::IsNotFound(files.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("CNI configuration: ", std::string(files.status().message())));
  }
  if (!files.ok() || files->empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("no network is configured for pods: ", directory,
                     " has no *.conflist, *.conf or *.json; install a network add-on"));
  }
  absl::StatusOr<CniNetwork> network = LoadFile(directory, files->front());
  if (network.ok()) return network;
  return absl::FailedPreconditionError(absl::StrCat("CNI configuration ", directory, "/",
                                                    files->front(), ": ",
                                                    std::string(network.status().message())));
}

absl::StatusOr<std::shared_ptr<const CniNetwork>> CniConfigDirectory::Get() {
  const auto [version, recent] = Fingerprint(path_, true);
  {
    absl::MutexLock lock(&mu_);
    if (!seen_.empty() && seen_ == version) return read_;
  }
  using Shared = absl::StatusOr<std::shared_ptr<const CniNetwork>>;
  absl::StatusOr<CniNetwork> loaded = LoadCniNetwork(path_);
  Shared read = loaded.ok() ? Shared(std::make_shared<const CniNetwork>(*std::move(loaded)))
                            : Shared(loaded.status());
  absl::MutexLock lock(&mu_);
  seen_ = recent ? "" : version;
  read_ = read;
  return read;
}

std::string PrintCniInput(const CniNetwork& network, const CniPlugin& plugin,
                          const CniInput& input) {
  // Printed by this process from a document that was parsed.
  json document = json::parse(plugin.json, nullptr, /*allow_exceptions=*/false);
  document.erase("capabilities");
  document["cniVersion"] = network.version;
  document["name"] = network.name;
  json arguments = json::object();
  for (const std::string& capability : plugin.capabilities) {
    const auto found = input.capability_args.find(capability);
    if (found == input.capability_args.end()) continue;
    arguments[capability] = json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  }
  if (!arguments.empty()) document["runtimeConfig"] = std::move(arguments);
  if (!input.previous_result.empty()) {
    document["prevResult"] =
        json::parse(input.previous_result, nullptr, /*allow_exceptions=*/false);
  }
  if (input.valid_attachments != nullptr) {
    json valid = json::array();
    for (const auto& [container_id, interface] : *input.valid_attachments)
      valid.push_back({{"containerID", container_id}, {"ifname", interface}});
    document["cni.dev/valid-attachments"] = std::move(valid);
  }
  return oci::PrintJson(document);
}

}  // namespace gantry::network
