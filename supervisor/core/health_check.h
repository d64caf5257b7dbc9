// Health checks as docker has them: what is asked for, and what a probe's outcome makes of a
// container's health.
//
// "starting" until a probe succeeds or `retries` in a row have failed; failures in the start period
// do not count. "healthy" after any success, "unhealthy" after `retries` failures in a row. Pure
// functions and values; who runs probes is health_monitor.h.
#ifndef GANTRY_SUPERVISOR_CORE_HEALTH_CHECK_H_
#define GANTRY_SUPERVISOR_CORE_HEALTH_CHECK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace gantry::v1 {
class ContainerConfig;
class HealthCheck;
class HealthState;
}  // namespace gantry::v1

namespace gantry::core {

struct HealthOptions {
  std::vector<std::string> command;
  absl::Duration interval;  // from the end of one probe to the next
  absl::Duration timeout;
  absl::Duration start_period;
  absl::Duration start_interval;  // in place of `interval` while the start period lasts
  int retries = 0;
};

struct ProbeResult {
  absl::Time start;
  absl::Time end;
  int exit_code = 0;   // -1: it could not be run, or took too long
  std::string output;  // its beginning, or why there is no output
};

// Most that is kept of a probe's output.
constexpr size_t kMaxProbeOutput = 4096;

// kInvalidArgument: not a valid test, a negative time, one below a millisecond.
absl::Status CheckHealthCheck(const v1::HealthCheck& check);

// With docker's defaults filled in. Nothing: no check is wanted.
std::optional<HealthOptions> HealthOptionsOf(const v1::ContainerConfig& config);

// The health before the first probe.
v1::HealthState InitialHealth();

// Takes the outcome of a probe that began `since_start` after the container did. True: the status
// is another.
bool NoteProbe(const HealthOptions& options, absl::Duration since_start, const ProbeResult& result,
               v1::HealthState& health);

// How long to wait before the next probe.
absl::Duration ProbeDelay(const HealthOptions& options, absl::Duration since_start,
                          const v1::HealthState& health);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_HEALTH_CHECK_H_
