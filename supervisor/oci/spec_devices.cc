#include "supervisor/oci/spec_devices.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/oci/checked_text.h"

namespace gantry::oci {

using nlohmann::json;

json DeviceRule(bool allow, absl::string_view type, int64_t major, int64_t minor,
                absl::string_view access) {
  json rule = {{"allow", allow}, {"access", std::string(access)}};
  if (!type.empty()) rule["type"] = std::string(type);
  if (major >= 0) rule["major"] = major;
  if (minor >= 0) rule["minor"] = minor;
  return rule;
}

json DefaultDeviceRules() {
  json rules = json::array();
  rules.push_back(DeviceRule(false, "", -1, -1, "rwm"));
  for (const auto& [major, minor] : {std::pair(1, 5), std::pair(1, 3), std::pair(1, 9),
                                     std::pair(1, 8), std::pair(5, 0), std::pair(5, 1)}) {
    rules.push_back(DeviceRule(true, "c", major, minor, "rwm"));
  }
  rules.push_back(DeviceRule(false, "c", 10, 229, "rwm"));
  return rules;
}

absl::StatusOr<json> ParseDeviceRule(absl::string_view text) {
  const absl::Status bad = absl::InvalidArgumentError(
      absl::StrCat("device rule \"", text.substr(0, 64),
                   "\": expected a type (a, b, c), major:minor and access (rwm)"));
  const std::vector<absl::string_view> words = absl::StrSplit(text, ' ', absl::SkipEmpty());
  if (words.size() != 3 || (words[0] != "a" && words[0] != "b" && words[0] != "c")) return bad;
  const std::vector<absl::string_view> numbers = absl::StrSplit(words[1], ':');
  if (numbers.size() != 2 || words[2].find_first_not_of("rwm") != absl::string_view::npos)
    return bad;
  int64_t parsed[2] = {-1, -1};
  for (int i = 0; i < 2; ++i) {
    if (numbers[i] == "*") continue;
    uint32_t n = 0;
    if (!absl::SimpleAtoi(numbers[i], &n)) return bad;
    parsed[i] = n;
  }
  return DeviceRule(true, words[0], parsed[0], parsed[1], words[2]);
}

namespace {

// One device node of the host as the container will see it; null for what is not a device.
std::optional<json> DeviceNode(const std::string& host_path, const std::string& container_path,
                               json* rule, absl::string_view access) {
  struct stat st {};
  if (stat(host_path.c_str(), &st) != 0 || !(S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
    return std::nullopt;
  const char* type = S_ISCHR(st.st_mode) ? "c" : "b";
  const int64_t major_number = major(st.st_rdev);
  const int64_t minor_number = minor(st.st_rdev);
  if (rule != nullptr) *rule = DeviceRule(true, type, major_number, minor_number, access);
  return json{{"path", container_path},
              {"type", type},
              {"major", major_number},
              {"minor", minor_number},
              {"fileMode", st.st_mode & 07777},
              {"uid", st.st_uid},
              {"gid", st.st_gid}};
}

}  // namespace

void CollectDevices(const std::string& directory, const std::string& shown_as, json& devices,
                    json* rules, absl::string_view access, int depth) {
  static constexpr const char* kSkipped[] = {"pts",  "shm",         "fd",    "mqueue",
                                             ".lxc", ".lxd-mounts", ".udev", "console"};
  std::error_code error;
  std::vector<std::filesystem::path> entries;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  for (const auto& path : entries) {
    const std::string name = path.filename().string();
    if (std::find(std::begin(kSkipped), std::end(kSkipped), name) != std::end(kSkipped)) continue;
    const std::string shown = absl::StrCat(shown_as, "/", name);
    const auto status = std::filesystem::symlink_status(path, error);
    if (std::filesystem::is_directory(status)) {
      if (depth < 8) CollectDevices(path.string(), shown, devices, rules, access, depth + 1);
    } else if (std::filesystem::is_character_file(status) ||
               std::filesystem::is_block_file(status)) {
      json rule;
      if (std::optional<json> node =
              DeviceNode(path.string(), shown, rules == nullptr ? nullptr : &rule, access)) {
        devices.push_back(*std::move(node));
        if (rules != nullptr) rules->push_back(std::move(rule));
      }
    }
  }
}

absl::Status AddDevice(const DeviceConfig& device, json& devices, json& rules) {
  GANTRY_ASSIGN_OR_RETURN(const std::string host_path, CleanPath("device", device.host_path));
  GANTRY_ASSIGN_OR_RETURN(
      const std::string container_path,
      CleanPath("device",
                device.container_path.empty() ? device.host_path : device.container_path));
  if (device.permissions.empty() ||
      device.permissions.find_first_not_of("rwm") != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("device ", device.host_path, ": permissions \"",
                                                   device.permissions,
                                                   "\" are not made of r, w and m"));
  }
  struct stat st {};
  if (stat(host_path.c_str(), &st) != 0)
    return ErrnoToStatus(errno, absl::StrCat("device ", host_path));
  if (S_ISDIR(st.st_mode)) {
    const size_t before = devices.size();
    CollectDevices(host_path, container_path, devices, &rules, device.permissions, 0);
    if (devices.size() > before) return absl::OkStatus();
  }
  json rule;
  std::optional<json> node = DeviceNode(host_path, container_path, &rule, device.permissions);
  if (!node.has_value())
    return absl::InvalidArgumentError(absl::StrCat("device ", host_path, ": not a device node"));
  devices.push_back(*std::move(node));
  rules.push_back(std::move(rule));
  return absl::OkStatus();
}

}  // namespace gantry::oci
