#include "supervisor/nri/spec_edit.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"

namespace gantry::nri {
namespace {

using nlohmann::json;

// "-NAME" stands for the removal of NAME.
bool TakeRemoval(absl::string_view& name) {
  if (name.size() < 2 || name.front() != '-') return false;
  name.remove_prefix(1);
  return true;
}

// A list below `object`, made if it is not there.
json& ListOf(json& object, const char* key) {
  json& list = object[key];
  if (!list.is_array()) list = json::array();
  return list;
}
json& ObjectOf(json& object, const char* key) {
  json& value = object[key];
  if (!value.is_object()) value = json::object();
  return value;
}

template <class List>
json Strings(const List& list) {
  json out = json::array();
  for (const std::string& one : list) out.push_back(one);
  return out;
}

void EraseIf(json& list, const std::function<bool(const json&)>& wanted) {
  for (auto it = list.begin(); it != list.end();) it = wanted(*it) ? list.erase(it) : it + 1;
}
void EraseNamed(json& list, const char* key, absl::string_view name) {
  EraseIf(list, [&](const json& one) {
    return one.is_object() && one.value(key, "") == std::string(name);
  });
}

// Annotations and sysctls: maps of names to values.
absl::Status EditMap(const google::protobuf::Map<std::string, std::string>& change,
                     wire::Field field, const Editor& editor, json& parent, const char* key) {
  // Removals first: a plugin that replaces what another one has set names it in both ways.
  for (const auto& [name, value] : change) {
    absl::string_view removed = name;
    if (!TakeRemoval(removed)) continue;
    editor.owners->Release(editor.container, field, std::string(removed));
    if (parent.contains(key)) parent[key].erase(std::string(removed));
  }
  for (const auto& [name, value] : change) {
    absl::string_view removed = name;
    if (TakeRemoval(removed)) continue;
    if (name.empty()) return Refused(editor, absl::StrCat(FieldName(field), " without a name"));
    GANTRY_RETURN_IF_ERROR(editor.owners->Claim(editor.container, field, name, editor.plugin));
    ObjectOf(parent, key)[name] = value;
  }
  return absl::OkStatus();
}

absl::Status EditMounts(const google::protobuf::RepeatedPtrField<wire::Mount>& change,
                        const Editor& editor, json& spec) {
  if (change.empty()) return absl::OkStatus();
  json& mounts = ListOf(spec, "mounts");
  for (const wire::Mount& mount : change) {
    absl::string_view place = mount.destination();
    if (!TakeRemoval(place)) continue;
    editor.owners->Release(editor.container, wire::Mounts, std::string(place));
    EraseNamed(mounts, "destination", place);
  }
  for (const wire::Mount& mount : change) {
    absl::string_view place = mount.destination();
    if (TakeRemoval(place)) continue;
    if (!absl::StartsWith(place, "/") || absl::StrContains(absl::StrCat(place, "/"), "/../"))
      return Refused(editor, absl::StrCat("mount at \"", place, "\": not an absolute path"));
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::Mounts, mount.destination(), editor.plugin));
    const std::set<std::string> options(mount.options().begin(), mount.options().end());
    const bool bind = mount.type() == "bind" || options.count("bind") + options.count("rbind") > 0;
    if (bind && !absl::StartsWith(mount.source(), "/")) {
      return Refused(editor, absl::StrCat("mount at ", place, ": source \"", mount.source(),
                                          "\" is not an absolute path"));
    }
    EraseNamed(mounts, "destination", place);
    json one = {{"destination", mount.destination()},
                {"source", mount.source()},
                {"options", Strings(mount.options())}};
    // A type that says "bind" without the option is not a bind mount to every runtime.
    if (bind && options.count("bind") + options.count("rbind") == 0)
      one["options"].push_back("rbind");
    one["type"] = mount.type().empty() ? (bind ? "bind" : "none") : mount.type();
    mounts.push_back(std::move(one));
    json& propagation = ObjectOf(spec, "linux")["rootfsPropagation"];
    const std::string now = propagation.is_string() ? propagation.get<std::string>() : "";
    if (options.count("rshared") + options.count("shared") > 0) {
      propagation = "rshared";
    } else if (options.count("rslave") + options.count("slave") > 0 && now != "rshared" &&
               now != "shared") {
      propagation = "rslave";
    } else if (propagation.is_null()) {
      spec["linux"].erase("rootfsPropagation");
    }
  }
  // A mount hides what is below its place, so those above come first.
  json::array_t& list = mounts.get_ref<json::array_t&>();
  std::stable_sort(list.begin(), list.end(), [](const json& a, const json& b) {
    const auto depth = [](const json& mount) {
      const std::string place = mount.value("destination", "");
      return place == "/" ? 0 : std::count(place.begin(), place.end(), '/');
    };
    return depth(a) < depth(b);
  });
  return absl::OkStatus();
}

