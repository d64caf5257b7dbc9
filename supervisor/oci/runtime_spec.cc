#include "supervisor/oci/runtime_spec.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/json_fields.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

constexpr int64_t kMaxSpecBytes = 8 << 20;

const json& At(const json& object, const char* key) {
  static const json null;
  if (!object.is_object()) return null;
  auto it = object.find(key);
  return it == object.end() ? null : *it;
}

std::string Text(const json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

std::vector<std::string> Texts(const json& value) {
  std::vector<std::string> out;
  if (value.is_array()) {
    for (const json& item : value) out.push_back(Text(item));
  }
  return out;
}

// The object at `key`, made when absent.
json& Object(json& parent, const char* key) {
  json& child = parent[key];
  if (!child.is_object()) child = json::object();
  return child;
}

absl::Status CheckSpec(const json& spec) {
  if (!spec.is_object()) return absl::InvalidArgumentError("runtime spec: not a JSON object");
  JsonFields top(spec, "runtime spec");
  std::string text;
  std::map<std::string, std::string> annotations;
  top.Get("ociVersion", text);
  top.Get("hostname", text);
  top.Get("annotations", annotations);
  GANTRY_RETURN_IF_ERROR(top.status());
  if (const json* process = top.Find("process"))
    GANTRY_RETURN_IF_ERROR(ProcessFromJson(*process).status());
  if (const json* root = top.Find("root")) {
    bool flag = false;
    JsonFields fields(*root, "runtime spec: root");
    fields.Get("path", text);
    fields.Get("readonly", flag);
    GANTRY_RETURN_IF_ERROR(fields.status());
  }
  if (const json* linux_part = top.Find("linux")) {
    JsonFields fields(*linux_part, "runtime spec: linux");
    fields.Get("cgroupsPath", text);
    GANTRY_RETURN_IF_ERROR(fields.status());
    if (const json* namespaces = fields.Find("namespaces")) {
      if (!namespaces->is_array()) {
        return absl::InvalidArgumentError("runtime spec: `linux.namespaces` is not a list");
      }
      for (const json& item : *namespaces) {
        JsonFields entry(item, "runtime spec: linux.namespaces");
        entry.Get("type", text);
        entry.Get("path", text);
        GANTRY_RETURN_IF_ERROR(entry.status());
      }
    }
    if (const json* resources = fields.Find("resources")) {
      GANTRY_RETURN_IF_ERROR(ResourcesFromJson(*resources).status());
    }
  }
  return absl::OkStatus();
}

// {major, minor, patch}; a suffix such as "-dev" is ignored.
std::vector<int> VersionNumbers(absl::string_view text) {
  std::vector<int> out;
  for (absl::string_view part : absl::StrSplit(text.substr(0, text.find_first_of("-+")), '.')) {
    int n = 0;
    if (!absl::SimpleAtoi(part, &n)) n = 0;
    out.push_back(n);
  }
  out.resize(3);
  return out;
}

template <typename T>
void Put(json& object, const char* key, const std::optional<T>& value) {
  if (value.has_value()) object[key] = *value;
}

// The lists of limits per device, as a runtime spells them.
struct BlockList {
  const char* key;
  const char* value;
  std::vector<DeviceLimit> Resources::*member;
};
constexpr BlockList kBlockLists[] = {
    {"weightDevice", "weight", &Resources::block_io_weight_device},
    {"throttleReadBpsDevice", "rate", &Resources::block_io_read_bps},
    {"throttleWriteBpsDevice", "rate", &Resources::block_io_write_bps},
    {"throttleReadIOPSDevice", "rate", &Resources::block_io_read_iops},
    {"throttleWriteIOPSDevice", "rate", &Resources::block_io_write_iops},
};

// A cpuset such as "0-3,7": bounded and well-formed, whatever the kernel would make of it.
absl::Status CheckCpuset(absl::string_view what, const std::string& text) {
  if (text.empty()) return absl::OkStatus();
  absl::Status bad = absl::InvalidArgumentError(absl::StrCat(
      what, " \"", text.substr(0, 64), "\": expected numbers and ranges such as 0-3,7"));
  if (text.size() > 4096) return bad;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    int last = -1;
    if (ends.size() > 2) return bad;
    for (absl::string_view end : ends) {
      int n = 0;
      const bool digits =
          !end.empty() && end.size() <= 5 &&
          std::all_of(end.begin(), end.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits || !absl::SimpleAtoi(end, &n) || n > 8191 || n < last) return bad;
      last = n;
    }
  }
  return absl::OkStatus();
}

}  // namespace

