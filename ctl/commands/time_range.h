// --since and --until of logs and events.
#ifndef GANTRY_CTL_COMMANDS_TIME_RANGE_H_
#define GANTRY_CTL_COMMANDS_TIME_RANGE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/status_macros.h"

namespace gantry::ctl {

// "" leaves an end of the range open. kInvalidArgument: not a time.
template <class Request>
absl::Status SetTimeRange(const std::string& since, const std::string& until, Request& request) {
  const absl::Time now = absl::Now();
  if (!since.empty()) {
    GANTRY_ASSIGN_OR_RETURN(absl::Time time, engine::ParseTimestamp(since, now));
    engine::ToProto(time, request.mutable_since());
  }
  if (!until.empty()) {
    GANTRY_ASSIGN_OR_RETURN(absl::Time time, engine::ParseTimestamp(until, now));
    engine::ToProto(time, request.mutable_until());
  }
  return absl::OkStatus();
}

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_TIME_RANGE_H_