absl::Status EditEnv(const google::protobuf::RepeatedPtrField<wire::KeyValue>& change,
                     const Editor& editor, json& process) {
  if (change.empty()) return absl::OkStatus();
  json& env = ListOf(process, "env");
  const auto place_of = [&env](absl::string_view name) {
    return std::find_if(env.begin(), env.end(), [name](const json& one) {
      return one.is_string() &&
             absl::StartsWith(one.get_ref<const std::string&>(), absl::StrCat(name, "="));
    });
  };
  for (const wire::KeyValue& one : change) {
    absl::string_view name = one.key();
    if (!TakeRemoval(name)) continue;
    editor.owners->Release(editor.container, wire::Env, std::string(name));
    for (auto it = place_of(name); it != env.end(); it = place_of(name)) env.erase(it);
  }
  for (const wire::KeyValue& one : change) {
    absl::string_view name = one.key();
    if (TakeRemoval(name)) continue;
    if (name.empty() || absl::StrContains(name, '=') ||
        absl::StrContains(name, absl::string_view("\0", 1)) ||
        absl::StrContains(one.value(), absl::string_view("\0", 1)))
      return Refused(editor, absl::StrCat("\"", name, "\" is not the name of a variable"));
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::Env, one.key(), editor.plugin));
    std::string text = absl::StrCat(name, "=", one.value());
    if (const auto it = place_of(name); it != env.end()) {
      *it = std::move(text);
    } else {
      env.push_back(std::move(text));
    }
  }
  return absl::OkStatus();
}

absl::Status EditArgs(const google::protobuf::RepeatedPtrField<std::string>& change,
                      const Editor& editor, json& process) {
  if (change.empty()) return absl::OkStatus();
  // An empty first word: what another plugin has set is replaced.
  const bool replace = change.Get(0).empty();
  if (replace) editor.owners->Release(editor.container, wire::Args, "");
  if (replace && change.size() == 1) return Refused(editor, "the command line has no words");
  GANTRY_RETURN_IF_ERROR(editor.owners->Claim(editor.container, wire::Args, "", editor.plugin));
  json args = Strings(change);
  if (replace) args.erase(args.begin());
  process["args"] = std::move(args);
  return absl::OkStatus();
}

absl::Status EditHooks(const wire::Hooks& change, const Editor& editor, json& spec) {
  bool some = false;
  for (const auto& [stage, list] :
       {std::pair<const char*, const google::protobuf::RepeatedPtrField<wire::Hook>*>{
            "prestart", &change.prestart()},
        {"createRuntime", &change.create_runtime()},
        {"createContainer", &change.create_container()},
        {"startContainer", &change.start_container()},
        {"poststart", &change.poststart()},
        {"poststop", &change.poststop()}}) {
    for (const wire::Hook& hook : *list) {
      if (!absl::StartsWith(hook.path(), "/")) {
        return Refused(editor, absl::StrCat("hook \"", hook.path(), "\" is not an absolute path"));
      }
      json one = {{"path", hook.path()}};
      if (hook.args_size() > 0) one["args"] = Strings(hook.args());
      if (hook.env_size() > 0) one["env"] = Strings(hook.env());
      if (hook.has_timeout()) {
        if (hook.timeout().value() <= 0)
          return Refused(editor,
                         absl::StrCat("hook ", hook.path(), ": its timeout is not above 0"));
        one["timeout"] = hook.timeout().value();
      }
      ListOf(ObjectOf(spec, "hooks"), stage).push_back(std::move(one));
      some = true;
    }
  }
  if (some) editor.owners->ClaimHooks(editor.container, editor.plugin);
  return absl::OkStatus();
}

