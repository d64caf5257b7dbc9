#include "supervisor/oci/default_profile.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/json_fields.h"
#include "supervisor/oci/seccomp_rule.h"
#include "supervisor/oci/seccomp_table.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

// By number.
constexpr const char* kCapabilities[] = {"CAP_CHOWN",
                                         "CAP_DAC_OVERRIDE",
                                         "CAP_DAC_READ_SEARCH",
                                         "CAP_FOWNER",
                                         "CAP_FSETID",
                                         "CAP_KILL",
                                         "CAP_SETGID",
                                         "CAP_SETUID",
                                         "CAP_SETPCAP",
                                         "CAP_LINUX_IMMUTABLE",
                                         "CAP_NET_BIND_SERVICE",
                                         "CAP_NET_BROADCAST",
                                         "CAP_NET_ADMIN",
                                         "CAP_NET_RAW",
                                         "CAP_IPC_LOCK",
                                         "CAP_IPC_OWNER",
                                         "CAP_SYS_MODULE",
                                         "CAP_SYS_RAWIO",
                                         "CAP_SYS_CHROOT",
                                         "CAP_SYS_PTRACE",
                                         "CAP_SYS_PACCT",
                                         "CAP_SYS_ADMIN",
                                         "CAP_SYS_BOOT",
                                         "CAP_SYS_NICE",
                                         "CAP_SYS_RESOURCE",
                                         "CAP_SYS_TIME",
                                         "CAP_SYS_TTY_CONFIG",
                                         "CAP_MKNOD",
                                         "CAP_LEASE",
                                         "CAP_AUDIT_WRITE",
                                         "CAP_AUDIT_CONTROL",
                                         "CAP_SETFCAP",
                                         "CAP_MAC_OVERRIDE",
                                         "CAP_MAC_ADMIN",
                                         "CAP_SYSLOG",
                                         "CAP_WAKE_ALARM",
                                         "CAP_BLOCK_SUSPEND",
                                         "CAP_AUDIT_READ",
                                         "CAP_PERFMON",
                                         "CAP_BPF",
                                         "CAP_CHECKPOINT_RESTORE"};

constexpr const char* kDefaultCapabilities[] = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FOWNER",    "CAP_FSETID",
    "CAP_KILL",        "CAP_MKNOD",   "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",   "CAP_SETFCAP",
    "CAP_SETGID",      "CAP_SETPCAP", "CAP_SETUID",           "CAP_SYS_CHROOT"};

constexpr const char* kMaskedPaths[] = {"/proc/acpi",
                                        "/proc/asound",
                                        "/proc/interrupts",
                                        "/proc/kcore",
                                        "/proc/keys",
                                        "/proc/latency_stats",
                                        "/proc/sched_debug",
                                        "/proc/scsi",
                                        "/proc/timer_list",
                                        "/proc/timer_stats",
                                        "/sys/devices/virtual/powercap",
                                        "/sys/firmware"};

constexpr const char* kReadonlyPaths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                          "/proc/sysrq-trigger"};

constexpr size_t kMaxCachedProfiles = 32;

// The rules for one host and one container.
struct Filter {
  const HostFacts& host;
  std::set<absl::string_view> caps;

  bool HasCap(absl::string_view cap) const { return caps.count(cap) > 0; }
  bool KernelAtLeast(absl::string_view version) const {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(version, absl::MaxSplits('.', 1));
    int major = 0;
    int minor = 0;
    if (!absl::SimpleAtoi(parts.first, &major) || !absl::SimpleAtoi(parts.second, &minor))
      return false;
    return std::make_pair(host.kernel_major, host.kernel_minor) >= std::make_pair(major, minor);
  }
};

