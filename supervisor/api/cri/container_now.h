// A container of core with its task, as the translations want it. Used by the CRI door only.
//
// Safe to call from any thread; `tasks` is asked once for each container.
#ifndef GANTRY_SUPERVISOR_API_CRI_CONTAINER_NOW_H_
#define GANTRY_SUPERVISOR_API_CRI_CONTAINER_NOW_H_

#include "supervisor/api/cri/translate.h"
#include "supervisor/core/task_service.h"

namespace gantry::api::cri {

ContainerNow WithTask(core::TaskService& tasks, core::LoadedContainer loaded);

// Of now.loaded; what else was in `now` is replaced.
void AddTask(core::TaskService& tasks, ContainerNow& now);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_CONTAINER_NOW_H_
