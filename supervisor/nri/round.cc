// What plugins are asked about pods and containers.
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/nri/owners.h"
#include "supervisor/nri/plugin.h"
#include "supervisor/nri/plugins.h"
#include "supervisor/nri/spec_edit.h"
#include "supervisor/nri/spec_view.h"

namespace gantry::nri {
namespace {

wire::StateChangeEvent StateChange(wire::Event event, const wire::PodSandbox& pod,
                                   const wire::Container* container) {
  wire::StateChangeEvent out;
  out.set_event(event);
  *out.mutable_pod() = pod;
  if (container != nullptr) *out.mutable_container() = *container;
  return out;
}

// The updates of one plugin, added to those of others before it. `self` is the container that the
// request is about: what concerns it goes to `own`, or is refused where there is none.
absl::Status TakeUpdates(const google::protobuf::RepeatedPtrField<wire::ContainerUpdate>& in,
                         const std::string& plugin, const std::string& self, Owners& owners,
                         wire::LinuxResources* own, std::vector<wire::ContainerUpdate>& out) {
  for (const wire::ContainerUpdate& update : in) {
    if (update.container_id().empty())
      return absl::InvalidArgumentError(
          absl::StrCat("NRI plugin ", plugin, ": an update that names no container"));
    const Editor editor = {update.container_id(), plugin, &owners};
    wire::LinuxResources* into = nullptr;
    if (update.container_id() == self) {
      if (own == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat("NRI plugin ", plugin, ": an update of container ", self.substr(0, 12),
                         ", which is just being created; adjust it instead"));
      }
      into = own;
    } else {
      for (wire::ContainerUpdate& known : out) {
        if (known.container_id() == update.container_id())
          into = known.mutable_linux()->mutable_resources();
      }
      if (into == nullptr) {
        wire::ContainerUpdate& fresh = out.emplace_back();
        fresh.set_container_id(update.container_id());
        fresh.set_ignore_failure(update.ignore_failure());
        into = fresh.mutable_linux()->mutable_resources();
      }
    }
    const absl::Status merged = MergeResources(update.linux().resources(), editor, *into);
    if (!merged.ok() && !update.ignore_failure()) return merged;
  }
  return absl::OkStatus();
}

// An answer that is no text cannot be put into a configuration. Names the plugin.
absl::Status CheckPrintable(const nlohmann::json& spec, const std::string& plugin) {
  try {
    (void)spec.dump();
  } catch (const nlohmann::json::exception&) {
    return absl::InvalidArgumentError(
        absl::StrCat("NRI plugin ", plugin, ": its adjustment is not UTF-8"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Plugins::Round::AskAll(wire::Event event, const char* method,
                                    const google::protobuf::MessageLite& request,
                                    const wire::PodSandbox& pod, const wire::Container* container) {
  for (const std::shared_ptr<Plugin>& plugin : asked_) {
    bool answered = false;
    GANTRY_RETURN_IF_ERROR(plugin->Ask(event, method, request, StateChange(event, pod, container),
                                       Plugin::IfBusy::kWait, nullptr, &answered));
  }
  return absl::OkStatus();
}

void Plugins::Round::TellAll(wire::Event event, const char* method,
                             const google::protobuf::MessageLite& request,
                             const wire::PodSandbox& pod, const wire::Container* container) {
  for (const std::shared_ptr<Plugin>& plugin : asked_) {
    bool answered = false;
    const absl::Status told =
        plugin->Ask(event, method, request, StateChange(event, pod, container),
                    Plugin::IfBusy::kPutOff, nullptr, &answered);
    LOG_IF(WARNING, !told.ok()) << "pod=" << pod.id() << " " << told;
  }
}

absl::Status Plugins::Round::RunPodSandbox(const wire::PodSandbox& pod) {
  wire::RunPodSandboxRequest request;
  *request.mutable_pod() = pod;
  return AskAll(wire::RUN_POD_SANDBOX, "RunPodSandbox", request, pod, nullptr);
}

absl::Status Plugins::Round::UpdatePodSandbox(const wire::PodSandbox& pod,
                                              const wire::LinuxResources& overhead,
                                              const wire::LinuxResources& resources) {
  wire::UpdatePodSandboxRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_overhead_linux_resources() = overhead;
  *request.mutable_linux_resources() = resources;
  return AskAll(wire::UPDATE_POD_SANDBOX, "UpdatePodSandbox", request, pod, nullptr);
}

void Plugins::Round::PostUpdatePodSandbox(const wire::PodSandbox& pod) {
  wire::PostUpdatePodSandboxRequest request;
  *request.mutable_pod() = pod;
  TellAll(wire::POST_UPDATE_POD_SANDBOX, "PostUpdatePodSandbox", request, pod, nullptr);
}

void Plugins::Round::StopPodSandbox(const wire::PodSandbox& pod) {
  wire::StopPodSandboxRequest request;
  *request.mutable_pod() = pod;
  TellAll(wire::STOP_POD_SANDBOX, "StopPodSandbox", request, pod, nullptr);
}

void Plugins::Round::RemovePodSandbox(const wire::PodSandbox& pod) {
  wire::RemovePodSandboxRequest request;
  *request.mutable_pod() = pod;
  TellAll(wire::REMOVE_POD_SANDBOX, "RemovePodSandbox", request, pod, nullptr);
}

absl::StatusOr<Plugins::Created> Plugins::Round::CreateContainer(const wire::PodSandbox& pod,
                                                                 const wire::Container& container,
                                                                 nlohmann::json& spec) {
  Created created;
  Owners owners;
  wire::ContainerAdjustment all;
  for (const std::shared_ptr<Plugin>& plugin : asked_) {
    if (!plugin->Wants(wire::CREATE_CONTAINER)) continue;
    wire::CreateContainerRequest request;
    *request.mutable_pod() = pod;
    // With what the plugins before it have changed.
    *request.mutable_container() = container;
    DescribeSpec(spec, *request.mutable_container());
    wire::CreateContainerResponse answer;
    bool answered = false;
    GANTRY_RETURN_IF_ERROR(plugin->Ask(wire::CREATE_CONTAINER, "CreateContainer", request, {},
                                       Plugin::IfBusy::kWait, &answer, &answered));
    if (!answered) continue;
    const std::string name = plugin->full_name();
    if (answer.has_adjust()) {
      const Editor editor = {container.id(), name, &owners};
      GANTRY_RETURN_IF_ERROR(Adjust(answer.adjust(), editor, spec, created.cdi_devices));
      GANTRY_RETURN_IF_ERROR(CheckPrintable(spec, name));
      all.MergeFrom(answer.adjust());
    }
    GANTRY_RETURN_IF_ERROR(
        TakeUpdates(answer.update(), name, container.id(), owners, nullptr, created.updates));
    created.evictions.insert(created.evictions.end(), answer.evict().begin(), answer.evict().end());
  }
  GANTRY_RETURN_IF_ERROR(Validate(pod, container, all, created, owners.ToProto()));
  return created;
}

absl::Status Plugins::Round::Validate(const wire::PodSandbox& pod, const wire::Container& container,
                                      const wire::ContainerAdjustment& adjustment,
                                      const Created& created, const wire::OwningPlugins& owners) {
  wire::ValidateContainerAdjustmentRequest request;
  for (const std::shared_ptr<Plugin>& plugin : asked_) {
    if (!plugin->Wants(wire::VALIDATE_CONTAINER_ADJUSTMENT)) continue;
    if (!request.has_pod()) {
      *request.mutable_pod() = pod;
      *request.mutable_container() = container;
      *request.mutable_adjust() = adjustment;
      for (const wire::ContainerUpdate& update : created.updates) *request.add_update() = update;
      *request.mutable_owners() = owners;
      for (const std::shared_ptr<Plugin>& other : asked_) {
        wire::PluginInstance& instance = *request.add_plugins();
        instance.set_name(other->name());
        instance.set_index(other->index());
      }
    }
    wire::ValidateContainerAdjustmentResponse answer;
    bool answered = false;
    GANTRY_RETURN_IF_ERROR(plugin->Ask(wire::VALIDATE_CONTAINER_ADJUSTMENT,
                                       "ValidateContainerAdjustment", request, {},
                                       Plugin::IfBusy::kWait, &answer, &answered));
    if (answered && answer.reject()) {
      return absl::FailedPreconditionError(
          absl::StrCat("NRI plugin ", plugin->full_name(), " rejects the adjustments of container ",
                       container.id().substr(0, 12), ": ", answer.reason()));
    }
  }
  return absl::OkStatus();
}

void Plugins::Round::PostCreateContainer(const wire::PodSandbox& pod,
                                         const wire::Container& container) {
  wire::PostCreateContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  TellAll(wire::POST_CREATE_CONTAINER, "PostCreateContainer", request, pod, &container);
}

absl::Status Plugins::Round::StartContainer(const wire::PodSandbox& pod,
                                            const wire::Container& container) {
  wire::StartContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  return AskAll(wire::START_CONTAINER, "StartContainer", request, pod, &container);
}

void Plugins::Round::PostStartContainer(const wire::PodSandbox& pod,
                                        const wire::Container& container) {
  wire::PostStartContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  TellAll(wire::POST_START_CONTAINER, "PostStartContainer", request, pod, &container);
}

absl::StatusOr<Plugins::Updated> Plugins::Round::UpdateContainer(
    const wire::PodSandbox& pod, const wire::Container& container,
    const wire::LinuxResources& resources) {
  Updated updated;
  updated.resources = resources;
  Owners owners;
  for (const std::shared_ptr<Plugin>& plugin : asked_) {
    wire::UpdateContainerRequest request;
    *request.mutable_pod() = pod;
    *request.mutable_container() = container;
    *request.mutable_linux_resources() = updated.resources;
    wire::UpdateContainerResponse answer;
    bool answered = false;
    GANTRY_RETURN_IF_ERROR(plugin->Ask(wire::UPDATE_CONTAINER, "UpdateContainer", request, {},
                                       Plugin::IfBusy::kWait, &answer, &answered));
    if (!answered) continue;
    GANTRY_RETURN_IF_ERROR(TakeUpdates(answer.update(), plugin->full_name(), container.id(), owners,
                                       &updated.resources, updated.updates));
    updated.evictions.insert(updated.evictions.end(), answer.evict().begin(), answer.evict().end());
  }
  return updated;
}

void Plugins::Round::PostUpdateContainer(const wire::PodSandbox& pod,
                                         const wire::Container& container) {
  wire::PostUpdateContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  TellAll(wire::POST_UPDATE_CONTAINER, "PostUpdateContainer", request, pod, &container);
}

std::vector<wire::ContainerUpdate> Plugins::Round::StopContainer(const wire::PodSandbox& pod,
                                                                 const wire::Container& container) {
  std::vector<wire::ContainerUpdate> updates;
  Owners owners;
  wire::StopContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  for (const std::shared_ptr<Plugin>& plugin : asked_) {
    wire::StopContainerResponse answer;
    bool answered = false;
    absl::Status told = plugin->Ask(wire::STOP_CONTAINER, "StopContainer", request, {},
                                    Plugin::IfBusy::kPutOff, &answer, &answered);
    if (told.ok() && answered) {
      told = TakeUpdates(answer.update(), plugin->full_name(), container.id(), owners, nullptr,
                         updates);
    }
    LOG_IF(WARNING, !told.ok()) << "id=" << container.id() << " " << told;
  }
  return updates;
}

void Plugins::Round::RemoveContainer(const wire::PodSandbox& pod,
                                     const wire::Container& container) {
  wire::RemoveContainerRequest request;
  *request.mutable_pod() = pod;
  *request.mutable_container() = container;
  TellAll(wire::REMOVE_CONTAINER, "RemoveContainer", request, pod, &container);
}

}  // namespace gantry::nri