RuntimeSpec::RuntimeSpec() : json_(std::make_unique<json>(json{{"ociVersion", kSpecVersion}})) {}
RuntimeSpec::~RuntimeSpec() = default;
RuntimeSpec::RuntimeSpec(RuntimeSpec&&) noexcept = default;
RuntimeSpec& RuntimeSpec::operator=(RuntimeSpec&&) noexcept = default;
RuntimeSpec::RuntimeSpec(const RuntimeSpec& other) : json_(std::make_unique<json>(*other.json_)) {}
RuntimeSpec& RuntimeSpec::operator=(const RuntimeSpec& other) {
  if (this != &other) json_ = std::make_unique<json>(*other.json_);
  return *this;
}

absl::StatusOr<RuntimeSpec> RuntimeSpec::Parse(absl::string_view bytes) {
  GANTRY_ASSIGN_OR_RETURN(json parsed,
                          ParseJson(bytes, "runtime spec", {.max_bytes = kMaxSpecBytes}));
  GANTRY_RETURN_IF_ERROR(CheckSpec(parsed));
  RuntimeSpec spec;
  *spec.json_ = std::move(parsed);
  return spec;
}

std::string RuntimeSpec::Print() const { return PrintJson(*json_); }

std::string RuntimeSpec::oci_version() const { return Text(At(*json_, "ociVersion")); }

bool RuntimeSpec::terminal() const {
  const json& value = At(At(*json_, "process"), "terminal");
  return value.is_boolean() && value.get<bool>();
}

std::vector<std::string> RuntimeSpec::args() const {
  return Texts(At(At(*json_, "process"), "args"));
}
std::vector<std::string> RuntimeSpec::env() const {
  return Texts(At(At(*json_, "process"), "env"));
}
std::string RuntimeSpec::cwd() const { return Text(At(At(*json_, "process"), "cwd")); }

uint32_t RuntimeSpec::uid() const {
  uint32_t uid = 0;
  JsonFields(At(At(*json_, "process"), "user"), "user").Get("uid", uid);
  return uid;
}

std::string RuntimeSpec::hostname() const { return Text(At(*json_, "hostname")); }
std::string RuntimeSpec::root_path() const { return Text(At(At(*json_, "root"), "path")); }

bool RuntimeSpec::root_readonly() const {
  const json& value = At(At(*json_, "root"), "readonly");
  return value.is_boolean() && value.get<bool>();
}

std::string RuntimeSpec::cgroups_path() const {
  return Text(At(At(*json_, "linux"), "cgroupsPath"));
}

bool RuntimeSpec::systemd_makes_cgroup(bool otherwise) const {
  const std::string path = cgroups_path();
  if (path.empty()) return otherwise;
  return path.front() != '/' && std::count(path.begin(), path.end(), ':') == 2;
}

std::map<std::string, std::string> RuntimeSpec::annotations() const {
  std::map<std::string, std::string> out;
  JsonFields(*json_, "runtime spec").Get("annotations", out);
  return out;
}

bool RuntimeSpec::has_namespace(absl::string_view type) const {
  const json& list = At(At(*json_, "linux"), "namespaces");
  return list.is_array() && std::any_of(list.begin(), list.end(), [&](const json& item) {
           return Text(At(item, "type")) == type;
         });
}

std::string RuntimeSpec::namespace_path(absl::string_view type) const {
  const json& list = At(At(*json_, "linux"), "namespaces");
  if (list.is_array()) {
    for (const json& item : list) {
      if (Text(At(item, "type")) == type) return Text(At(item, "path"));
    }
  }
  return "";
}