absl::Status EditDevices(const google::protobuf::RepeatedPtrField<wire::LinuxDevice>& change,
                         const Editor& editor, json& linux_part) {
  if (change.empty()) return absl::OkStatus();
  json& devices = ListOf(linux_part, "devices");
  for (const wire::LinuxDevice& device : change) {
    absl::string_view path = device.path();
    if (!TakeRemoval(path)) continue;
    editor.owners->Release(editor.container, wire::Devices, std::string(path));
    EraseNamed(devices, "path", path);
  }
  for (const wire::LinuxDevice& device : change) {
    absl::string_view path = device.path();
    if (TakeRemoval(path)) continue;
    static const std::set<std::string> kTypes = {"b", "c", "u", "p"};
    if (!absl::StartsWith(path, "/") || kTypes.count(device.type()) == 0) {
      return Refused(editor, absl::StrCat("device \"", path, "\" of type \"", device.type(),
                                          "\": an absolute path and one of b, c, u and p are "
                                          "wanted"));
    }
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::Devices, device.path(), editor.plugin));
    EraseNamed(devices, "path", path);
    json one = {{"path", device.path()},
                {"type", device.type()},
                {"major", device.major()},
                {"minor", device.minor()}};
    if (device.has_file_mode()) one["fileMode"] = device.file_mode().value();
    if (device.has_uid()) one["uid"] = device.uid().value();
    if (device.has_gid()) one["gid"] = device.gid().value();
    devices.push_back(std::move(one));
    if (device.type() == "p") continue;
    // Without a rule the device could be seen and not opened.
    const uint32_t mode = device.has_file_mode() ? device.file_mode().value() : 0666;
    std::string access;
    if ((mode & 0444) != 0) access += "r";
    if ((mode & 0222) != 0) access += "w";
    ListOf(ObjectOf(linux_part, "resources"), "devices")
        .push_back({{"allow", true},
                    {"type", device.type() == "u" ? "c" : device.type()},
                    {"major", device.major()},
                    {"minor", device.minor()},
                    {"access", access + "m"}});
  }
  return absl::OkStatus();
}

absl::Status EditNamespaces(const google::protobuf::RepeatedPtrField<wire::LinuxNamespace>& change,
                            const Editor& editor, json& linux_part) {
  for (const wire::LinuxNamespace& one : change) {
    absl::string_view type = one.type();
    const bool removed = TakeRemoval(type);
    static const std::set<std::string> kTypes = {"pid", "network", "mount",  "ipc",
                                                 "uts", "user",    "cgroup", "time"};
    if (kTypes.count(std::string(type)) == 0)
      return Refused(editor, absl::StrCat("\"", type, "\" is not a kind of namespace"));
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::Namespace, std::string(type), editor.plugin));
    json& namespaces = ListOf(linux_part, "namespaces");
    EraseNamed(namespaces, "type", type);
    if (removed) continue;
    json ns = {{"type", one.type()}};
    if (!one.path().empty()) {
      if (!absl::StartsWith(one.path(), "/"))
        return Refused(editor, absl::StrCat("namespace ", type, ": path \"", one.path(),
                                            "\" is not absolute"));
      ns["path"] = one.path();
    }
    namespaces.push_back(std::move(ns));
  }
  return absl::OkStatus();
}

