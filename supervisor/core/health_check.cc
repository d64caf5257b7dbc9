#include "supervisor/core/health_check.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/field_error.h"
#include "base/utf8.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kDefaultInterval = absl::Seconds(30);
constexpr absl::Duration kDefaultTimeout = absl::Seconds(30);
constexpr absl::Duration kDefaultStartInterval = absl::Seconds(5);
constexpr int kDefaultRetries = 3;
constexpr int kKeptResults = 5;
constexpr char kStarting[] = "starting";
constexpr char kHealthy[] = "healthy";
constexpr char kUnhealthy[] = "unhealthy";

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

absl::Duration OrDefault(const google::protobuf::Duration& duration, absl::Duration otherwise) {
  const absl::Duration given = FromProto(duration);
  return given == absl::ZeroDuration() ? otherwise : given;
}

}  // namespace

absl::Status CheckHealthCheck(const v1::HealthCheck& check) {
  for (const auto& [name, duration] :
       {std::pair("interval", check.interval()), std::pair("timeout", check.timeout()),
        std::pair("start_period", check.start_period()),
        std::pair("start_interval", check.start_interval())}) {
    const absl::Duration given = FromProto(duration);
    if (given != absl::ZeroDuration() && given < absl::Milliseconds(1)) {
      return FieldError(absl::StrCat("health_check.", name), "must be at least 1ms");
    }
  }
  if (check.retries() < 0) return FieldError("health_check.retries", "cannot be negative");
  if (check.test().empty()) return absl::OkStatus();
  const std::string& kind = check.test(0);
  if (kind == "NONE" && check.test_size() == 1) return absl::OkStatus();
  if (kind == "CMD" && check.test_size() > 1) return absl::OkStatus();
  if (kind == "CMD-SHELL" && check.test_size() == 2) return absl::OkStatus();
  return FieldError(
      "health_check.test",
      absl::StrCat("\"", kind, "\" with ", check.test_size() - 1,
                   " words; there is NONE, CMD and a command, and CMD-SHELL and one line"));
}

std::optional<HealthOptions> HealthOptionsOf(const v1::ContainerConfig& config) {
  if (!config.has_health_check()) return std::nullopt;
  const v1::HealthCheck& check = config.health_check();
  // An image may say anything.
  if (check.test_size() < 2 || (check.test(0) != "CMD" && check.test(0) != "CMD-SHELL"))
    return std::nullopt;
  HealthOptions options;
  if (check.test(0) == "CMD-SHELL") options.command = {"/bin/sh", "-c"};
  options.command.insert(options.command.end(), check.test().begin() + 1, check.test().end());
  options.interval = OrDefault(check.interval(), kDefaultInterval);
  options.timeout = OrDefault(check.timeout(), kDefaultTimeout);
  options.start_period = FromProto(check.start_period());
  options.start_interval = OrDefault(check.start_interval(), kDefaultStartInterval);
  options.retries = check.retries() == 0 ? kDefaultRetries : check.retries();
  return options;
}

v1::HealthState InitialHealth() {
  v1::HealthState health;
  health.set_status(kStarting);
  return health;
}

bool NoteProbe(const HealthOptions& options, absl::Duration since_start, const ProbeResult& result,
               v1::HealthState& health) {
  v1::HealthResult* kept = health.add_log();
  SetTimestamp(result.start, kept->mutable_start());
  SetTimestamp(result.end, kept->mutable_end());
  kept->set_exit_code(result.exit_code);
  // Twice: what stands for bytes that are no text is longer than they are.
  const std::string text = ToValidUtf8(Utf8Prefix(result.output, kMaxProbeOutput));
  kept->set_output(std::string(Utf8Prefix(text, kMaxProbeOutput)));
  if (health.log_size() > kKeptResults) {
    health.mutable_log()->DeleteSubrange(0, health.log_size() - kKeptResults);
  }
  const std::string before = health.status();
  if (result.exit_code == 0) {
    health.set_failing_streak(0);
    health.set_status(kHealthy);
  } else if (before != kStarting || since_start >= options.start_period) {
    health.set_failing_streak(health.failing_streak() + 1);
    if (health.failing_streak() >= options.retries) health.set_status(kUnhealthy);
  }
  return health.status() != before;
}

absl::Duration ProbeDelay(const HealthOptions& options, absl::Duration since_start,
                          const v1::HealthState& health) {
  const bool warming_up = health.status() == kStarting && since_start < options.start_period;
  return warming_up ? std::min(options.start_interval, options.interval) : options.interval;
}

}  // namespace gantry::core
