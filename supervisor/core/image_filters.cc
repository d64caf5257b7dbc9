#include "supervisor/core/image_filters.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace gantry::core {

absl::StatusOr<absl::Time> ParseUntil(const std::string& value) {
  absl::Duration age;
  absl::Time moment;
  std::string error;
  if (absl::ParseDuration(value, &age)) return absl::Now() - age;
  if (absl::ParseTime(absl::RFC3339_full, value, &moment, &error)) return moment;
  return absl::InvalidArgumentError(
      absl::StrCat("filter until: \"", value, "\" is neither a duration nor a time"));
}

}  // namespace gantry::core
