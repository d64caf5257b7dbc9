#include "supervisor/oci/spec_builder.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/oci/checked_text.h"
#include "supervisor/oci/default_profile.h"
#include "supervisor/oci/spec_devices.h"
#include "supervisor/oci/spec_mounts.h"
#include "supervisor/oci/spec_security.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

constexpr char kDefaultPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
  // With version 1 the host's is the default.
  if (host.cgroup_v2 || config.own_cgroup_namespace ||
      config.cgroup.kind == NamespaceMode::Kind::kPath)
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

}  // namespace

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
