#include "supervisor/api/cri/container_now.h"

#include <optional>
#include <utility>

#include "absl/status/statusor.h"

#include "supervisor/api/cri/cri_door.h"

namespace gantry::api::cri {

ContainerNow WithTask(core::TaskService& tasks, core::LoadedContainer loaded) {
  ContainerNow now;
  now.loaded = std::move(loaded);
  AddTask(tasks, now);
  return now;
}

void AddTask(core::TaskService& tasks, ContainerNow& now) {
  absl::StatusOr<core::Process> task = tasks.view().Get(kNamespace, now.loaded.id(), "");
  now.task = task.ok() ? std::optional<core::Process>(*std::move(task)) : std::nullopt;
  ReadConfig(now);
}

}  // namespace gantry::api::cri
