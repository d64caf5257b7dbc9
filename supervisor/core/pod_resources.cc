// Limits of containers of pods.
#include <string>
#include <utility>

#include "nlohmann/json.hpp"

#include "base/status_macros.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_plugins.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {

absl::Status PodContainers::Update(const CallContext& context, const std::string& container,
                                   const oci::Resources& change, const std::string& extension_name,
                                   const std::string& extension) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer found, Load(context, container));
  const std::unique_ptr<PluginRound> round = pods_.BeginMaking();
  GANTRY_ASSIGN_OR_RETURN(const oci::Resources wanted,
                          AskToUpdate(context, round.get(), found, change));
  const std::pair<std::string, std::string> kept(extension_name, extension);
  GANTRY_RETURN_IF_ERROR(ChangeLimits(context, found.id(), wanted, &kept));
  TellUpdated(context, round.get(), found.id());
  return absl::OkStatus();
}

absl::Status PodContainers::ChangeLimits(const CallContext& context, const std::string& container,
                                         const oci::Resources& change,
                                         const std::pair<std::string, std::string>* extension) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer found, Load(context, container));
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, found.id(), lock));
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec,
                          oci::RuntimeSpec::Parse(loaded.record.spec().value()));
  nlohmann::json& linux_part = spec.document()["linux"];
  oci::Resources merged;
  if (linux_part.contains("resources")) {
    GANTRY_ASSIGN_OR_RETURN(merged, oci::ResourcesFromJson(linux_part["resources"]));
  }
  oci::MergeResources(merged, change);
  GANTRY_RETURN_IF_ERROR(oci::CheckResources(merged));
  const nlohmann::json printed = oci::ResourcesToJson(merged);
  for (auto it = printed.begin(); it != printed.end(); ++it)
    linux_part["resources"][it.key()] = it.value();
  // The running container first: a limit that the kernel refuses must not be on record.
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  if (task.ok() && task->status != ProcessStatus::kStopped) {
    GANTRY_RETURN_IF_ERROR(
        parts_.tasks->Update(lock.Within(context), loaded.id(), oci::PrintResources(change)));
  }
  loaded.record.mutable_spec()->set_value(spec.Print());
  if (extension != nullptr) {
    google::protobuf::Any& kept = (*loaded.record.mutable_extensions())[extension->first];
    kept.set_type_url(extension->first);
    kept.set_value(extension->second);
  }
  return parts_.stores->containers.Update(loaded.scope, loaded.record, {"spec", "extensions"})
      .status();
}

}  // namespace gantry::core