absl::Status EditSeccomp(const wire::LinuxSeccomp& policy, const Editor& editor, json& linux_part) {
  GANTRY_RETURN_IF_ERROR(
      editor.owners->Claim(editor.container, wire::SeccompPolicy, "", editor.plugin));
  if (!absl::StartsWith(policy.default_action(), "SCMP_ACT_")) {
    return Refused(editor,
                   absl::StrCat("seccomp: \"", policy.default_action(), "\" is not an action"));
  }
  json out = {{"defaultAction", policy.default_action()}};
  if (policy.has_default_errno()) out["defaultErrnoRet"] = policy.default_errno().value();
  if (policy.architectures_size() > 0) out["architectures"] = Strings(policy.architectures());
  if (policy.flags_size() > 0) out["flags"] = Strings(policy.flags());
  if (!policy.listener_path().empty()) out["listenerPath"] = policy.listener_path();
  if (!policy.listener_metadata().empty()) out["listenerMetadata"] = policy.listener_metadata();
  json rules = json::array();
  for (const wire::LinuxSyscall& rule : policy.syscalls()) {
    if (rule.names_size() == 0 || !absl::StartsWith(rule.action(), "SCMP_ACT_"))
      return Refused(editor, "seccomp: a rule without names or without an action");
    json one = {{"names", Strings(rule.names())}, {"action", rule.action()}};
    if (rule.has_errno_ret()) one["errnoRet"] = rule.errno_ret().value();
    for (const wire::LinuxSeccompArg& arg : rule.args()) {
      json condition = {{"index", arg.index()}, {"value", arg.value()}, {"op", arg.op()}};
      if (arg.value_two() != 0) condition["valueTwo"] = arg.value_two();
      ListOf(one, "args").push_back(std::move(condition));
    }
    rules.push_back(std::move(one));
  }
  if (!rules.empty()) out["syscalls"] = std::move(rules);
  linux_part["seccomp"] = std::move(out);
  return absl::OkStatus();
}

absl::Status EditNetDevices(const google::protobuf::Map<std::string, wire::LinuxNetDevice>& change,
                            const Editor& editor, json& linux_part) {
  for (const auto& [name, device] : change) {
    absl::string_view removed = name;
    if (!TakeRemoval(removed)) continue;
    editor.owners->Release(editor.container, wire::LinuxNetDevices, std::string(removed));
    if (linux_part.contains("netDevices")) linux_part["netDevices"].erase(std::string(removed));
  }
  for (const auto& [name, device] : change) {
    absl::string_view removed = name;
    if (TakeRemoval(removed)) continue;
    if (name.empty()) return Refused(editor, "a network device without a name");
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::LinuxNetDevices, name, editor.plugin));
    json one = json::object();
    if (!device.name().empty()) one["name"] = device.name();
    ObjectOf(linux_part, "netDevices")[name] = std::move(one);
  }
  return absl::OkStatus();
}

absl::Status EditScheduler(const wire::LinuxScheduler& change, const Editor& editor,
                           json& process) {
  static const auto* policies =
      new std::map<int, const char*>{{wire::SCHED_OTHER_, "SCHED_OTHER"},
                                     {wire::SCHED_FIFO_, "SCHED_FIFO"},
                                     {wire::SCHED_RR_, "SCHED_RR"},
                                     {wire::SCHED_BATCH_, "SCHED_BATCH"},
                                     {wire::SCHED_ISO_, "SCHED_ISO"},
                                     {wire::SCHED_IDLE_, "SCHED_IDLE"},
                                     {wire::SCHED_DEADLINE_, "SCHED_DEADLINE"}};
  static const auto* flags = new std::map<int, const char*>{
      {wire::SCHED_FLAG_RESET_ON_FORK_, "SCHED_FLAG_RESET_ON_FORK"},
      {wire::SCHED_FLAG_RECLAIM_, "SCHED_FLAG_RECLAIM"},
      {wire::SCHED_FLAG_DL_OVERRUN_, "SCHED_FLAG_DL_OVERRUN"},
      {wire::SCHED_FLAG_KEEP_POLICY_, "SCHED_FLAG_KEEP_POLICY"},
      {wire::SCHED_FLAG_KEEP_PARAMS_, "SCHED_FLAG_KEEP_PARAMS"},
      {wire::SCHED_FLAG_UTIL_CLAMP_MIN_, "SCHED_FLAG_UTIL_CLAMP_MIN"},
      {wire::SCHED_FLAG_UTIL_CLAMP_MAX_, "SCHED_FLAG_UTIL_CLAMP_MAX"}};
  GANTRY_RETURN_IF_ERROR(
      editor.owners->Claim(editor.container, wire::LinuxSched, "", editor.plugin));
  const auto policy = policies->find(change.policy());
  if (policy == policies->end()) return Refused(editor, "the scheduler's policy is not known");
  json out = {{"policy", policy->second}};
  if (change.nice() != 0) out["nice"] = change.nice();
  if (change.priority() != 0) out["priority"] = change.priority();
  if (change.runtime() != 0) out["runtime"] = change.runtime();
  if (change.deadline() != 0) out["deadline"] = change.deadline();
  if (change.period() != 0) out["period"] = change.period();
  for (const int flag : change.flags()) {
    const auto name = flags->find(flag);
    if (name == flags->end()) return Refused(editor, "a flag of the scheduler is not known");
    ListOf(out, "flags").push_back(name->second);
  }
  process["scheduler"] = std::move(out);
  return absl::OkStatus();
}

