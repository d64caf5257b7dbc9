#include "supervisor/core/log_options.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/field_error.h"
#include "proto/shim/v1/shim.pb.h"

namespace gantry::core {

absl::Status ApplyLogOption(const std::string& key, const std::string& value, shim::v1::Log& log) {
  if (key == "max-size") {
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
    if (value == "-1") {
      log.set_max_size_bytes(0);
      return absl::OkStatus();
    }
    if (unit == 0 || !absl::SimpleAtoi(digits, &number) || number <= 0 ||
        number > (int64_t{1} << 50) / unit) {
      return FieldError("log.options.max-size",
                        absl::StrCat("\"", value, "\" is not a size such as 10m"));
    }
    log.set_max_size_bytes(number * unit);
    return absl::OkStatus();
  }
  if (key == "max-file") {
    int32_t number = 0;
    if (!absl::SimpleAtoi(value, &number) || number < 1 || number > 1000) {
      return FieldError("log.options.max-file",
                        absl::StrCat("\"", value, "\" is not a number from 1 to 1000"));
    }
    log.set_max_files(number);
    return absl::OkStatus();
  }
  if (key == "mode" && (value == "blocking" || value == "non-blocking")) {
    log.set_block_when_full(value == "blocking");
    return absl::OkStatus();
  }
  if (key == "max-buffer-size" || key == "compress" || key == "labels" || key == "env" ||
      key == "tag") {
    return absl::OkStatus();  // understood by docker, without effect on what is kept here
  }
  return FieldError("log.options", absl::StrCat("unknown option \"", key, "=", value, "\""));
}

}  // namespace gantry::core
