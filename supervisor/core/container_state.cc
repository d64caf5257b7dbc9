#include "supervisor/core/container_state.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "supervisor/core/proto_time.h"
#include "supervisor/core/restart_policy.h"

namespace gantry::core {
namespace {

constexpr std::pair<v1::ContainerState, absl::string_view> kNames[] = {
    {v1::CONTAINER_STATE_CREATED, "created"},   {v1::CONTAINER_STATE_RUNNING, "running"},
    {v1::CONTAINER_STATE_PAUSED, "paused"},     {v1::CONTAINER_STATE_RESTARTING, "restarting"},
    {v1::CONTAINER_STATE_REMOVING, "removing"}, {v1::CONTAINER_STATE_EXITED, "exited"},
    {v1::CONTAINER_STATE_DEAD, "dead"},
};

// The task has ended and its end is not in the record yet: what the record will say.
v1::ContainerState StateAfter(record::v1::ContainerState record, const v1::RestartPolicy& policy,
                              const Process& task) {
  record.set_exit_code(task.exit_status);
  if (task.exited_at != absl::InfinitePast())
    SetTimestamp(task.exited_at, record.mutable_finished_at());
  return RestartDelay(policy, record).has_value() ? v1::CONTAINER_STATE_RESTARTING
                                                  : v1::CONTAINER_STATE_EXITED;
}

}  // namespace

v1::ContainerState StateOf(const record::v1::ContainerState& record,
                           const v1::RestartPolicy& policy, const Process* task) {
  if (record.removing()) return v1::CONTAINER_STATE_REMOVING;
  if (task != nullptr) {
    switch (task->status) {
      case ProcessStatus::kCreated:
        return v1::CONTAINER_STATE_CREATED;
      case ProcessStatus::kRunning:
        return v1::CONTAINER_STATE_RUNNING;
      case ProcessStatus::kPaused:
      case ProcessStatus::kPausing:
        return v1::CONTAINER_STATE_PAUSED;
      case ProcessStatus::kUnknown:
        return v1::CONTAINER_STATE_DEAD;
      case ProcessStatus::kStopped:
        return StateAfter(record, policy, *task);
    }
  }
  if (record.has_restart_at()) return v1::CONTAINER_STATE_RESTARTING;
  return record.status() == record::v1::ContainerState::CREATED ? v1::CONTAINER_STATE_CREATED
                                                                : v1::CONTAINER_STATE_EXITED;
}

bool IsActive(v1::ContainerState state) {
  return state == v1::CONTAINER_STATE_RUNNING || state == v1::CONTAINER_STATE_PAUSED ||
         state == v1::CONTAINER_STATE_RESTARTING;
}

absl::Status CheckRuns(v1::ContainerState state, absl::string_view container,
                       absl::string_view verb) {
  switch (state) {
    case v1::CONTAINER_STATE_RUNNING:
    case v1::CONTAINER_STATE_DEAD:
      return absl::OkStatus();
    case v1::CONTAINER_STATE_PAUSED:
      return absl::FailedPreconditionError(
          absl::StrCat("container ", container, " is paused, unpause the container before ", verb));
    case v1::CONTAINER_STATE_RESTARTING:
      return absl::FailedPreconditionError(absl::StrCat(
          "container ", container, " is restarting, wait until the container is running"));
    case v1::CONTAINER_STATE_REMOVING:
      return absl::FailedPreconditionError(
          absl::StrCat("container ", container, " is being removed"));
    default:
      return absl::FailedPreconditionError(
          absl::StrCat("container ", container, " is not running"));
  }
}

bool IsPrunable(v1::ContainerState state) {
  return state == v1::CONTAINER_STATE_CREATED || state == v1::CONTAINER_STATE_EXITED;
}

absl::string_view StateName(v1::ContainerState state) {
  for (const auto& [known, name] : kNames) {
    if (known == state) return name;
  }
  return "unknown";
}

bool ParseStateName(absl::string_view name, v1::ContainerState* state) {
  for (const auto& [known, text] : kNames) {
    if (text != name) continue;
    *state = known;
    return true;
  }
  return false;
}

}  // namespace gantry::core