std::string ScmpArchitecture(absl::string_view goarch) {
  static const std::map<absl::string_view, const char*> names = {
      {"amd64", "SCMP_ARCH_X86_64"},    {"386", "SCMP_ARCH_X86"},
      {"arm64", "SCMP_ARCH_AARCH64"},   {"arm", "SCMP_ARCH_ARM"},
      {"mips64", "SCMP_ARCH_MIPS64"},   {"mips64le", "SCMP_ARCH_MIPSEL64"},
      {"s390x", "SCMP_ARCH_S390X"},     {"ppc64le", "SCMP_ARCH_PPC64LE"},
      {"riscv64", "SCMP_ARCH_RISCV64"}, {"loong64", "SCMP_ARCH_LOONGARCH64"}};
  auto it = names.find(goarch);
  return it == names.end() ? "" : it->second;
}

json Architectures(absl::string_view goarch) {
  if (goarch == "amd64") return {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  if (goarch == "arm64") return {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
  if (goarch == "mips64") return {"SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"};
  if (goarch == "mips64le")
    return {"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"};
  if (goarch == "s390x") return {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"};
  json out = json::array();
  if (std::string native = ScmpArchitecture(goarch); !native.empty()) out.push_back(native);
  return out;
}

bool ListHas(absl::string_view comma_list, absl::string_view word) {
  for (absl::string_view item : absl::StrSplit(comma_list, ',')) {
    if (item == word) return true;
  }
  return false;
}

enum Column {
  kRule,
  kSyscall,
  kAction,
  kErrno,
  kArgIndex,
  kArgOp,
  kArgValue,
  kArgValueTwo,
  kIfArch,
  kIfCap,
  kIfKernel,
  kUnlessCap,
  kUnlessArch,
  kColumns
};

bool Applies(const std::vector<absl::string_view>& row, const Filter& filter) {
  const auto set = [&](Column c) { return row[c] != "-"; };
  if (set(kIfArch) && !ListHas(row[kIfArch], filter.host.architecture)) return false;
  if (set(kIfCap) && !filter.HasCap(row[kIfCap])) return false;
  if (set(kIfKernel) && !filter.KernelAtLeast(row[kIfKernel])) return false;
  if (set(kUnlessCap) && filter.HasCap(row[kUnlessCap])) return false;
  if (set(kUnlessArch) && ListHas(row[kUnlessArch], filter.host.architecture)) return false;
  return true;
}

std::string BuildDefault(const Filter& filter) {
  json syscalls = json::array();
  std::string
      group;  // rule, action and condition of the last entry; rows that share them become one
  for (absl::string_view line : absl::StrSplit(SeccompTable(), '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> row = absl::StrSplit(line, '\t');
    if (row.size() != kColumns || row[kRule] == "rule" || !Applies(row, filter)) continue;
    const std::string key = absl::StrCat(
        row[kRule], "\t", absl::StrJoin(row.begin() + kAction, row.begin() + kIfArch, "\t"));
    if (key != group) {
      group = key;
      json entry = {{"names", json::array()}, {"action", std::string(row[kAction])}};
      uint64_t number = 0;
      if (absl::SimpleAtoi(row[kErrno], &number)) entry["errnoRet"] = number;
      if (row[kArgIndex] != "-") {
        json arg = {{"op", std::string(row[kArgOp])}};
        for (const auto& [name, column] :
             {std::pair("index", kArgIndex), std::pair("value", kArgValue),
              std::pair("valueTwo", kArgValueTwo)}) {
          if (absl::SimpleAtoi(row[column], &number)) arg[name] = number;
        }
        entry["args"] = json::array({std::move(arg)});
      }
      syscalls.push_back(std::move(entry));
    }
    syscalls.back()["names"].push_back(std::string(row[kSyscall]));
  }
  return PrintJson({{"defaultAction", "SCMP_ACT_ERRNO"},
                    {"defaultErrnoRet", 1},
                    {"architectures", Architectures(filter.host.architecture)},
                    {"syscalls", std::move(syscalls)}});
}

Filter MakeFilter(const HostFacts& host, absl::Span<const std::string> caps) {
  Filter filter{host, {}};
  filter.caps.insert(caps.begin(), caps.end());
  return filter;
}

struct Cache {
  absl::Mutex mu;
  std::map<std::string, std::shared_ptr<const std::string>> profiles ABSL_GUARDED_BY(mu);
};

// Does the `includes` or `excludes` object of a rule let the rule through?
absl::StatusOr<bool> ConditionHolds(const json& rule, const char* key, bool include,
                                    const Filter& filter) {
  JsonFields outer(rule, "seccomp profile: syscalls");
  const json* object = outer.Find(key);
  if (object == nullptr) return true;
  std::vector<std::string> caps;
  std::vector<std::string> arches;
  std::string kernel;
  JsonFields fields(*object, absl::StrCat("seccomp profile: ", key));
  fields.Get("caps", caps);
  fields.Get("arches", arches);
  fields.Get("minKernel", kernel);
  GANTRY_RETURN_IF_ERROR(fields.status());
  const bool on_arch =
      std::find(arches.begin(), arches.end(), filter.host.architecture) != arches.end();
  const auto held = [&](const std::string& cap) { return filter.HasCap(cap); };
  if (include) {
    return (arches.empty() || on_arch) && std::all_of(caps.begin(), caps.end(), held) &&
           (kernel.empty() || filter.KernelAtLeast(kernel));
  }
  return !on_arch && std::none_of(caps.begin(), caps.end(), held) &&
         (kernel.empty() || !filter.KernelAtLeast(kernel));
}

}  // namespace

absl::Span<const char* const> DefaultCapabilities() { return kDefaultCapabilities; }
absl::Span<const char* const> MaskedPaths() { return kMaskedPaths; }
absl::Span<const char* const> ReadonlyPaths() { return kReadonlyPaths; }

std::vector<std::string> AllCapabilities(const HostFacts& host) {
  std::vector<std::string> out;
  for (int i = 0; i < static_cast<int>(std::size(kCapabilities)) && i <= host.last_capability;
       ++i) {
    if ((host.bounding_capabilities >> i) & 1) out.emplace_back(kCapabilities[i]);
  }
  return out;
}

absl::StatusOr<std::string> ParseCapability(absl::string_view text) {
  std::string name = absl::AsciiStrToUpper(text);
  if (name == "ALL") return name;
  if (!absl::StartsWith(name, "CAP_")) name = absl::StrCat("CAP_", name);
  if (std::find(std::begin(kCapabilities), std::end(kCapabilities), name) ==
      std::end(kCapabilities)) {
    return absl::InvalidArgumentError(absl::StrCat("unknown capability \"", text, "\""));
  }
  return name;
}

absl::StatusOr<std::vector<std::string>> TweakCapabilities(absl::Span<const std::string> add,
                                                           absl::Span<const std::string> drop,
                                                           const HostFacts& host) {
  const auto parse =
      [](absl::Span<const std::string> list) -> absl::StatusOr<std::set<std::string>> {
    std::set<std::string> out;
    for (const std::string& text : list) {
      GANTRY_ASSIGN_OR_RETURN(std::string name, ParseCapability(text));
      out.insert(std::move(name));
    }
    return out;
  };
  GANTRY_ASSIGN_OR_RETURN(const std::set<std::string> added, parse(add));
  GANTRY_ASSIGN_OR_RETURN(const std::set<std::string> dropped, parse(drop));

  std::set<std::string> wanted;
  if (added.count("ALL") > 0) {
    for (const char* cap : kCapabilities) {
      if (dropped.count(cap) == 0) wanted.insert(cap);
    }
  } else if (dropped.count("ALL") == 0) {
    for (const char* cap : kDefaultCapabilities) {
      if (dropped.count(cap) == 0) wanted.insert(cap);
    }
  }
  wanted.insert(added.begin(),
                added.end());  // what is both added and dropped is added, as in docker

  // What we have not got ourselves a runtime cannot give: it would refuse to start.
  std::vector<std::string> out;
  for (std::string& cap : AllCapabilities(host)) {
    const bool add_and_drop_all = added.count("ALL") > 0 && dropped.count(cap) > 0;
    if (wanted.count(cap) > 0 && !add_and_drop_all) out.push_back(std::move(cap));
  }
  return out;
}

std::shared_ptr<const std::string> DefaultSeccomp(
    const HostFacts& host, absl::Span<const std::string> bounding_capabilities) {
  static Cache& cache =
      *new Cache;  // NOLINT(cppcoreguidelines-owning-memory): lives as long as the process
  std::string key = absl::StrCat(host.architecture, " ", host.kernel_major, ".", host.kernel_minor);
  std::set<absl::string_view> sorted(bounding_capabilities.begin(), bounding_capabilities.end());
  absl::StrAppend(&key, " ", absl::StrJoin(sorted, ","));
  absl::MutexLock lock(&cache.mu);
  auto it = cache.profiles.find(key);
  if (it != cache.profiles.end()) return it->second;
  if (cache.profiles.size() >= kMaxCachedProfiles) cache.profiles.clear();
  auto text =
      std::make_shared<const std::string>(BuildDefault(MakeFilter(host, bounding_capabilities)));
  cache.profiles.emplace(std::move(key), text);
  return text;
}

absl::StatusOr<std::string> ResolveSeccomp(absl::string_view profile_json, const HostFacts& host,
                                           absl::Span<const std::string> bounding_capabilities) {
  GANTRY_ASSIGN_OR_RETURN(const json profile, ParseJson(profile_json, "seccomp profile"));
  if (!profile.is_object()) return absl::InvalidArgumentError("seccomp profile: not a JSON object");
  const Filter filter = MakeFilter(host, bounding_capabilities);
  JsonFields fields(profile, "seccomp profile");
  std::string default_action;
  std::optional<uint32_t> default_errno;
  std::vector<std::string> architectures;
  std::vector<std::string> flags;
  std::string listener_path;
  std::string listener_metadata;
  fields.Get("defaultAction", default_action);
  fields.Get("defaultErrnoRet", default_errno);
  fields.Get("architectures", architectures);
  fields.Get("flags", flags);
  fields.Get("listenerPath", listener_path);
  fields.Get("listenerMetadata", listener_metadata);
  GANTRY_RETURN_IF_ERROR(fields.status());
  GANTRY_RETURN_IF_ERROR(CheckSeccompAction(default_action));

  const json* arch_map = fields.Find("archMap");
  if (arch_map != nullptr && !arch_map->empty()) {
    if (!arch_map->is_array())
      return absl::InvalidArgumentError("seccomp profile: `archMap` is not a list");
    if (!architectures.empty()) {
      return absl::InvalidArgumentError("seccomp profile: has both `architectures` and `archMap`");
    }
    for (const json& item : *arch_map) {
      std::string name;
      std::vector<std::string> sub;
      JsonFields parts(item, "seccomp profile: archMap");
      parts.Get("architecture", name);
      parts.Get("subArchitectures", sub);
      GANTRY_RETURN_IF_ERROR(parts.status());
      if (name != ScmpArchitecture(host.architecture)) continue;
      architectures.push_back(name);
      architectures.insert(architectures.end(), sub.begin(), sub.end());
      break;
    }
  }

  json out = {{"defaultAction", default_action}};
  if (default_errno.has_value()) out["defaultErrnoRet"] = *default_errno;
  if (!architectures.empty()) out["architectures"] = architectures;
  if (!flags.empty()) out["flags"] = flags;
  if (!listener_path.empty()) out["listenerPath"] = listener_path;
  if (!listener_metadata.empty()) out["listenerMetadata"] = listener_metadata;
  json rules = json::array();
  if (const json* syscalls = fields.Find("syscalls")) {
    if (!syscalls->is_array())
      return absl::InvalidArgumentError("seccomp profile: `syscalls` is not a list");
    for (const json& rule : *syscalls) {
      GANTRY_ASSIGN_OR_RETURN(const bool included, ConditionHolds(rule, "includes", true, filter));
      GANTRY_ASSIGN_OR_RETURN(const bool kept, ConditionHolds(rule, "excludes", false, filter));
      if (!included || !kept) continue;
      GANTRY_ASSIGN_OR_RETURN(const SeccompRule resolved, ParseSeccompRule(rule));
      rules.push_back(PrintSeccompRule(resolved));
    }
  }
  if (!rules.empty()) out["syscalls"] = std::move(rules);
  return PrintJson(out);
}

}  // namespace gantry::oci
