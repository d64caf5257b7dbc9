#include "base/engine/units.h"

#include <array>
#include <cctype>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace gantry::engine {
namespace {

template <size_t N>
std::string Scaled(double value, double base, const std::array<const char*, N>& units,
                   int precision) {
  size_t i = 0;
  while (value >= base && i + 1 < N) {
    value /= base;
    ++i;
  }
  return absl::StrFormat("%.*g%s", precision, value, units[i]);
}

// Never set, or too early for the nanoseconds that the daemon counts (before 1677), as Go's zero
// time is.
bool IsAbsent(absl::Time time) { return time < absl::FromUnixSeconds(-9223372035); }

}  // namespace

std::string HumanSize(int64_t bytes) {
  static constexpr std::array<const char*, 7> kUnits = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 0) return absl::StrCat("-", HumanSize(-bytes));
  return Scaled(static_cast<double>(bytes), 1000, kUnits, 3);
}

std::string BinarySize(uint64_t bytes) {
  static constexpr std::array<const char*, 7> kUnits = {"B",   "KiB", "MiB", "GiB",
                                                        "TiB", "PiB", "EiB"};
  return Scaled(static_cast<double>(bytes), 1024, kUnits, 4);
}

std::string HumanDuration(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return absl::StrCat(seconds, " seconds");
  const int64_t minutes = seconds / 60;
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return absl::StrCat(minutes, " minutes");
  const int64_t hours = static_cast<int64_t>(std::floor(static_cast<double>(seconds) / 3600 + 0.5));
  if (hours == 1) return "About an hour";
  if (hours < 48) return absl::StrCat(hours, " hours");
  if (hours < 24 * 7 * 2) return absl::StrCat(hours / 24, " days");
  if (hours < 24 * 30 * 2) return absl::StrCat(hours / 24 / 7, " weeks");
  if (hours < 24 * 365 * 2) return absl::StrCat(hours / 24 / 30, " months");
  return absl::StrCat(hours / 24 / 365, " years");
}

std::string ShortDuration(absl::Duration duration) {
  const double seconds = absl::ToDoubleSeconds(duration);
  if (seconds < 10) return absl::StrFormat("%.1fs", seconds);
  const int64_t whole = static_cast<int64_t>(seconds);
  if (whole < 60) return absl::StrFormat("%ds", whole);
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
}

std::string TableTime(absl::Time time) {
  if (IsAbsent(time)) return "N/A";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S %z %Z", time, absl::LocalTimeZone());
}

std::string JsonTime(absl::Time time) {
  if (IsAbsent(time)) return "0001-01-01T00:00:00Z";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a size; write for example 512m or 2g"));
  };
  size_t split = 0;
  while (split < text.size() && (std::isdigit(static_cast<unsigned char>(text[split])) ||
                                 text[split] == '.' || (split == 0 && text[split] == '-'))) {
    ++split;
  }
  double number;
  if (split == 0 || !absl::SimpleAtod(text.substr(0, split), &number)) return bad();
  absl::string_view unit = text.substr(split);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  double factor = 1;
  if (!unit.empty()) {
    static constexpr absl::string_view kLetters = "bkmgtp";
    const size_t power =
        kLetters.find(static_cast<char>(std::tolower(static_cast<unsigned char>(unit.front()))));
    if (power == absl::string_view::npos) return bad();
    const absl::string_view rest = unit.substr(1);
    if (power == 0 ? !rest.empty()
                   : !rest.empty() && !absl::EqualsIgnoreCase(rest, "b") &&
                         !absl::EqualsIgnoreCase(rest, "ib")) {
      return bad();
    }
    factor = std::pow(1024, static_cast<double>(power));
  }
  const double bytes = number * factor;
  if (std::fabs(bytes) >= 9.2e18) return bad();
  return static_cast<int64_t>(bytes);
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a duration; write for example 90s or 1h30m"));
  }
  return duration;
}

absl::StatusOr<absl::Time> ParseTimestamp(absl::string_view text, absl::Time now) {
  if (text.empty()) return absl::InvalidArgumentError("the time is empty");
  // Unix seconds with an optional fraction of up to nine digits, exactly.
  const size_t dot = text.find('.');
  int64_t seconds;
  if (absl::SimpleAtoi(text.substr(0, dot), &seconds) && text.find('-', 1) == text.npos) {
    int64_t nanos = 0;
    if (dot != absl::string_view::npos) {
      std::string fraction(text.substr(dot + 1));
      if (fraction.size() > 9) fraction.resize(9);
      fraction.append(9 - fraction.size(), '0');
      if (!absl::SimpleAtoi(fraction, &nanos)) seconds = -1;
    }
    if (seconds >= 0) return absl::FromUnixSeconds(seconds) + absl::Nanoseconds(nanos);
  }
  absl::Duration ago;
  if (absl::ParseDuration(text, &ago)) return now - ago;
  static constexpr const char* kFormats[] = {"%Y-%m-%dT%H:%M:%E*S%Ez", "%Y-%m-%d %H:%M:%E*S%Ez",
                                             "%Y-%m-%dT%H:%M%Ez"};
  static constexpr const char* kLocalFormats[] = {"%Y-%m-%dT%H:%M:%E*S", "%Y-%m-%d %H:%M:%E*S",
                                                  "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"};
  absl::Time time;
  std::string error;
  for (const char* format : kFormats) {
    if (absl::ParseTime(format, text, &time, &error)) return time;
  }
  for (const char* format : kLocalFormats) {
    if (absl::ParseTime(format, text, absl::LocalTimeZone(), &time, &error)) return time;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text,
      "\" is not a time; write 2026-11-21T09:00:00Z, Unix seconds, or how long ago (10m)"));
}

absl::StatusOr<int64_t> ParseNanoCpus(absl::string_view text) {
  double cpus;
  if (!absl::SimpleAtod(text, &cpus) || !(cpus >= 0) || cpus > 1e6) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a number of CPUs; write for example 1.5"));
  }
  return static_cast<int64_t>(std::llround(cpus * 1e9));
}

std::string ShortId(absl::string_view id) {
  const size_t colon = id.find(':');
  if (colon != absl::string_view::npos) id.remove_prefix(colon + 1);
  return std::string(id.substr(0, 12));
}

}  // namespace gantry::engine
