// The state that a container is in, from its record and its task: the one place that says it for
// lists, filters, prune, inspection and every check of what may be done with it. Pure.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_STATE_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_STATE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "proto/gantry/v1/container_views.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {

// `task` is null when the container has none. RESTARTING from the end of a run that the policy
// answers until the next run, or until a person stops it.
v1::ContainerState StateOf(const record::v1::ContainerState& record,
                           const v1::RestartPolicy& policy, const Process* task);

// It runs, or will again without anybody's doing: shown by a list of what runs, kept by prune,
// removed only by force.
bool IsActive(v1::ContainerState state);
// Its processes run, so that one more can be started in it or its streams joined: OK; also in state
// dead, in which only the shim can say. kFailedPrecondition otherwise, in docker's words:
// `container` is what the caller named it, `verb` what it is to be unpaused for.
absl::Status CheckRuns(v1::ContainerState state, absl::string_view container,
                       absl::string_view verb);
// Prune removes it.
bool IsPrunable(v1::ContainerState state);

// "running", "exited" ...; "unknown" for anything else. The other way round, false: no such state.
absl::string_view StateName(v1::ContainerState state);
bool ParseStateName(absl::string_view name, v1::ContainerState* state);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_STATE_H_
