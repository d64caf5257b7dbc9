#include "supervisor/nri/spec_view.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include <nlohmann/json.hpp>

namespace gantry::nri {
namespace {

using nlohmann::json;

const json& At(const json& object, const char* key) {
  static const json* const none = new json;
  if (!object.is_object()) return *none;
  const auto found = object.find(key);
  return found == object.end() ? *none : *found;
}
std::string Text(const json& object, const char* key) {
  const json& value = At(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}
template <class Number>
Number NumberAt(const json& object, const char* key) {
  const json& value = At(object, key);
  return value.is_number() ? value.get<Number>() : Number{};
}

template <class List>
void Texts(const json& list, List* out) {
  if (!list.is_array()) return;
  for (const json& one : list) {
    if (one.is_string()) *out->Add() = one.get<std::string>();
  }
}

// Sets the message of an optional value where the configuration has it.
template <class Number, class Message>
void Optional(const json& object, const char* key, Message* (wire::LinuxMemory::*mutable_field)(),
              wire::LinuxMemory& out) {
  if (At(object, key).is_number()) (out.*mutable_field)()->set_value(At(object, key).get<Number>());
}
template <class Number, class Message>
void Optional(const json& object, const char* key, Message* (wire::LinuxCPU::*mutable_field)(),
              wire::LinuxCPU& out) {
  if (At(object, key).is_number()) (out.*mutable_field)()->set_value(At(object, key).get<Number>());
}

void DescribeHooks(const json& hooks, const char* stage,
                   google::protobuf::RepeatedPtrField<wire::Hook>* out) {
  const json& list = At(hooks, stage);
  if (!list.is_array()) return;
  for (const json& one : list) {
    wire::Hook& hook = *out->Add();
    hook.set_path(Text(one, "path"));
    Texts(At(one, "args"), hook.mutable_args());
    Texts(At(one, "env"), hook.mutable_env());
    if (At(one, "timeout").is_number())
      hook.mutable_timeout()->set_value(NumberAt<int64_t>(one, "timeout"));
  }
}

void DescribeProcess(const json& process, wire::Container& out) {
  Texts(At(process, "args"), out.mutable_args());
  Texts(At(process, "env"), out.mutable_env());
  const json& user = At(process, "user");
  out.mutable_user()->set_uid(NumberAt<uint32_t>(user, "uid"));
  out.mutable_user()->set_gid(NumberAt<uint32_t>(user, "gid"));
  if (const json& gids = At(user, "additionalGids"); gids.is_array()) {
    for (const json& gid : gids) {
      if (gid.is_number()) out.mutable_user()->add_additional_gids(gid.get<uint32_t>());
    }
  }
  if (const json& rlimits = At(process, "rlimits"); rlimits.is_array()) {
    for (const json& one : rlimits) {
      wire::POSIXRlimit& limit = *out.add_rlimits();
      limit.set_type(Text(one, "type"));
      limit.set_hard(NumberAt<uint64_t>(one, "hard"));
      limit.set_soft(NumberAt<uint64_t>(one, "soft"));
    }
  }
  if (At(process, "oomScoreAdj").is_number()) {
    out.mutable_linux()->mutable_oom_score_adj()->set_value(
        NumberAt<int64_t>(process, "oomScoreAdj"));
  }
}

void DescribeSeccomp(const json& in, wire::LinuxSeccomp& out) {
  out.set_default_action(Text(in, "defaultAction"));
  if (At(in, "defaultErrnoRet").is_number())
    out.mutable_default_errno()->set_value(NumberAt<uint32_t>(in, "defaultErrnoRet"));
  Texts(At(in, "architectures"), out.mutable_architectures());
  Texts(At(in, "flags"), out.mutable_flags());
  out.set_listener_path(Text(in, "listenerPath"));
  out.set_listener_metadata(Text(in, "listenerMetadata"));
  const json& rules = At(in, "syscalls");
  if (!rules.is_array()) return;
  for (const json& one : rules) {
    wire::LinuxSyscall& rule = *out.add_syscalls();
    Texts(At(one, "names"), rule.mutable_names());
    rule.set_action(Text(one, "action"));
    if (At(one, "errnoRet").is_number())
      rule.mutable_errno_ret()->set_value(NumberAt<uint32_t>(one, "errnoRet"));
    const json& args = At(one, "args");
    if (!args.is_array()) continue;
    for (const json& arg : args) {
      wire::LinuxSeccompArg& condition = *rule.add_args();
      condition.set_index(NumberAt<uint32_t>(arg, "index"));
      condition.set_value(NumberAt<uint64_t>(arg, "value"));
      condition.set_value_two(NumberAt<uint64_t>(arg, "valueTwo"));
      condition.set_op(Text(arg, "op"));
    }
  }
}

void DescribeDevices(const json& devices, wire::LinuxContainer& out) {
  if (!devices.is_array()) return;
  for (const json& one : devices) {
    wire::LinuxDevice& device = *out.add_devices();
    device.set_path(Text(one, "path"));
    device.set_type(Text(one, "type"));
    device.set_major(NumberAt<int64_t>(one, "major"));
    device.set_minor(NumberAt<int64_t>(one, "minor"));
    if (At(one, "fileMode").is_number())
      device.mutable_file_mode()->set_value(NumberAt<uint32_t>(one, "fileMode"));
    if (At(one, "uid").is_number()) device.mutable_uid()->set_value(NumberAt<uint32_t>(one, "uid"));
    if (At(one, "gid").is_number()) device.mutable_gid()->set_value(NumberAt<uint32_t>(one, "gid"));
  }
}

void DescribeLinux(const json& in, wire::LinuxContainer& out) {
  if (const json& namespaces = At(in, "namespaces"); namespaces.is_array()) {
    for (const json& one : namespaces) {
      wire::LinuxNamespace& ns = *out.add_namespaces();
      ns.set_type(Text(one, "type"));
      ns.set_path(Text(one, "path"));
    }
  }
  DescribeDevices(At(in, "devices"), out);
  *out.mutable_resources() = DescribeResources(At(in, "resources"));
  out.set_cgroups_path(Text(in, "cgroupsPath"));
  if (const json& seccomp = At(in, "seccomp"); seccomp.is_object())
    DescribeSeccomp(seccomp, *out.mutable_seccomp_policy());
  if (const json& sysctl = At(in, "sysctl"); sysctl.is_object()) {
    for (const auto& [name, value] : sysctl.items()) {
      if (value.is_string()) (*out.mutable_sysctl())[name] = value.get<std::string>();
    }
  }
  if (const json& devices = At(in, "netDevices"); devices.is_object()) {
    for (const auto& [name, device] : devices.items())
      (*out.mutable_net_devices())[name].set_name(Text(device, "name"));
  }
  const json& rdt = At(in, "intelRdt");
  if (At(rdt, "closID").is_string())
    out.mutable_rdt()->mutable_clos_id()->set_value(Text(rdt, "closID"));
  if (At(rdt, "schemata").is_array())
    Texts(At(rdt, "schemata"), out.mutable_rdt()->mutable_schemata()->mutable_value());
}

}  // namespace

wire::LinuxResources DescribeResources(const json& in) {
  wire::LinuxResources out;
  const json& memory = At(in, "memory");
  if (memory.is_object()) {
    wire::LinuxMemory& to = *out.mutable_memory();
    Optional<int64_t>(memory, "limit", &wire::LinuxMemory::mutable_limit, to);
    Optional<int64_t>(memory, "reservation", &wire::LinuxMemory::mutable_reservation, to);
    Optional<int64_t>(memory, "swap", &wire::LinuxMemory::mutable_swap, to);
    Optional<int64_t>(memory, "kernel", &wire::LinuxMemory::mutable_kernel, to);
    Optional<int64_t>(memory, "kernelTCP", &wire::LinuxMemory::mutable_kernel_tcp, to);
    Optional<uint64_t>(memory, "swappiness", &wire::LinuxMemory::mutable_swappiness, to);
    if (At(memory, "disableOOMKiller").is_boolean()) {
      to.mutable_disable_oom_killer()->set_value(At(memory, "disableOOMKiller").get<bool>());
    }
    if (At(memory, "useHierarchy").is_boolean())
      to.mutable_use_hierarchy()->set_value(At(memory, "useHierarchy").get<bool>());
  }
  const json& cpu = At(in, "cpu");
  if (cpu.is_object()) {
    wire::LinuxCPU& to = *out.mutable_cpu();
    Optional<uint64_t>(cpu, "shares", &wire::LinuxCPU::mutable_shares, to);
    Optional<int64_t>(cpu, "quota", &wire::LinuxCPU::mutable_quota, to);
    Optional<uint64_t>(cpu, "period", &wire::LinuxCPU::mutable_period, to);
    Optional<int64_t>(cpu, "realtimeRuntime", &wire::LinuxCPU::mutable_realtime_runtime, to);
    Optional<uint64_t>(cpu, "realtimePeriod", &wire::LinuxCPU::mutable_realtime_period, to);
    to.set_cpus(Text(cpu, "cpus"));
    to.set_mems(Text(cpu, "mems"));
  }
  if (const json& limits = At(in, "hugepageLimits"); limits.is_array()) {
    for (const json& one : limits) {
      wire::HugepageLimit& limit = *out.add_hugepage_limits();
      limit.set_page_size(Text(one, "pageSize"));
      limit.set_limit(NumberAt<uint64_t>(one, "limit"));
    }
  }
  if (const json& unified = At(in, "unified"); unified.is_object()) {
    for (const auto& [name, value] : unified.items()) {
      if (value.is_string()) (*out.mutable_unified())[name] = value.get<std::string>();
    }
  }
  if (const json& devices = At(in, "devices"); devices.is_array()) {
    for (const json& one : devices) {
      wire::LinuxDeviceCgroup& rule = *out.add_devices();
      rule.set_allow(At(one, "allow").is_boolean() && At(one, "allow").get<bool>());
      rule.set_type(Text(one, "type"));
      rule.set_access(Text(one, "access"));
      if (At(one, "major").is_number())
        rule.mutable_major()->set_value(NumberAt<int64_t>(one, "major"));
      if (At(one, "minor").is_number())
        rule.mutable_minor()->set_value(NumberAt<int64_t>(one, "minor"));
    }
  }
  if (const json& pids = At(in, "pids"); At(pids, "limit").is_number())
    out.mutable_pids()->set_limit(NumberAt<int64_t>(pids, "limit"));
  return out;
}

void DescribeSpec(const json& spec, wire::Container& out) {
  if (const json& annotations = At(spec, "annotations"); annotations.is_object()) {
    for (const auto& [name, value] : annotations.items()) {
      if (value.is_string()) (*out.mutable_annotations())[name] = value.get<std::string>();
    }
  }
  DescribeProcess(At(spec, "process"), out);
  if (const json& mounts = At(spec, "mounts"); mounts.is_array()) {
    for (const json& one : mounts) {
      wire::Mount& mount = *out.add_mounts();
      mount.set_destination(Text(one, "destination"));
      mount.set_type(Text(one, "type"));
      mount.set_source(Text(one, "source"));
      Texts(At(one, "options"), mount.mutable_options());
    }
  }
  const json& hooks = At(spec, "hooks");
  if (hooks.is_object()) {
    wire::Hooks& to = *out.mutable_hooks();
    DescribeHooks(hooks, "prestart", to.mutable_prestart());
    DescribeHooks(hooks, "createRuntime", to.mutable_create_runtime());
    DescribeHooks(hooks, "createContainer", to.mutable_create_container());
    DescribeHooks(hooks, "startContainer", to.mutable_start_container());
    DescribeHooks(hooks, "poststart", to.mutable_poststart());
    DescribeHooks(hooks, "poststop", to.mutable_poststop());
  }
  DescribeLinux(At(spec, "linux"), *out.mutable_linux());
}

}  // namespace gantry::nri