std::optional<uint32_t> RuntimeSpec::root_gid_on_host() const {
  const json& list = At(At(*json_, "linux"), "gidMappings");
  if (!list.is_array()) return std::nullopt;
  for (const json& item : list) {
    const json& inside = At(item, "containerID");
    const json& outside = At(item, "hostID");
    if (inside.is_number_unsigned() && outside.is_number_unsigned() &&
        inside.get<uint64_t>() == 0 && outside.get<uint64_t>() <= UINT32_MAX) {
      return outside.get<uint32_t>();
    }
  }
  return std::nullopt;
}

void RuntimeSpec::SetRootPath(absl::string_view path) {
  Object(*json_, "root")["path"] = std::string(path);
}

void RuntimeSpec::SetCgroupsPath(absl::string_view path) {
  Object(*json_, "linux")["cgroupsPath"] = std::string(path);
}

void RuntimeSpec::SetTerminal(bool terminal) { Object(*json_, "process")["terminal"] = terminal; }

void RuntimeSpec::SetEnv(absl::string_view name, absl::string_view value) {
  json& env = Object(*json_, "process")["env"];
  if (!env.is_array()) env = json::array();
  const std::string prefix = absl::StrCat(name, "=");
  for (json& item : env) {
    if (item.is_string() && absl::StartsWith(item.get_ref<const std::string&>(), prefix)) {
      item = absl::StrCat(prefix, value);
      return;
    }
  }
  env.push_back(absl::StrCat(prefix, value));
}

void RuntimeSpec::SetNamespace(absl::string_view type, absl::string_view path) {
  json& list = Object(*json_, "linux")["namespaces"];
  if (!list.is_array()) list = json::array();
  json entry = {{"type", std::string(type)}};
  if (!path.empty()) entry["path"] = std::string(path);
  for (json& item : list) {
    if (Text(At(item, "type")) == type) {
      item = std::move(entry);
      return;
    }
  }
  list.push_back(std::move(entry));
}

std::vector<std::string> RuntimeSpec::LowerVersion(absl::string_view newest_known) {
  std::vector<std::string> changes;
  const std::string now = oci_version();
  if (!now.empty() && VersionNumbers(now) <= VersionNumbers(newest_known)) return changes;
  (*json_)["ociVersion"] = std::string(newest_known);
  changes.push_back(
      absl::StrCat("ociVersion ", now.empty() ? "(none)" : now, " written as ", newest_known));
  if (VersionNumbers(newest_known) < std::vector<int>{1, 3, 0} && json_->contains("linux") &&
      (*json_)["linux"].is_object()) {
    for (const char* later : {"netDevices", "memoryPolicy"}) {
      if ((*json_)["linux"].erase(later) > 0) {
        changes.push_back(absl::StrCat("linux.", later, " left out, the runtime does not know it"));
      }
    }
  }
  return changes;
}

std::vector<std::string> ClampResourcesToHost(const HostFacts& host, json& resources) {
  std::vector<std::string> changes;
  if (!resources.is_object()) return changes;
  if (!host.block_io_weight && resources.contains("blockIO") && resources["blockIO"].is_object() &&
      resources["blockIO"].erase("weight") + resources["blockIO"].erase("weightDevice") > 0)
    changes.push_back("blockIO weights left out, no scheduler of this host knows them");
  // A kubelet sends a limit of 0 for each size that the kernel has, asked for or not.
  if (!host.hugetlb && resources.erase("hugepageLimits") > 0)
    changes.push_back("limits of huge pages left out, this host has no hugetlb controller");
  return changes;
}

