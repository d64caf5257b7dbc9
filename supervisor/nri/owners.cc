#include "supervisor/nri/owners.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gantry::nri {

absl::string_view FieldName(wire::Field field) {
  static const auto* names = new std::map<wire::Field, absl::string_view>{
      {wire::Annotations, "annotation"},
      {wire::Mounts, "mount"},
      {wire::OciHooks, "hooks"},
      {wire::Devices, "device"},
      {wire::CdiDevices, "CDI device"},
      {wire::Env, "environment variable"},
      {wire::Args, "command line"},
      {wire::MemLimit, "memory limit"},
      {wire::MemReservation, "memory reservation"},
      {wire::MemSwapLimit, "swap limit"},
      {wire::MemKernelLimit, "kernel memory limit"},
      {wire::MemTCPLimit, "TCP memory limit"},
      {wire::MemSwappiness, "swappiness"},
      {wire::MemDisableOomKiller, "switch of the OOM killer"},
      {wire::MemUseHierarchy, "memory hierarchy"},
      {wire::CPUShares, "CPU shares"},
      {wire::CPUQuota, "CPU quota"},
      {wire::CPUPeriod, "CPU period"},
      {wire::CPURealtimeRuntime, "realtime runtime"},
      {wire::CPURealtimePeriod, "realtime period"},
      {wire::CPUSetCPUs, "CPU set"},
      {wire::CPUSetMems, "set of memory nodes"},
      {wire::PidsLimit, "pids limit"},
      {wire::HugepageLimits, "limit of huge pages"},
      {wire::BlockioClass, "block I/O class"},
      {wire::RdtClass, "RDT class"},
      {wire::CgroupsUnified, "cgroup setting"},
      {wire::CgroupsPath, "cgroup path"},
      {wire::OomScoreAdj, "OOM score"},
      {wire::Rlimits, "rlimit"},
      {wire::IoPriority, "I/O priority"},
      {wire::SeccompPolicy, "seccomp policy"},
      {wire::Namespace, "namespace"},
      {wire::Sysctl, "sysctl"},
      {wire::LinuxNetDevices, "network device"},
      {wire::LinuxSched, "scheduler"},
      {wire::RdtClosID, "RDT class of service"},
      {wire::RdtSchemata, "RDT schemata"},
      {wire::RdtEnableMonitoring, "RDT monitoring"},
      {wire::MemoryPolicy, "memory policy"},
  };
  const auto found = names->find(field);
  return found == names->end() ? "field" : found->second;
}

absl::Status Owners::Claim(const std::string& container, wire::Field field, const std::string& key,
                           const std::string& plugin) {
  const auto [place, fresh] = owners_.emplace(Key(container, field, key), plugin);
  if (fresh || place->second == plugin) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("NRI plugins ", place->second, " and ", plugin, " both set ", FieldName(field),
                   key.empty() ? "" : absl::StrCat(" \"", key, "\""), " of container ",
                   container.substr(0, 12)));
}

void Owners::ClaimHooks(const std::string& container, const std::string& plugin) {
  std::string& owner = owners_[Key(container, wire::OciHooks, "")];
  absl::StrAppend(&owner, owner.empty() ? "" : ",", plugin);
}

void Owners::Release(const std::string& container, wire::Field field, const std::string& key) {
  owners_.erase(Key(container, field, key));
}

wire::OwningPlugins Owners::ToProto() const {
  wire::OwningPlugins out;
  for (const auto& [key, plugin] : owners_) {
    const auto& [container, field, name] = key;
    wire::FieldOwners& fields = (*out.mutable_owners())[container];
    if (name.empty()) {
      (*fields.mutable_simple())[static_cast<int32_t>(field)] = plugin;
    } else {
      (*(*fields.mutable_compound())[static_cast<int32_t>(field)].mutable_owners())[name] = plugin;
    }
  }
  return out;
}

}  // namespace gantry::nri