absl::Status EditRdt(const wire::LinuxRdt& change, const Editor& editor, json& linux_part) {
  if (change.remove()) {
    for (const wire::Field field : {wire::RdtClosID, wire::RdtSchemata, wire::RdtEnableMonitoring})
      editor.owners->Release(editor.container, field, "");
    linux_part.erase("intelRdt");
  }
  const auto claim = [&](wire::Field field) {
    return editor.owners->Claim(editor.container, field, "", editor.plugin);
  };
  if (change.has_clos_id()) {
    GANTRY_RETURN_IF_ERROR(claim(wire::RdtClosID));
    ObjectOf(linux_part, "intelRdt")["closID"] = change.clos_id().value();
  }
  if (change.has_schemata()) {
    GANTRY_RETURN_IF_ERROR(claim(wire::RdtSchemata));
    ObjectOf(linux_part, "intelRdt")["schemata"] = Strings(change.schemata().value());
  }
  if (change.has_enable_monitoring()) {
    GANTRY_RETURN_IF_ERROR(claim(wire::RdtEnableMonitoring));
    ObjectOf(linux_part, "intelRdt")["enableMonitoring"] = change.enable_monitoring().value();
  }
  return absl::OkStatus();
}

absl::Status EditMemoryPolicy(const wire::LinuxMemoryPolicy& change, const Editor& editor,
                              json& linux_part) {
  static constexpr const char* kModes[] = {"MPOL_DEFAULT",
                                           "MPOL_PREFERRED",
                                           "MPOL_BIND",
                                           "MPOL_INTERLEAVE",
                                           "MPOL_LOCAL",
                                           "MPOL_PREFERRED_MANY",
                                           "MPOL_WEIGHTED_INTERLEAVE"};
  static constexpr const char* kFlags[] = {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES",
                                           "MPOL_F_NUMA_BALANCING"};
  GANTRY_RETURN_IF_ERROR(
      editor.owners->Claim(editor.container, wire::MemoryPolicy, "", editor.plugin));
  const int mode = change.mode();
  if (mode < 0 || mode >= static_cast<int>(std::size(kModes)))
    return Refused(editor, "the memory policy's mode is not known");
  json out = {{"mode", kModes[mode]}, {"nodes", change.nodes()}};
  for (const int flag : change.flags()) {
    if (flag < 0 || flag >= static_cast<int>(std::size(kFlags)))
      return Refused(editor, "a flag of the memory policy is not known");
    ListOf(out, "flags").push_back(kFlags[flag]);
  }
  linux_part["memoryPolicy"] = std::move(out);
  return absl::OkStatus();
}

absl::Status EditRlimits(const google::protobuf::RepeatedPtrField<wire::POSIXRlimit>& change,
                         const Editor& editor, json& process) {
  for (const wire::POSIXRlimit& limit : change) {
    if (!absl::StartsWith(limit.type(), "RLIMIT_") || limit.soft() > limit.hard()) {
      return Refused(editor, absl::StrCat("rlimit \"", limit.type(),
                                          "\": a name like "
                                          "RLIMIT_NOFILE, and a soft limit not above the hard "
                                          "one, are wanted"));
    }
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::Rlimits, limit.type(), editor.plugin));
    json& rlimits = ListOf(process, "rlimits");
    EraseNamed(rlimits, "type", limit.type());
    rlimits.push_back({{"type", limit.type()}, {"hard", limit.hard()}, {"soft", limit.soft()}});
  }
  return absl::OkStatus();
}