std::vector<std::string> RuntimeSpec::ClampToHost(const HostFacts& host) {
  std::vector<std::string> changes;
  if (json_->contains("linux")) {
    json& part = (*json_)["linux"];
    if (part.is_object() && part.contains("resources"))
      changes = ClampResourcesToHost(host, part["resources"]);
  }
  auto found = json_->find("process");
  if (found == json_->end() || !found->is_object()) return changes;
  json& process = *found;
  if (!host.may_raise_rlimits && process.contains("rlimits") && process["rlimits"].is_array()) {
    for (json& limit : process["rlimits"]) {
      auto ours = host.hard_rlimits.find(Text(At(limit, "type")));
      uint64_t hard = 0;
      uint64_t soft = 0;
      JsonFields fields(limit, "rlimits");
      fields.Get("hard", hard);
      fields.Get("soft", soft);
      if (ours == host.hard_rlimits.end() || hard <= ours->second) continue;
      changes.push_back(absl::StrCat(ours->first, " lowered from ", hard, " to ", ours->second,
                                     ", the most this process may set"));
      limit["hard"] = ours->second;
      limit["soft"] = std::min(soft, ours->second);
    }
  }
  if (!host.may_lower_oom_score) {
    std::optional<int> score;
    JsonFields(process, "process").Get("oomScoreAdj", score);
    if (score.has_value() && *score < host.own_oom_score_adj) {
      process["oomScoreAdj"] = host.own_oom_score_adj;
      changes.push_back(absl::StrCat("oomScoreAdj raised from ", *score, " to ",
                                     host.own_oom_score_adj, ", the least this process may set"));
    }
  }
  return changes;
}

std::optional<Rlimit> RuntimeSpec::TakeSmallDescriptorLimit(const HostFacts& host) {
  // crun 1.8 has a descriptor open for every mount and path that it prepares when it sets the
  // limits.
  constexpr uint64_t kEnoughForAnyRuntime = 1024;
  // Standard streams, and what runc needs to look at its own. Below that it refuses with reason.
  constexpr uint64_t kLeast = 5;
  auto found = json_->find("process");
  if (found == json_->end() || !found->is_object()) return std::nullopt;
  absl::StatusOr<ProcessSpec> process = ProcessFromJson(*found);
  if (!process.ok()) return std::nullopt;
  // The kernel lets who has no CAP_SYS_RESOURCE set limits of its own user's processes only.
  const bool own = process->uid == 0 && process->gid == 0 && !has_namespace("user");
  if (!host.may_raise_rlimits && !own) return std::nullopt;
  for (size_t i = 0; i < process->rlimits.size(); ++i) {
    const Rlimit& limit = process->rlimits[i];
    if (limit.type != "RLIMIT_NOFILE") continue;
    if (limit.soft < kLeast || limit.soft >= kEnoughForAnyRuntime || limit.soft > limit.hard)
      return std::nullopt;
    (*found)["rlimits"].erase(i);
    return limit;
  }
  return std::nullopt;
}

json ProcessToJson(const ProcessSpec& p) {
  json out = {{"user", {{"uid", p.uid}, {"gid", p.gid}}}, {"args", p.args}, {"cwd", p.cwd}};
  if (!p.additional_gids.empty()) out["user"]["additionalGids"] = p.additional_gids;
  if (p.terminal) out["terminal"] = true;
  if (p.console_width > 0 && p.console_height > 0) {
    out["consoleSize"] = {{"width", p.console_width}, {"height", p.console_height}};
  }
  if (!p.env.empty()) out["env"] = p.env;
  json caps = json::object();
  for (const auto& [key, list] :
       {std::pair("bounding", &p.bounding), std::pair("effective", &p.effective),
        std::pair("permitted", &p.permitted), std::pair("inheritable", &p.inheritable),
        std::pair("ambient", &p.ambient)}) {
    if (!list->empty()) caps[key] = *list;
  }
  out["capabilities"] = std::move(caps);
  if (!p.rlimits.empty()) {
    json list = json::array();
    for (const Rlimit& r : p.rlimits)
      list.push_back({{"type", r.type}, {"soft", r.soft}, {"hard", r.hard}});
    out["rlimits"] = std::move(list);
  }
  out["noNewPrivileges"] = p.no_new_privileges;
  if (!p.apparmor_profile.empty()) out["apparmorProfile"] = p.apparmor_profile;
  if (!p.selinux_label.empty()) out["selinuxLabel"] = p.selinux_label;
  Put(out, "oomScoreAdj", p.oom_score_adj);
  return out;
}

