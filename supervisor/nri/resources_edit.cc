// Limits that plugins set: in a configuration, and in an update that is under way.
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/nri/spec_edit.h"

namespace gantry::nri {
namespace {

using nlohmann::json;

// What is set in `change`, one field after the other, each claimed. `set` is called with the place
// in the configuration.
class Fields {
 public:
  Fields(const Editor& editor, json& resources) : editor_(editor), resources_(resources) {}

  template <class Value>
  absl::Status Set(bool has, wire::Field field, const char* group, const char* key, Value value) {
    if (!has) return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(editor_.owners->Claim(editor_.container, field, "", editor_.plugin));
    json& object = resources_[group];
    if (!object.is_object()) object = json::object();
    object[key] = value;
    return absl::OkStatus();
  }

 private:
  const Editor& editor_;
  json& resources_;
};

absl::Status AdjustMemory(const wire::LinuxMemory& in, const Editor& editor, json& resources) {
  Fields fields(editor, resources);
  GANTRY_RETURN_IF_ERROR(
      fields.Set(in.has_limit(), wire::MemLimit, "memory", "limit", in.limit().value()));
  GANTRY_RETURN_IF_ERROR(fields.Set(in.has_reservation(), wire::MemReservation, "memory",
                                    "reservation", in.reservation().value()));
  GANTRY_RETURN_IF_ERROR(
      fields.Set(in.has_swap(), wire::MemSwapLimit, "memory", "swap", in.swap().value()));
  GANTRY_RETURN_IF_ERROR(
      fields.Set(in.has_kernel(), wire::MemKernelLimit, "memory", "kernel", in.kernel().value()));
  GANTRY_RETURN_IF_ERROR(fields.Set(in.has_kernel_tcp(), wire::MemTCPLimit, "memory", "kernelTCP",
                                    in.kernel_tcp().value()));
  GANTRY_RETURN_IF_ERROR(fields.Set(in.has_swappiness(), wire::MemSwappiness, "memory",
                                    "swappiness", in.swappiness().value()));
  GANTRY_RETURN_IF_ERROR(fields.Set(in.has_disable_oom_killer(), wire::MemDisableOomKiller,
                                    "memory", "disableOOMKiller", in.disable_oom_killer().value()));
  GANTRY_RETURN_IF_ERROR(fields.Set(in.has_use_hierarchy(), wire::MemUseHierarchy, "memory",
                                    "useHierarchy", in.use_hierarchy().value()));
  // Memory and swap together cannot be less than memory alone; a limit that grows takes them along.
  if (in.has_limit() && !in.has_swap()) {
    json& memory = resources["memory"];
    if (memory.contains("swap") && memory["swap"].is_number_integer() &&
        memory["swap"].get<int64_t>() >= 0 && memory["swap"].get<int64_t>() < in.limit().value())
      memory["swap"] = in.limit().value();
  }
  return absl::OkStatus();
}

absl::Status AdjustCpu(const wire::LinuxCPU& in, const Editor& editor, json& resources) {
  Fields fields(editor, resources);
  GANTRY_RETURN_IF_ERROR(
      fields.Set(in.has_shares(), wire::CPUShares, "cpu", "shares", in.shares().value()));
  GANTRY_RETURN_IF_ERROR(
      fields.Set(in.has_quota(), wire::CPUQuota, "cpu", "quota", in.quota().value()));
  GANTRY_RETURN_IF_ERROR(
      fields.Set(in.has_period(), wire::CPUPeriod, "cpu", "period", in.period().value()));
  GANTRY_RETURN_IF_ERROR(fields.Set(in.has_realtime_runtime(), wire::CPURealtimeRuntime, "cpu",
                                    "realtimeRuntime", in.realtime_runtime().value()));
  GANTRY_RETURN_IF_ERROR(fields.Set(in.has_realtime_period(), wire::CPURealtimePeriod, "cpu",
                                    "realtimePeriod", in.realtime_period().value()));
  GANTRY_RETURN_IF_ERROR(
      fields.Set(!in.cpus().empty(), wire::CPUSetCPUs, "cpu", "cpus", in.cpus()));
  return fields.Set(!in.mems().empty(), wire::CPUSetMems, "cpu", "mems", in.mems());
}

}  // namespace

absl::Status AdjustResources(const wire::LinuxResources& change, const Editor& editor,
                             json& resources) {
  if (!resources.is_object()) resources = json::object();
  GANTRY_RETURN_IF_ERROR(AdjustMemory(change.memory(), editor, resources));
  GANTRY_RETURN_IF_ERROR(AdjustCpu(change.cpu(), editor, resources));
  if (change.has_pids()) {
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::PidsLimit, "", editor.plugin));
    resources["pids"] = {{"limit", change.pids().limit()}};
  }
  for (const wire::HugepageLimit& limit : change.hugepage_limits()) {
    GANTRY_RETURN_IF_ERROR(editor.owners->Claim(editor.container, wire::HugepageLimits,
                                                limit.page_size(), editor.plugin));
    json& limits = resources["hugepageLimits"];
    if (!limits.is_array()) limits = json::array();
    for (auto it = limits.begin(); it != limits.end();)
      it = it->value("pageSize", "") == limit.page_size() ? limits.erase(it) : it + 1;
    limits.push_back({{"pageSize", limit.page_size()}, {"limit", limit.limit()}});
  }
  for (const auto& [file, value] : change.unified()) {
    GANTRY_RETURN_IF_ERROR(
        editor.owners->Claim(editor.container, wire::CgroupsUnified, file, editor.plugin));
    json& unified = resources["unified"];
    if (!unified.is_object()) unified = json::object();
    unified[file] = value;
  }
  for (const wire::LinuxDeviceCgroup& rule : change.devices()) {
    json one = {{"allow", rule.allow()}};
    if (!rule.type().empty()) one["type"] = rule.type();
    if (rule.has_major()) one["major"] = rule.major().value();
    if (rule.has_minor()) one["minor"] = rule.minor().value();
    if (!rule.access().empty()) one["access"] = rule.access();
    json& rules = resources["devices"];
    if (!rules.is_array()) rules = json::array();
    rules.push_back(std::move(one));
  }
  // Classes are names of settings in a file of the runtime's; there is none here. "" is no class.
  if (!change.blockio_class().value().empty()) {
    return Refused(editor, absl::StrCat("block I/O class \"", change.blockio_class().value(),
                                        "\": no classes are configured here"));
  }
  if (!change.rdt_class().value().empty()) {
    return Refused(editor, absl::StrCat("RDT class \"", change.rdt_class().value(),
                                        "\": no classes are configured here"));
  }
  return absl::OkStatus();
}

absl::Status MergeResources(const wire::LinuxResources& change, const Editor& editor,
                            wire::LinuxResources& into) {
  // The rules of who may set what are those of a configuration: claimed there, merged here.
  json scratch = json::object();
  GANTRY_RETURN_IF_ERROR(AdjustResources(change, editor, scratch));
  for (const wire::HugepageLimit& limit : change.hugepage_limits()) {
    auto* limits = into.mutable_hugepage_limits();
    for (int i = limits->size() - 1; i >= 0; --i) {
      if (limits->Get(i).page_size() == limit.page_size()) limits->DeleteSubrange(i, 1);
    }
  }
  into.MergeFrom(change);
  return absl::OkStatus();
}

}  // namespace gantry::nri