absl::Status EditLinux(const wire::LinuxContainerAdjustment& change, const Editor& editor,
                       json& spec) {
  json& linux_part = ObjectOf(spec, "linux");
  json& process = ObjectOf(spec, "process");
  const auto claim = [&](wire::Field field) {
    return editor.owners->Claim(editor.container, field, "", editor.plugin);
  };
  GANTRY_RETURN_IF_ERROR(EditDevices(change.devices(), editor, linux_part));
  if (change.has_resources()) {
    GANTRY_RETURN_IF_ERROR(
        AdjustResources(change.resources(), editor, ObjectOf(linux_part, "resources")));
  }
  if (!change.cgroups_path().empty()) {
    GANTRY_RETURN_IF_ERROR(claim(wire::CgroupsPath));
    if (absl::StrContains(absl::StrCat("/", change.cgroups_path(), "/"), "/../"))
      return Refused(editor, "the cgroup path leads upwards");
    linux_part["cgroupsPath"] = change.cgroups_path();
  }
  if (change.has_oom_score_adj()) {
    GANTRY_RETURN_IF_ERROR(claim(wire::OomScoreAdj));
    const int64_t score = change.oom_score_adj().value();
    if (score < -1000 || score > 1000)
      return Refused(editor, absl::StrCat("OOM score ", score, " is not within -1000 and 1000"));
    process["oomScoreAdj"] = score;
  }
  if (change.has_io_priority()) {
    static constexpr const char* kClasses[] = {"", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE",
                                               "IOPRIO_CLASS_IDLE"};
    GANTRY_RETURN_IF_ERROR(claim(wire::IoPriority));
    const int io_class = change.io_priority().class_();
    if (io_class < 0 || io_class >= static_cast<int>(std::size(kClasses)))
      return Refused(editor, "the I/O priority's class is not known");
    if (io_class == 0) {
      process.erase("ioPriority");
    } else {
      process["ioPriority"] = {{"class", kClasses[io_class]},
                               {"priority", change.io_priority().priority()}};
    }
  }
  if (change.has_seccomp_policy())
    GANTRY_RETURN_IF_ERROR(EditSeccomp(change.seccomp_policy(), editor, linux_part));
  GANTRY_RETURN_IF_ERROR(EditNamespaces(change.namespaces(), editor, linux_part));
  GANTRY_RETURN_IF_ERROR(EditMap(change.sysctl(), wire::Sysctl, editor, linux_part, "sysctl"));
  GANTRY_RETURN_IF_ERROR(EditNetDevices(change.net_devices(), editor, linux_part));
  if (change.has_scheduler())
    GANTRY_RETURN_IF_ERROR(EditScheduler(change.scheduler(), editor, process));
  if (change.has_rdt()) GANTRY_RETURN_IF_ERROR(EditRdt(change.rdt(), editor, linux_part));
  if (change.has_memory_policy())
    GANTRY_RETURN_IF_ERROR(EditMemoryPolicy(change.memory_policy(), editor, linux_part));
  return absl::OkStatus();
}

}  // namespace

absl::Status Refused(const Editor& editor, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("NRI plugin ", editor.plugin, ": container ",
                                                 editor.container.substr(0, 12), ": ", what));
}

absl::Status Adjust(const wire::ContainerAdjustment& change, const Editor& editor, json& spec,
                    std::vector<std::string>& cdi_devices) {
  json& process = ObjectOf(spec, "process");
  GANTRY_RETURN_IF_ERROR(
      EditMap(change.annotations(), wire::Annotations, editor, spec, "annotations"));
  GANTRY_RETURN_IF_ERROR(EditMounts(change.mounts(), editor, spec));
  GANTRY_RETURN_IF_ERROR(EditEnv(change.env(), editor, process));
  GANTRY_RETURN_IF_ERROR(EditArgs(change.args(), editor, process));
  if (change.has_hooks()) GANTRY_RETURN_IF_ERROR(EditHooks(change.hooks(), editor, spec));
  if (change.has_linux()) GANTRY_RETURN_IF_ERROR(EditLinux(change.linux(), editor, spec));
  GANTRY_RETURN_IF_ERROR(EditRlimits(change.rlimits(), editor, process));
  for (const wire::CDIDevice& device : change.cdi_devices()) {
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::CdiDevices, device.name(), editor.plugin));
    if (std::find(cdi_devices.begin(), cdi_devices.end(), device.name()) == cdi_devices.end())
      cdi_devices.push_back(device.name());
  }
  return absl::OkStatus();
}

}  // namespace gantry::nri