absl::StatusOr<ProcessSpec> ProcessFromJson(const json& value) {
  ProcessSpec p;
  p.cwd.clear();
  JsonFields fields(value, "process");
  fields.Get("terminal", p.terminal);
  fields.Get("args", p.args);
  fields.Get("env", p.env);
  fields.Get("cwd", p.cwd);
  fields.Get("noNewPrivileges", p.no_new_privileges);
  fields.Get("apparmorProfile", p.apparmor_profile);
  fields.Get("selinuxLabel", p.selinux_label);
  fields.Get("oomScoreAdj", p.oom_score_adj);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (const json* user = fields.Find("user")) {
    JsonFields part(*user, "process: user");
    part.Get("uid", p.uid);
    part.Get("gid", p.gid);
    part.Get("additionalGids", p.additional_gids);
    GANTRY_RETURN_IF_ERROR(part.status());
  }
  if (const json* size = fields.Find("consoleSize")) {
    JsonFields part(*size, "process: consoleSize");
    part.Get("width", p.console_width);
    part.Get("height", p.console_height);
    GANTRY_RETURN_IF_ERROR(part.status());
  }
  if (const json* caps = fields.Find("capabilities")) {
    JsonFields part(*caps, "process: capabilities");
    part.Get("bounding", p.bounding);
    part.Get("effective", p.effective);
    part.Get("permitted", p.permitted);
    part.Get("inheritable", p.inheritable);
    part.Get("ambient", p.ambient);
    GANTRY_RETURN_IF_ERROR(part.status());
  }
  if (const json* list = fields.Find("rlimits")) {
    if (!list->is_array()) return absl::InvalidArgumentError("process: `rlimits` is not a list");
    for (const json& item : *list) {
      Rlimit limit;
      JsonFields part(item, "process: rlimits");
      part.Get("type", limit.type);
      part.Get("soft", limit.soft);
      part.Get("hard", limit.hard);
      GANTRY_RETURN_IF_ERROR(part.status());
      p.rlimits.push_back(std::move(limit));
    }
  }
  return p;
}

std::string PrintProcess(const ProcessSpec& process) { return PrintJson(ProcessToJson(process)); }

absl::StatusOr<ProcessSpec> ParseProcess(absl::string_view bytes) {
  GANTRY_ASSIGN_OR_RETURN(const json value,
                          ParseJson(bytes, "process", {.max_bytes = kMaxSpecBytes}));
  if (!value.is_object()) return absl::InvalidArgumentError("process: not a JSON object");
  return ProcessFromJson(value);
}

json ResourcesToJson(const Resources& r) {
  json out = json::object();
  json memory = json::object();
  Put(memory, "limit", r.memory_limit_bytes);
  Put(memory, "reservation", r.memory_reservation_bytes);
  Put(memory, "swap", r.memory_swap_bytes);
  Put(memory, "swappiness", r.memory_swappiness);
  Put(memory, "disableOOMKiller", r.oom_kill_disabled);
  if (!memory.empty()) out["memory"] = std::move(memory);
  json cpu = json::object();
  Put(cpu, "shares", r.cpu_shares);
  Put(cpu, "quota", r.cpu_quota_micros);
  Put(cpu, "period", r.cpu_period_micros);
  Put(cpu, "realtimeRuntime", r.cpu_realtime_runtime_micros);
  Put(cpu, "realtimePeriod", r.cpu_realtime_period_micros);
  if (!r.cpuset_cpus.empty()) cpu["cpus"] = r.cpuset_cpus;
  if (!r.cpuset_mems.empty()) cpu["mems"] = r.cpuset_mems;
  if (!cpu.empty()) out["cpu"] = std::move(cpu);
  if (r.pids_limit.has_value()) out["pids"] = {{"limit", *r.pids_limit}};
  json block = json::object();
  Put(block, "weight", r.block_io_weight);
  for (const BlockList& list : kBlockLists) {
    for (const DeviceLimit& limit : r.*list.member) {
      block[list.key].push_back(
          {{"major", limit.major}, {"minor", limit.minor}, {list.value, limit.value}});
    }
  }
  if (!block.empty()) out["blockIO"] = std::move(block);
  for (const auto& [size, limit] : r.hugepage_limits) {
    out["hugepageLimits"].push_back({{"pageSize", size}, {"limit", limit}});
  }
  if (!r.unified.empty()) out["unified"] = r.unified;
  return out;
}

