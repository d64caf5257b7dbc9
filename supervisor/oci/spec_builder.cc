#include "supervisor/oci/spec_builder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/system_paths.h"
#include "supervisor/oci/default_profile.h"
#include "supervisor/oci/json_document.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

constexpr char kDefaultPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
// In the container's own /dev, so that nothing is written into its root file system.
constexpr char kInitInContainer[] = "/dev/gantry-init";

bool HasControl(absl::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
}

// Absolute, without "." and "..", without doubled or trailing slashes. A destination that climbs
// above the root is refused rather than clamped, because the user meant something else.
absl::StatusOr<std::string> CleanPath(absl::string_view what, absl::string_view path) {
  if (!absl::StartsWith(path, "/") || path.size() > 4096 ||
      absl::StrContains(path, absl::string_view("\0", 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " \"", path.substr(0, 256), "\": not an absolute path"));
  }
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == ".") continue;
    if (part == "..") {
      if (parts.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat(what, " \"", path, "\": leads out of the root"));
      }
      parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  return absl::StrCat("/", absl::StrJoin(parts, "/"));
}

bool IsBelow(absl::string_view path, absl::string_view directory) {
  return absl::ConsumePrefix(&path, directory) && absl::StartsWith(path, "/");
}

// Merges "NAME=value" lists: later ones replace in place, a bare NAME removes.
class Environment {
 public:
  void Add(const std::string& entry) {
    const std::string name = entry.substr(0, entry.find('='));
    const bool takes_away = name.size() == entry.size();
    const auto [place, fresh] = places_.try_emplace(name, entries_.size());
    if (takes_away) {
      if (!fresh) entries_[place->second].reset();
      places_.erase(place);
    } else if (fresh) {
      entries_.push_back(entry);
    } else {
      entries_[place->second] = entry;
    }
  }
  std::vector<std::string> Take() {
    std::vector<std::string> out;
    out.reserve(places_.size());
    for (std::optional<std::string>& entry : entries_) {
      if (entry.has_value()) out.push_back(*std::move(entry));
    }
    return out;
  }

 private:
  std::vector<std::optional<std::string>> entries_;  // none: taken away again
  absl::flat_hash_map<std::string, size_t> places_;  // by name, of those that are there
};

