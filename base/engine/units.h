// Numbers and times as people write and read them, in docker's way.
#ifndef GANTRY_BASE_ENGINE_UNITS_H_
#define GANTRY_BASE_ENGINE_UNITS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::engine {

// "7.66MB", powers of 1000, three digits.
std::string HumanSize(int64_t bytes);
// "1.944GiB", powers of 1024, four digits.
std::string BinarySize(uint64_t bytes);
// "About a minute", "3 days".
std::string HumanDuration(absl::Duration duration);
// "1.5s", "2m03s": for progress.
std::string ShortDuration(absl::Duration duration);
// "2026-11-21 09:24:08 +0000 UTC", local time.
std::string TableTime(absl::Time time);
// RFC 3339 with nanoseconds in UTC, no trailing zeros; docker's zero time for an infinite past.
std::string JsonTime(absl::Time time);

// "512m", "1.5g", "100": powers of 1024, optional b or ib. kInvalidArgument names the text.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);
// Go's durations: "1h30m", "500ms".
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);
// RFC 3339 (date alone, local time without a zone), Unix seconds with a fraction, or a duration
// before `now`.
absl::StatusOr<absl::Time> ParseTimestamp(absl::string_view text, absl::Time now);
// "1.5" CPUs as billionths.
absl::StatusOr<int64_t> ParseNanoCpus(absl::string_view text);

// First 12 hex digits of an id or of a sha256 digest.
std::string ShortId(absl::string_view id);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_UNITS_H_