absl::StatusOr<Resources> ResourcesFromJson(const json& value) {
  Resources r;
  JsonFields fields(value, "resources");
  fields.Get("unified", r.unified);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (const json* memory = fields.Find("memory")) {
    JsonFields part(*memory, "resources: memory");
    part.Get("limit", r.memory_limit_bytes);
    part.Get("reservation", r.memory_reservation_bytes);
    part.Get("swap", r.memory_swap_bytes);
    part.Get("swappiness", r.memory_swappiness);
    part.Get("disableOOMKiller", r.oom_kill_disabled);
    GANTRY_RETURN_IF_ERROR(part.status());
  }
  if (const json* cpu = fields.Find("cpu")) {
    JsonFields part(*cpu, "resources: cpu");
    part.Get("shares", r.cpu_shares);
    part.Get("quota", r.cpu_quota_micros);
    part.Get("period", r.cpu_period_micros);
    part.Get("realtimeRuntime", r.cpu_realtime_runtime_micros);
    part.Get("realtimePeriod", r.cpu_realtime_period_micros);
    part.Get("cpus", r.cpuset_cpus);
    part.Get("mems", r.cpuset_mems);
    GANTRY_RETURN_IF_ERROR(part.status());
  }
  if (const json* pids = fields.Find("pids")) {
    JsonFields part(*pids, "resources: pids");
    part.Get("limit", r.pids_limit);
    GANTRY_RETURN_IF_ERROR(part.status());
  }
  if (const json* block = fields.Find("blockIO")) {
    JsonFields part(*block, "resources: blockIO");
    part.Get("weight", r.block_io_weight);
    GANTRY_RETURN_IF_ERROR(part.status());
    for (const BlockList& list : kBlockLists) {
      const json* items = part.Find(list.key);
      if (items == nullptr) continue;
      if (!items->is_array())
        return absl::InvalidArgumentError(
            absl::StrCat("resources: blockIO: `", list.key, "` is not a list"));
      for (const json& item : *items) {
        DeviceLimit limit;
        JsonFields entry(item, absl::StrCat("resources: blockIO: ", list.key));
        entry.Get("major", limit.major);
        entry.Get("minor", limit.minor);
        entry.Get(list.value, limit.value);
        GANTRY_RETURN_IF_ERROR(entry.status());
        (r.*list.member).push_back(limit);
      }
    }
  }
  if (const json* pages = fields.Find("hugepageLimits")) {
    if (!pages->is_array())
      return absl::InvalidArgumentError("resources: `hugepageLimits` is not a list");
    for (const json& item : *pages) {
      std::string size;
      uint64_t limit = 0;
      JsonFields part(item, "resources: hugepageLimits");
      part.Get("pageSize", size);
      part.Get("limit", limit);
      GANTRY_RETURN_IF_ERROR(part.status());
      r.hugepage_limits[size] = limit;
    }
  }
  return r;
}

std::string PrintResources(const Resources& resources) {
  return PrintJson(ResourcesToJson(resources));
}

absl::StatusOr<Resources> ParseResources(absl::string_view bytes) {
  GANTRY_ASSIGN_OR_RETURN(const json value,
                          ParseJson(bytes, "resources", {.max_bytes = kMaxSpecBytes}));
  if (!value.is_object()) return absl::InvalidArgumentError("resources: not a JSON object");
  return ResourcesFromJson(value);
}

