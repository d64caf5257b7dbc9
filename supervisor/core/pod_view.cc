#include "supervisor/core/pod_view.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/nri/owners.h"
#include "supervisor/nri/spec_edit.h"
#include "supervisor/nri/spec_view.h"

namespace gantry::core {
namespace {

namespace wire = nri::wire;
using State = record::v1::ContainerState;

wire::LinuxResources PodLimits(const v1::Resources& in) {
  wire::LinuxResources out;
  if (in.cpu_period_micros() > 0)
    out.mutable_cpu()->mutable_period()->set_value(static_cast<uint64_t>(in.cpu_period_micros()));
  if (in.cpu_quota_micros() != 0)
    out.mutable_cpu()->mutable_quota()->set_value(in.cpu_quota_micros());
  if (in.cpu_shares() > 0) out.mutable_cpu()->mutable_shares()->set_value(in.cpu_shares());
  if (in.memory_bytes() > 0) out.mutable_memory()->mutable_limit()->set_value(in.memory_bytes());
  return out;
}

wire::ContainerState StateOf(const LoadedContainer& container, const std::optional<Process>& task) {
  if (task.has_value()) {
    switch (task->status) {
      case ProcessStatus::kCreated:
        return wire::CONTAINER_CREATED;
      case ProcessStatus::kRunning:
        return wire::CONTAINER_RUNNING;
      case ProcessStatus::kPaused:
      case ProcessStatus::kPausing:
        return wire::CONTAINER_PAUSED;
      case ProcessStatus::kStopped:
        return wire::CONTAINER_STOPPED;
      case ProcessStatus::kUnknown:
        return wire::CONTAINER_UNKNOWN;
    }
  }
  return container.state.status() == State::CREATED ? wire::CONTAINER_CREATED
                                                    : wire::CONTAINER_STOPPED;
}

int64_t Nanos(const google::protobuf::Timestamp& at) {
  return at.seconds() * 1000000000 + at.nanos();
}
int64_t Nanos(absl::Time at) { return at == absl::InfinitePast() ? 0 : absl::ToUnixNanos(at); }

}  // namespace

wire::PodSandbox ViewOfPod(const Pod& pod, const std::string& directory, int32_t pid) {
  const v1::PodConfig& config = *pod.config;
  wire::PodSandbox out;
  out.set_id(pod.id);
  out.set_name(config.name());
  out.set_uid(config.uid());
  out.set_namespace_(config.group());
  out.mutable_labels()->insert(config.labels().begin(), config.labels().end());
  out.mutable_annotations()->insert(config.annotations().begin(), config.annotations().end());
  out.set_runtime_handler(config.runtime());
  out.set_pid(static_cast<uint32_t>(pid));
  for (const std::string& address : pod.addresses) out.add_ips(address);
  wire::LinuxPodSandbox& linux_part = *out.mutable_linux();
  linux_part.set_cgroup_parent(config.cgroup_parent());
  if (config.has_overhead()) *linux_part.mutable_pod_overhead() = PodLimits(config.overhead());
  if (config.has_resources()) *linux_part.mutable_pod_resources() = PodLimits(config.resources());
  const auto add = [&](const char* type, const char* file) {
    wire::LinuxNamespace& ns = *linux_part.add_namespaces();
    ns.set_type(type);
    ns.set_path(absl::StrCat(directory, "/", file));
  };
  if (!config.host_network()) {
    add("network", "net");
    add("uts", "uts");
  }
  if (!config.host_ipc()) add("ipc", "ipc");
  if (config.shared_pid()) add("pid", "pid");
  return out;
}

wire::Container ViewOfContainer(const LoadedContainer& container,
                                const std::optional<Process>& task) {
  wire::Container out;
  out.set_id(container.id());
  out.set_pod_sandbox_id(container.record.sandbox());
  out.mutable_labels()->insert(container.config.labels().begin(), container.config.labels().end());
  out.mutable_annotations()->insert(container.config.annotations().begin(),
                                    container.config.annotations().end());
  out.set_state(StateOf(container, task));
  out.set_created_at(Nanos(container.record.created_at()));
  out.set_started_at(Nanos(container.state.started_at()));
  if (task.has_value()) {
    out.set_pid(static_cast<uint32_t>(task->pid));
    if (task->started_at != absl::InfinitePast()) out.set_started_at(Nanos(task->started_at));
    out.set_finished_at(Nanos(task->exited_at));
    out.set_exit_code(static_cast<int32_t>(task->exit_status));
  } else if (out.state() == wire::CONTAINER_STOPPED) {
    out.set_finished_at(Nanos(container.state.finished_at()));
    out.set_exit_code(static_cast<int32_t>(container.state.exit_code()));
  }
  out.set_status_message(container.state.error());
  out.mutable_image()->set_name(container.record.image());
  out.mutable_image()->set_digest(ImageOfContainer(container.record));
  const nlohmann::json spec =
      nlohmann::json::parse(container.record.spec().value(), nullptr, /*allow_exceptions=*/false);
  nri::DescribeSpec(spec, out);
  const auto name = out.annotations().find(pod_annotation::kContainerName);
  if (name != out.annotations().end()) out.set_name(name->second);
  return out;
}

wire::Container ViewOfNewContainer(const PodContainer& container, const std::string& id,
                                   const std::string& pod_id) {
  wire::Container out;
  out.set_id(id);
  out.set_pod_sandbox_id(pod_id);
  out.set_name(container.name);
  out.set_state(wire::CONTAINER_CREATED);
  out.mutable_labels()->insert(container.config.labels().begin(), container.config.labels().end());
  out.mutable_annotations()->insert(container.config.annotations().begin(),
                                    container.config.annotations().end());
  out.mutable_image()->set_name(container.config.image());
  for (const std::string& device : container.cdi_devices) out.add_cdi_devices()->set_name(device);
  return out;
}

wire::LinuxResources ToPluginResources(const oci::Resources& resources) {
  return nri::DescribeResources(oci::ResourcesToJson(resources));
}

absl::StatusOr<oci::Resources> FromPluginResources(const wire::LinuxResources& resources) {
  nri::Owners nobody;
  nlohmann::json json = nlohmann::json::object();
  GANTRY_RETURN_IF_ERROR(nri::AdjustResources(resources, {"", "", &nobody}, json));
  return oci::ResourcesFromJson(json);
}

}  // namespace gantry::core
