// Whether and when a restart policy starts a container again. Pure.
#ifndef GANTRY_SUPERVISOR_CORE_RESTART_POLICY_H_
#define GANTRY_SUPERVISOR_CORE_RESTART_POLICY_H_

#include <optional>

#include "absl/time/time.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"

namespace gantry::core {

// How long after the end that `state` records the container is started again: 100 ms, doubled with
// each restart that follows a run of less than 10 s, at most a minute. No value: it stays as it is.
std::optional<absl::Duration> RestartDelay(const v1::RestartPolicy& policy,
                                           const record::v1::ContainerState& state);

// Whether a container that had ended before is started when the daemon starts.
bool StartsWithDaemon(const v1::RestartPolicy& policy, const record::v1::ContainerState& state);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_RESTART_POLICY_H_