void MergeResources(Resources& into, const Resources& change) {
  const auto take = [](auto& to, const auto& from) {
    if (from.has_value()) to = from;
  };
  take(into.memory_limit_bytes, change.memory_limit_bytes);
  take(into.memory_reservation_bytes, change.memory_reservation_bytes);
  take(into.memory_swap_bytes, change.memory_swap_bytes);
  take(into.memory_swappiness, change.memory_swappiness);
  take(into.oom_kill_disabled, change.oom_kill_disabled);
  take(into.cpu_shares, change.cpu_shares);
  take(into.cpu_quota_micros, change.cpu_quota_micros);
  take(into.cpu_period_micros, change.cpu_period_micros);
  take(into.cpu_realtime_runtime_micros, change.cpu_realtime_runtime_micros);
  take(into.cpu_realtime_period_micros, change.cpu_realtime_period_micros);
  if (!change.cpuset_cpus.empty()) into.cpuset_cpus = change.cpuset_cpus;
  if (!change.cpuset_mems.empty()) into.cpuset_mems = change.cpuset_mems;
  take(into.pids_limit, change.pids_limit);
  take(into.block_io_weight, change.block_io_weight);
  for (const BlockList& list : kBlockLists) {
    if (!(change.*list.member).empty()) into.*list.member = change.*list.member;
  }
  for (const auto& [size, limit] : change.hugepage_limits) into.hugepage_limits[size] = limit;
  for (const auto& [file, value] : change.unified) into.unified[file] = value;
}

absl::Status CheckResources(const Resources& r) {
  constexpr int64_t kMinMemory = 6 << 20;  // below it a runtime's own start does not fit
  if (r.memory_limit_bytes.has_value() && *r.memory_limit_bytes > 0 &&
      *r.memory_limit_bytes < kMinMemory) {
    return absl::InvalidArgumentError("memory limit: the minimum is 6 MiB");
  }
  if (r.memory_swap_bytes.has_value() && *r.memory_swap_bytes > 0) {
    if (r.memory_limit_bytes.value_or(0) <= 0) {
      return absl::InvalidArgumentError("memory-swap limit: set the memory limit as well");
    }
    if (*r.memory_swap_bytes < *r.memory_limit_bytes) {
      return absl::InvalidArgumentError(
          "memory-swap limit: counts memory and swap together, so it cannot be below the memory "
          "limit");
    }
  }
  if (r.memory_reservation_bytes.has_value() && r.memory_limit_bytes.value_or(0) > 0 &&
      *r.memory_reservation_bytes > *r.memory_limit_bytes) {
    return absl::InvalidArgumentError("memory reservation: above the memory limit");
  }
  if (r.memory_swappiness.has_value() && *r.memory_swappiness > 100) {
    return absl::InvalidArgumentError("memory swappiness: expected 0 to 100");
  }
  if (r.cpu_period_micros.has_value() && *r.cpu_period_micros != 0 &&
      (*r.cpu_period_micros < 1000 || *r.cpu_period_micros > 1000000)) {
    return absl::InvalidArgumentError("CPU period: expected 1000 to 1000000 microseconds");
  }
  if (r.cpu_quota_micros.has_value() && *r.cpu_quota_micros > 0 && *r.cpu_quota_micros < 1000) {
    return absl::InvalidArgumentError("CPU quota: the minimum is 1000 microseconds");
  }
  if (r.block_io_weight.has_value() && *r.block_io_weight != 0 &&
      (*r.block_io_weight < 10 || *r.block_io_weight > 1000)) {
    return absl::InvalidArgumentError("block I/O weight: expected 10 to 1000");
  }
  for (const auto& [file, value] : r.unified) {
    if (file.empty() || absl::StrContains(file, "/") ||
        absl::StrContains(value, absl::string_view("\0", 1))) {
      return absl::InvalidArgumentError(
          absl::StrCat("unified resource \"", file, "\": not the name of a cgroup file"));
    }
  }
  for (const DeviceLimit& limit : r.block_io_weight_device) {
    if (limit.value < 10 || limit.value > 1000) {
      return absl::InvalidArgumentError("block I/O weight of a device: expected 10 to 1000");
    }
  }
  GANTRY_RETURN_IF_ERROR(CheckCpuset("cpuset-cpus", r.cpuset_cpus));
  return CheckCpuset("cpuset-mems", r.cpuset_mems);
}

}  // namespace gantry::oci
