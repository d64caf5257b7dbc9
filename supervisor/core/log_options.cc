#include "supervisor/core/log_options.h"

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "re2/re2.h"

namespace gantry::core {
namespace {

// "10m"; 0 for "-1", which is no limit.
absl::StatusOr<int64_t> SizeOf(const std::string& key, const std::string& value) {
  absl::string_view digits = value;
  int64_t unit = 1;
  if (!digits.empty() && (digits.back() == 'b' || digits.back() == 'B')) digits.remove_suffix(1);
  if (!digits.empty() && !absl::ascii_isdigit(digits.back())) {
    switch (absl::ascii_tolower(digits.back())) {
      case 'k':
        unit = int64_t{1} << 10;
        break;
      case 'm':
        unit = int64_t{1} << 20;
        break;
      case 'g':
        unit = int64_t{1} << 30;
        break;
      default:
        unit = 0;
    }
    digits.remove_suffix(1);
  }
  int64_t number = 0;
  if (value == "-1") return 0;
  if (unit == 0 || !absl::SimpleAtoi(digits, &number) || number <= 0 ||
      number > (int64_t{1} << 50) / unit) {
    return FieldError(absl::StrCat("log.options.", key),
                      absl::StrCat("\"", value, "\" is not a size such as 10m"));
  }
  return number * unit;
}

absl::Status ApplyLogOption(const std::string& driver, const std::string& key,
                            const std::string& value, shim::v1::Log& log, LogCollector& forward) {
  if (key == "max-size" || (key == "cache-max-size" && IsCollector(driver))) {
    GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, SizeOf(key, value));
    log.set_max_size_bytes(bytes);
    return absl::OkStatus();
  }
  if (key == "max-buffer-size") {
    GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, SizeOf(key, value));
    if (IsCollector(driver)) forward.max_buffer_bytes = bytes;
    return absl::OkStatus();
  }
  if (key == "max-file" || (key == "cache-max-file" && IsCollector(driver))) {
    int32_t number = 0;
    if (!absl::SimpleAtoi(value, &number) || number < 1 || number > 1000) {
      return FieldError(absl::StrCat("log.options.", key),
                        absl::StrCat("\"", value, "\" is not a number from 1 to 1000"));
    }
    log.set_max_files(number);
    return absl::OkStatus();
  }
  if (key == "mode" && (value == "blocking" || value == "non-blocking")) {
    log.set_block_when_full(value == "blocking");
    return absl::OkStatus();
  }
  if (key == "labels" || key == "env") return absl::OkStatus();
  if (key == "labels-regex" || key == "env-regex") {
    if (RE2(value, RE2::Quiet).ok()) return absl::OkStatus();
    return FieldError(absl::StrCat("log.options.", key),
                      absl::StrCat("\"", value, "\" is not a regular expression"));
  }
  if (key == "compress" || key == "tag") return absl::OkStatus();
  if (IsCollectorOption(driver, key)) return absl::OkStatus();  // read by SetCollector()
  return FieldError("log.options", absl::StrCat("unknown option \"", key, "=", value, "\""));
}

// Which names a pair of options chooses, of labels or of variables.
class Choice {
 public:
  Choice(const v1::ContainerConfig& config, const std::string& noun)
      : names_(absl::StrSplit(Option(config, noun), ',', absl::SkipEmpty())),
        pattern_(Option(config, noun + "-regex")),
        regex_(pattern_, RE2::Quiet) {}

  bool Includes(const std::string& name) const {
    return names_.count(name) > 0 || (!pattern_.empty() && RE2::PartialMatch(name, regex_));
  }

 private:
  static std::string Option(const v1::ContainerConfig& config, const std::string& name) {
    const auto found = config.log().options().find(name);
    return found == config.log().options().end() ? "" : found->second;
  }

  const std::set<std::string> names_;
  const std::string pattern_;
  const RE2 regex_;
};

// The name of a label or variable as journald takes it: capitals, digits and "_", not first.
std::string JournalField(absl::string_view name) {
  std::string out;
  for (const char c : name) {
    const char upper = absl::ascii_toupper(static_cast<unsigned char>(c));
    out += absl::ascii_isupper(upper) || absl::ascii_isdigit(upper) ? upper : '_';
  }
  const size_t first = out.find_first_not_of('_');
  if (first == std::string::npos) return "UNNAMED";
  const std::string name_only = out.substr(first);
  return absl::ascii_isdigit(name_only[0]) ? absl::StrCat("X", name_only) : name_only;
}

void SetAttributes(const v1::ContainerConfig& config, shim::v1::Log& log) {
  auto& attributes = *log.mutable_attributes();
  const Choice labels(config, "labels");
  for (const auto& [name, value] : config.labels()) {
    if (labels.Includes(name)) attributes[name] = value;
  }
  const Choice env(config, "env");
  for (const std::string& entry : config.env()) {
    if (!absl::StrContains(entry, '=')) continue;  // takes the image's away
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(entry, absl::MaxSplits('=', 1));
    if (env.Includes(parts.first)) attributes[parts.first] = parts.second;
  }
}

}  // namespace

absl::Status ApplyLogOptions(const v1::ContainerConfig& config, const LogOwner& owner,
                             shim::v1::Log& log, LogCollector& forward) {
  for (const auto& [key, value] : config.log().options())
    GANTRY_RETURN_IF_ERROR(ApplyLogOption(config.log().driver(), key, value, log, forward));
  SetAttributes(config, log);
  if (!IsCollector(config.log().driver())) {
    if (!config.log().options().contains("tag")) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN((*log.mutable_attributes())["tag"], LogTag(config, owner));
    return absl::OkStatus();
  }
  GANTRY_RETURN_IF_ERROR(SetCollector(config, owner, forward));
  for (const auto& [name, value] : log.attributes()) {
    if (config.log().driver() == "syslog") break;  // its messages have no fields
    const bool journal = config.log().driver() == "journald";
    forward.fields[journal ? JournalField(name) : name] = value;
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