absl::Status CheckEnvironment(const std::vector<std::string>& env) {
  for (const std::string& entry : env) {
    if (entry.empty() || entry[0] == '=' || absl::StrContains(entry, absl::string_view("\0", 1))) {
      return absl::InvalidArgumentError(
          absl::StrCat("environment \"", entry.substr(0, 64), "\": expected NAME=value"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> WorkingDirectory(const std::string& asked) {
  if (asked.empty()) return std::string("/");
  GANTRY_ASSIGN_OR_RETURN(std::string cwd, CleanPath("working directory", asked));
  // A file descriptor of the runtime that is open just then may lead to the host's tree.
  const std::vector<absl::string_view> parts = absl::StrSplit(cwd, '/', absl::SkipEmpty());
  if (parts.size() >= 3 && parts[0] == "proc" &&
      std::any_of(parts.begin() + 2, parts.end(),
                  [](absl::string_view p) { return p == "fd" || p == "cwd" || p == "root"; })) {
    return absl::InvalidArgumentError(
        absl::StrCat("working directory \"", asked,
                     "\": a handle of a process, not a directory of the container"));
  }
  return cwd;
}

absl::Status CheckHostname(absl::string_view kind, absl::string_view name) {
  const bool bad = std::any_of(name.begin(), name.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return !(absl::ascii_isalnum(u) || c == '-' || c == '.' || c == '_');
  });
  if (bad || name.size() > 64 || absl::StartsWith(name, "-")) {
    return absl::InvalidArgumentError(
        absl::StrCat(kind, " \"", name.substr(0, 80),
                     "\": expected at most 64 letters, digits, '-', '_' and '.'"));
  }
  return absl::OkStatus();
}

json MountToJson(absl::string_view destination, absl::string_view type, absl::string_view source,
                 std::vector<std::string> options) {
  return {{"destination", std::string(destination)},
          {"type", std::string(type)},
          {"source", std::string(source)},
          {"options", std::move(options)}};
}

json RangesToJson(const std::vector<IdRange>& ranges) {
  json out = json::array();
  for (const IdRange& range : ranges) {
    out.push_back(
        {{"containerID", range.container_id}, {"hostID", range.host_id}, {"size", range.length}});
  }
  return out;
}

std::vector<json> DefaultMounts(const ContainerConfig& config) {
  std::vector<std::string> sys = {"nosuid", "noexec", "nodev"};
  std::vector<std::string> cgroup = {"nosuid", "noexec", "nodev"};
  if (!config.privileged) {
    sys.push_back("ro");
    if (!config.writable_cgroups) cgroup.insert(cgroup.begin(), "ro");
  }
  std::vector<json> out;
  out.push_back(MountToJson("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  out.push_back(
      MountToJson("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  std::vector<std::string> terminals = {"nosuid", "noexec", "newinstance", "ptmxmode=0666",
                                        "mode=0620"};
  // The kernel refuses a group that the user namespace does not have.
  if (config.gids.empty() || HostIdOf(config.gids, 5).has_value()) terminals.push_back("gid=5");
  out.push_back(MountToJson("/dev/pts", "devpts", "devpts", std::move(terminals)));
  if (!config.uids.empty() && config.network.kind == NamespaceMode::Kind::kHost) {
    // Only who owns a network namespace may mount what shows its devices.
    out.push_back(MountToJson("/sys", "bind", "/sys",
                              {"rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"}));
  } else {
    out.push_back(MountToJson("/sys", "sysfs", "sysfs", std::move(sys)));
  }
  out.push_back(MountToJson("/sys/fs/cgroup", "cgroup", "cgroup", std::move(cgroup)));
  // Shows the queues of the namespace the container is in, the host's too: no need for the host to
  // have it mounted.
  if (config.uids.empty() || config.ipc.kind != NamespaceMode::Kind::kHost)
    out.push_back(MountToJson("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  if (!config.shm_path.empty()) {
    out.push_back(MountToJson("/dev/shm", "bind", config.shm_path,
                              {"rbind", "rprivate", "nosuid", "noexec", "nodev"}));
  } else if (config.ipc.kind == NamespaceMode::Kind::kHost) {
    out.push_back(MountToJson("/dev/shm", "bind", "/dev/shm", {"rbind", "rprivate"}));
  } else if (config.shm_size_bytes > 0) {
    out.push_back(MountToJson(
        "/dev/shm", "tmpfs", "shm",
        {"nosuid", "noexec", "nodev", "mode=1777", absl::StrCat("size=", config.shm_size_bytes)}));
  }
  return out;
}

// The mount option that `option` takes back; "" if there is none.
absl::string_view OppositeOf(absl::string_view option) {
  static constexpr std::pair<absl::string_view, absl::string_view> kPairs[] = {
      {"exec", "noexec"}, {"suid", "nosuid"},   {"dev", "nodev"},          {"rw", "ro"},
      {"sync", "async"},  {"atime", "noatime"}, {"diratime", "nodiratime"}};
  for (const auto& [on, off] : kPairs) {
    if (option == on) return off;
    if (option == off) return on;
  }
  return "";
}

absl::StatusOr<json> UserMount(const MountConfig& mount, const std::string& destination) {
  static constexpr const char* kPropagation[] = {
      "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"};
  for (const std::string& option : mount.options) {
    if (option.empty() || HasControl(option)) {
      return absl::InvalidArgumentError(absl::StrCat("mount ", destination, ": malformed option"));
    }
  }
  if (mount.type == MountConfig::Type::kTmpfs) {
    std::vector<std::string> options = {"noexec", "nosuid", "nodev", "rprivate"};
    if (mount.read_only) options.push_back("ro");
    // Runtimes differ in what wins, "noexec" or "exec" after it: only the last of two opposites is
    // kept.
    for (const std::string& option : mount.options) {
      const absl::string_view opposite = OppositeOf(option);
      options.erase(
          std::remove_if(options.begin(), options.end(),
                         [&](const std::string& o) { return o == opposite || o == option; }),
          options.end());
      options.push_back(option);
    }
    return MountToJson(destination, "tmpfs", "tmpfs", std::move(options));
  }
  if (mount.type == MountConfig::Type::kOverlay) {
    std::vector<std::string> options = {
        "ro", absl::StrCat("lowerdir=", absl::StrJoin(mount.layers, ":"))};
    options.insert(options.end(), mount.options.begin(), mount.options.end());
    return MountToJson(destination, "overlay", "overlay", std::move(options));
  }
  GANTRY_ASSIGN_OR_RETURN(std::string source, CleanPath("mount source", mount.source));
  std::vector<std::string> options = {mount.non_recursive ? "bind" : "rbind"};
  std::string propagation = mount.propagation.empty() ? "rprivate" : mount.propagation;
  if (std::find(std::begin(kPropagation), std::end(kPropagation), propagation) ==
      std::end(kPropagation)) {
    return absl::InvalidArgumentError(
        absl::StrCat("mount ", destination, ": unknown propagation ", propagation));
  }
  options.push_back(std::move(propagation));
  if (mount.read_only) options.push_back(mount.recursive_read_only ? "rro" : "ro");
  options.insert(options.end(), mount.options.begin(), mount.options.end());
  json out = MountToJson(destination, "bind", source, std::move(options));
  if (!mount.uids.empty()) {
    out["uidMappings"] = RangesToJson(mount.uids);
    out["gidMappings"] = RangesToJson(mount.gids);
  }
  return out;
}

absl::StatusOr<json> BuildMounts(const ContainerConfig& config, bool& needs_shared_root,
                                 bool& needs_slave_root) {
  struct User {
    std::string destination;
    size_t depth = 0;
    json mount;
  };
  std::vector<User> users;
  std::set<std::string> destinations;
  for (const MountConfig& mount : config.mounts) {
    GANTRY_ASSIGN_OR_RETURN(std::string destination,
                            CleanPath("mount destination", mount.destination));
    if (destination == "/") {
      return absl::InvalidArgumentError(
          "mount destination \"/\": the root file system itself cannot be replaced");
    }
    if (!destinations.insert(destination).second) {
      return absl::InvalidArgumentError(absl::StrCat("duplicate mount point: ", destination));
    }
    GANTRY_ASSIGN_OR_RETURN(json built, UserMount(mount, destination));
    needs_shared_root |= mount.propagation == "shared" || mount.propagation == "rshared";
    needs_slave_root |= mount.propagation == "slave" || mount.propagation == "rslave";
    const auto depth = static_cast<size_t>(std::count(destination.begin(), destination.end(), '/'));
    users.push_back({std::move(destination), depth, std::move(built)});
  }
  // Outer directories first, whatever the order they were asked for.
  std::stable_sort(users.begin(), users.end(),
                   [](const User& a, const User& b) { return a.depth < b.depth; });

  json out = json::array();
  for (json& mount : DefaultMounts(config)) {
    const std::string& destination = mount["destination"].get_ref<const std::string&>();
    const bool replaced = std::any_of(users.begin(), users.end(), [&](const User& user) {
      return user.destination == destination ||
             (user.destination == "/dev" && IsBelow(destination, "/dev"));
    });
    if (!replaced) out.push_back(std::move(mount));
  }
  if (!config.init_path.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const std::string source, CleanPath("init", config.init_path));
    out.push_back(MountToJson(kInitInContainer, "bind", source, {"bind", "ro", "rprivate"}));
  }
  for (User& user : users) out.push_back(std::move(user.mount));
  return out;
}

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

// "c 10:200 rwm", "b *:* r", "a *:* rwm".
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

// All device nodes below `directory`. What belongs to the container's own /dev is left out.
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

// Which kernel namespace a sysctl belongs to; null when it is the host's.
const NamespaceMode* SysctlOwner(const std::string& key, const ContainerConfig& config) {
  static constexpr const char* kIpc[] = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                         "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                         "kernel.shmmni", "kernel.shm_rmid_forced"};
  if (absl::StartsWith(key, "net.")) return &config.network;
  if (absl::StartsWith(key, "fs.mqueue.") ||
      std::find(std::begin(kIpc), std::end(kIpc), key) != std::end(kIpc)) {
    return &config.ipc;
  }
  if (key == "kernel.domainname" || key == "kernel.hostname") return &config.uts;
  return nullptr;
}

absl::StatusOr<std::map<std::string, std::string>> BuildSysctls(const ContainerConfig& config) {
  std::map<std::string, std::string> out;
  if (config.network.kind == NamespaceMode::Kind::kPrivate) {
    out["net.ipv4.ip_unprivileged_port_start"] = "0";
    // Groups that the container's user namespace does not have cannot be named.
    out["net.ipv4.ping_group_range"] =
        absl::StrCat("0 ", config.gids.empty()
                               ? INT32_MAX
                               : config.gids.back().container_id + (config.gids.back().length - 1));
  }
  // Runtimes older than version 1.1 of the specification know no other way. A user namespace of the
  // container's own does not have the file, but its runtimes are newer.
  if (!config.domainname.empty() && config.uids.empty() &&
      config.uts.kind == NamespaceMode::Kind::kPrivate)
    out["kernel.domainname"] = config.domainname;
  for (const auto& [name, value] : config.sysctls) {
    const bool bad_character = std::any_of(name.begin(), name.end(), [](char c) {
      return !(absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
               c == '-' || c == '/');
    });
    // "net/ipv4/..." is the other way to write it; dots then belong to an interface's name.
    std::string key = name;
    if (absl::StartsWith(key, "net/") || absl::StartsWith(key, "kernel/") ||
        absl::StartsWith(key, "fs/")) {
      for (char& c : key) c = c == '/' ? '.' : c == '.' ? '/' : c;
    }
    const std::vector<absl::string_view> parts = absl::StrSplit(key, absl::ByAnyChar("./"));
    const bool empty_part =
        std::any_of(parts.begin(), parts.end(), [](absl::string_view p) { return p.empty(); });
    if (bad_character || empty_part || HasControl(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("sysctl \"", name.substr(0, 128), "\": malformed name or value"));
    }
    const NamespaceMode* owner = SysctlOwner(key, config);
    if (owner == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "sysctl \"", key, "\": not separate for containers, it would change the host"));
    }
    if (owner->kind == NamespaceMode::Kind::kHost) {
      return absl::InvalidArgumentError(
          absl::StrCat("sysctl \"", key,
                       "\": the container uses the host's namespace, so it would change the host"));
    }
    out[key] = value;
  }
  return out;
}

json BuildNamespaces(const ContainerConfig& config, const HostFacts& host) {
  json out = json::array();
  out.push_back({{"type", "mount"}});
  const auto add = [&](const char* type, const NamespaceMode& mode) {
    if (mode.kind == NamespaceMode::Kind::kHost) return;
    json entry = {{"type", type}};
    if (mode.kind == NamespaceMode::Kind::kPath) entry["path"] = mode.path;
    out.push_back(std::move(entry));
  };
  add("network", config.network);
  add("uts", config.uts);
  add("pid", config.pid);
  add("ipc", config.ipc);
  if (host.cgroup_v2 || config.cgroup.kind == NamespaceMode::Kind::kPath)
    add("cgroup", config.cgroup);
  if (!config.uids.empty()) {
    add("user", config.user_namespace.empty() ? NamespaceMode::Private()
                                              : NamespaceMode::Path(config.user_namespace));
  }
  return out;
}

absl::StatusOr<ProcessSpec> BuildProcess(const ContainerConfig& config, const User& user,
                                         const std::string& hostname,
                                         const std::vector<std::string>& capabilities,
                                         const HostFacts& host) {
  ProcessSpec process;
  if (config.args.empty() || config.args[0].empty()) {
    return absl::InvalidArgumentError(
        "no command: neither the image nor the request says what to run");
  }
  for (const std::string& arg : config.args) {
    if (absl::StrContains(arg, absl::string_view("\0", 1))) {
      return absl::InvalidArgumentError("command: an argument with a NUL byte");
    }
  }
  if (!config.init_path.empty()) {
    process.args.push_back(kInitInContainer);
    process.args.insert(process.args.end(), config.init_args.begin(), config.init_args.end());
  }
  process.args.insert(process.args.end(), config.args.begin(), config.args.end());
  process.terminal = config.terminal;
  process.console_width = config.console_width;
  process.console_height = config.console_height;
  process.uid = user.uid;
  process.gid = user.gid;
  process.additional_gids = user.additional_gids;
  GANTRY_ASSIGN_OR_RETURN(process.cwd, WorkingDirectory(config.working_dir));

  GANTRY_RETURN_IF_ERROR(CheckEnvironment(config.env));
  Environment env;
  env.Add(kDefaultPath);
  if (!hostname.empty()) env.Add(absl::StrCat("HOSTNAME=", hostname));
  if (config.terminal) env.Add("TERM=xterm");
  // Else the runtime would look for it in the image's passwd file, which may be a FIFO that never
  // ends.
  env.Add(absl::StrCat("HOME=", user.home));
  for (const std::string& entry : config.env) env.Add(entry);
  process.env = env.Take();

  process.bounding = capabilities;
  if (user.uid == 0) {
    process.effective = capabilities;
    process.permitted = capabilities;
  }
  if (!config.ambient_capabilities.empty()) {
    // What is ambient has to be inheritable and permitted; it is what a process of another user
    // than root keeps over execve().
    process.ambient = config.ambient_capabilities;
    process.inheritable = config.ambient_capabilities;
    if (user.uid != 0) {
      process.permitted = config.ambient_capabilities;
      process.effective = config.ambient_capabilities;
    }
  }
  std::set<std::string> limited;
  for (const Rlimit& limit : config.rlimits) {
    if (!limited.insert(limit.type).second) {
      return absl::InvalidArgumentError(absl::StrCat("ulimit ", limit.type, ": given twice"));
    }
    if (limit.soft > limit.hard) {
      return absl::InvalidArgumentError(absl::StrCat("ulimit ", limit.type, ": soft limit ",
                                                     limit.soft, " is above the hard limit ",
                                                     limit.hard));
    }
    process.rlimits.push_back(limit);
  }
  process.no_new_privileges = config.no_new_privileges;
  if (config.apparmor_profile.empty()) {
    if (host.apparmor && !config.privileged) process.apparmor_profile = "docker-default";
  } else if (config.apparmor_profile != "unconfined" && !host.no_apparmor) {
    process.apparmor_profile = config.apparmor_profile;
  }
  if (host.selinux) process.selinux_label = config.selinux_label;
  if (config.oom_score_adj.has_value() &&
      (*config.oom_score_adj < -1000 || *config.oom_score_adj > 1000)) {
    return absl::InvalidArgumentError(
        absl::StrCat("oom-score-adj ", *config.oom_score_adj, ": expected -1000 to 1000"));
  }
  process.oom_score_adj = config.oom_score_adj.value_or(0);
  return process;
}

// The numbers of a list such as "0-3,7"; malformed parts are refused elsewhere.
std::set<int> Numbers(absl::string_view list) {
  std::set<int> out;
  for (absl::string_view part : absl::StrSplit(list, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) continue;
    if (!absl::SimpleAtoi(ends.second, &last)) last = first;
    for (int n = first; n <= last && n < (1 << 14); ++n) out.insert(n);
  }
  return out;
}

absl::Status CheckOnline(absl::string_view option, const std::string& asked, absl::string_view kind,
                         const std::string& online) {
  if (asked.empty() || online.empty()) return absl::OkStatus();
  const std::set<int> have = Numbers(online);
  for (int n : Numbers(asked)) {
    if (have.count(n) > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(option, " \"", asked, "\": this host has the ", kind, " ", online));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> CleanPaths(absl::string_view what,
                                                    const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    GANTRY_ASSIGN_OR_RETURN(std::string clean, CleanPath(what, path));
    out.push_back(std::move(clean));
  }
  return out;
}

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

// Runtimes fail on ids that the user namespace does not have with words that name neither.
absl::Status CheckUserIds(const ContainerConfig& config, const User& user) {
  if (config.uids.empty()) return absl::OkStatus();
  const auto missing = [](absl::string_view kind, uint32_t id, const std::vector<IdRange>& ranges) {
    return absl::InvalidArgumentError(
        absl::StrCat(kind, " ", id, ": the container's user namespace does not have it, only ",
                     PrintIdRanges(ranges), " (id in it : id of the host : how many)"));
  };
  if (!HostIdOf(config.uids, user.uid).has_value()) return missing("user", user.uid, config.uids);
  if (!HostIdOf(config.gids, user.gid).has_value()) return missing("group", user.gid, config.gids);
  for (const uint32_t gid : user.additional_gids) {
    if (!HostIdOf(config.gids, gid).has_value()) return missing("group", gid, config.gids);
  }
  return absl::OkStatus();
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

// The tree that a container sees is its own only in a cgroup namespace of its own, and only of
// version 2 may it be given away.
absl::Status CheckWritableCgroups(const ContainerConfig& config, const HostFacts& host) {
  if (!config.writable_cgroups || config.privileged) return absl::OkStatus();
  if (host.cgroup_v2 && config.cgroup.kind == NamespaceMode::Kind::kPrivate)
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      "security option writable-cgroups: it needs cgroup v2 and a cgroup namespace of the "
      "container's own (--cgroupns private)");
}

}  // namespace

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

absl::StatusOr<Rlimit> ParseUlimit(absl::string_view text) {
  static constexpr const char* kKnown[] = {
      "AS",   "CORE",   "CPU",   "DATA", "FSIZE",  "LOCKS",  "MEMLOCK",    "MSGQUEUE",
      "NICE", "NOFILE", "NPROC", "RSS",  "RTPRIO", "RTTIME", "SIGPENDING", "STACK"};
  const absl::Status bad = absl::InvalidArgumentError(
      absl::StrCat("ulimit \"", text.substr(0, 64), "\": expected name=soft[:hard]"));
  const std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(text, absl::MaxSplits('=', 1));
  std::string name = absl::AsciiStrToUpper(halves.first);
  if (absl::StartsWith(name, "RLIMIT_")) name = name.substr(7);
  if (std::find(std::begin(kKnown), std::end(kKnown), name) == std::end(kKnown)) {
    return absl::InvalidArgumentError(
        absl::StrCat("ulimit \"", text.substr(0, 64), "\": no such limit"));
  }
  const std::vector<absl::string_view> values = absl::StrSplit(halves.second, ':');
  if (values.empty() || values.size() > 2) return bad;
  uint64_t parsed[2] = {0, 0};
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == "-1" || values[i] == "unlimited") {
      parsed[i] = ~uint64_t{0};
    } else if (!absl::SimpleAtoi(values[i], &parsed[i])) {
      return bad;
    }
  }
  if (values.size() == 1) parsed[1] = parsed[0];
  if (parsed[0] > parsed[1]) {
    return absl::InvalidArgumentError(
        absl::StrCat("ulimit \"", text.substr(0, 64), "\": soft limit above the hard limit"));
  }
  return Rlimit{absl::StrCat("RLIMIT_", name), parsed[0], parsed[1]};
}

absl::StatusOr<std::map<std::string, std::string>> CheckedSysctls(const ContainerConfig& config) {
  return BuildSysctls(config);
}

absl::StatusOr<RuntimeSpec> BuildSpec(const ContainerConfig& config, const User& user,
                                      const HostFacts& host) {
  std::vector<std::string> capabilities;
  if (config.privileged) {
    capabilities = AllCapabilities(host);
  } else {
    GANTRY_ASSIGN_OR_RETURN(capabilities, TweakCapabilities(config.cap_add, config.cap_drop, host));
  }

  std::string hostname = config.hostname;
  const bool own_uts = config.uts.kind == NamespaceMode::Kind::kPrivate;
  if (hostname.empty() && own_uts) hostname = config.id.substr(0, 12);
  GANTRY_RETURN_IF_ERROR(CheckHostname("hostname", hostname));
  GANTRY_RETURN_IF_ERROR(CheckHostname("domainname", config.domainname));
  if (!config.hostname.empty() && !own_uts) {
    return absl::InvalidArgumentError(
        "hostname: the container uses another UTS namespace, whose name it cannot set");
  }
  GANTRY_ASSIGN_OR_RETURN(const ProcessSpec process,
                          BuildProcess(config, user, hostname, capabilities, host));
  GANTRY_RETURN_IF_ERROR(CheckUserIds(config, user));
  GANTRY_RETURN_IF_ERROR(CheckResources(config.resources));
  GANTRY_RETURN_IF_ERROR(
      CheckOnline("cpuset-cpus", config.resources.cpuset_cpus, "CPUs", host.online_cpus));
  GANTRY_RETURN_IF_ERROR(CheckOnline("cpuset-mems", config.resources.cpuset_mems, "memory nodes",
                                     host.online_memory_nodes));

  RuntimeSpec spec;
  json& out = spec.document();
  out["process"] = ProcessToJson(process);
  out["root"] = {{"path", config.root_path}, {"readonly", config.read_only_root}};
  if (own_uts && !hostname.empty()) out["hostname"] = hostname;
  if (own_uts && !config.domainname.empty() && !config.uids.empty())
    out["domainname"] = config.domainname;
  if (!config.annotations.empty()) out["annotations"] = config.annotations;

  bool shared_root = false;
  bool slave_root = false;
  GANTRY_ASSIGN_OR_RETURN(out["mounts"], BuildMounts(config, shared_root, slave_root));

  json& linux_part = out["linux"] = json::object();
  linux_part["namespaces"] = BuildNamespaces(config, host);
  if (!config.uids.empty()) {
    linux_part["uidMappings"] = RangesToJson(config.uids);
    linux_part["gidMappings"] = RangesToJson(config.gids);
  }
  if (host.selinux && !config.mount_label.empty()) linux_part["mountLabel"] = config.mount_label;
  if (!config.cgroups_path.empty()) linux_part["cgroupsPath"] = config.cgroups_path;
  // A volume can only hand mounts in or out when the container's root follows the host's.
  if (shared_root) {
    linux_part["rootfsPropagation"] = "shared";
  } else if (slave_root) {
    linux_part["rootfsPropagation"] = "slave";
  }
  GANTRY_ASSIGN_OR_RETURN(const auto sysctls, BuildSysctls(config));
  if (!sysctls.empty()) linux_part["sysctl"] = sysctls;

  json devices = json::array();
  json rules = json::array();
  if (config.privileged) {
    rules.push_back(DeviceRule(true, "a", -1, -1, "rwm"));
    CollectDevices("/dev", "/dev", devices, nullptr, "rwm", 0);
  } else {
    rules = DefaultDeviceRules();
  }
  for (const DeviceConfig& device : config.devices) {
    if (config.privileged &&
        (device.container_path.empty() || device.container_path == device.host_path))
      continue;
    GANTRY_RETURN_IF_ERROR(AddDevice(device, devices, rules));
  }
  for (const std::string& rule : config.device_cgroup_rules) {
    GANTRY_ASSIGN_OR_RETURN(json parsed, ParseDeviceRule(rule));
    rules.push_back(std::move(parsed));
  }
  if (!devices.empty()) linux_part["devices"] = std::move(devices);
  linux_part["resources"] = ResourcesToJson(config.resources);
  linux_part["resources"]["devices"] = std::move(rules);

  GANTRY_RETURN_IF_ERROR(CheckWritableCgroups(config, host));
  GANTRY_RETURN_IF_ERROR(AddConfinement(config, capabilities, host, linux_part));
  return spec;
}

absl::StatusOr<ProcessSpec> BuildExecProcess(const RuntimeSpec& spec, const ExecConfig& config,
                                             const std::optional<User>& user,
                                             const HostFacts& host) {
  if (config.args.empty() || config.args[0].empty())
    return absl::InvalidArgumentError("exec: no command");
  auto main = spec.document().find("process");
  if (main == spec.document().end())
    return absl::FailedPreconditionError("exec: the container's spec has no process");
  GANTRY_ASSIGN_OR_RETURN(ProcessSpec process, ProcessFromJson(*main));
  process.args = config.args;
  process.terminal = config.terminal;
  process.console_width = config.console_width;
  process.console_height = config.console_height;
  if (!config.working_dir.empty()) {
    GANTRY_ASSIGN_OR_RETURN(process.cwd, WorkingDirectory(config.working_dir));
  }
  if (process.cwd.empty()) process.cwd = "/";

  GANTRY_RETURN_IF_ERROR(CheckEnvironment(config.env));
  Environment env;
  if (config.terminal) env.Add("TERM=xterm");
  for (const std::string& entry : process.env) env.Add(entry);
  for (const std::string& entry : config.env) env.Add(entry);
  process.env = env.Take();

  if (config.user.has_value() && user.has_value()) {
    process.uid = user->uid;
    process.gid = user->gid;
    process.additional_gids = user->additional_gids;
  }
  process.inheritable.clear();
  process.ambient.clear();
  if (config.privileged) {
    process.bounding = AllCapabilities(host);
    process.effective = process.bounding;
    process.permitted = process.bounding;
    process.apparmor_profile.clear();
  } else if (config.user.has_value()) {
    process.effective = process.uid == 0 ? process.bounding : std::vector<std::string>();
    process.permitted = process.effective;
  }
  return process;
}

}  // namespace gantry::oci
