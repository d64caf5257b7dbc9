#include "supervisor/core/restart_policy.h"

#include <algorithm>
#include <cstdint>

namespace gantry::core {

std::optional<absl::Duration> RestartDelay(const v1::RestartPolicy& policy,
                                           const record::v1::ContainerState& state) {
  if (policy.name().empty() || policy.name() == "no" || state.stopped_by_user() || state.removing())
    return std::nullopt;
  if (policy.name() == "on-failure") {
    if (state.exit_code() == 0) return std::nullopt;
    if (policy.maximum_retry_count() > 0 &&
        state.restart_count() >= static_cast<uint32_t>(policy.maximum_retry_count()))
      return std::nullopt;
  }
  const absl::Duration ran =
      absl::Seconds(state.finished_at().seconds()) - absl::Seconds(state.started_at().seconds());
  const uint32_t streak =
      ran >= absl::Seconds(10) ? 0 : std::min<uint32_t>(state.restart_count(), 10);
  return std::min(absl::Milliseconds(100) * (1 << streak), absl::Minutes(1));
}

bool StartsWithDaemon(const v1::RestartPolicy& policy, const record::v1::ContainerState& state) {
  if (state.removing()) return false;
  if (state.has_restart_at()) return true;
  return policy.name() == "always" && state.status() == record::v1::ContainerState::STOPPED;
}

}  // namespace gantry::core
