// One spelling for each value: "1g" is 1073741824, "90s" is 1m30s, "yes" is true.
//
// So that a project is the same whichever way its files spell it: for `config`, for merging, and
// for the hash that decides about recreation. The spellings are docker compose's. Pure.
#ifndef GANTRY_CTL_COMPOSE_VALUE_FORMS_H_
#define GANTRY_CTL_COMPOSE_VALUE_FORMS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

enum class Form {
  kAsWritten,
  kText,       // a string: 8080 -> "8080", 1.50 -> "1.5"
  kBytes,      // a string of digits: 50M -> "52428800"; "-1" is no limit
  kDuration,   // 90s -> 1m30s
  kInteger,    // "3" -> 3
  kDecimal,    // "0.50" -> 0.5
  kBoolean,    // "yes" -> true
  kCount,      // an integer, or "all" -> -1
  kFileMode,   // 0440, 288 and "0440" -> "0440"
  kTmpfsMode,  // 0755 and "0755" -> 493
};

// Puts a scalar into its form; lists, maps and nulls stay. kInvalidArgument: it is none; the
// message says what was expected, not where.
absl::Status PutInForm(Node& node, Form form);

// A number as it is printed: 010 -> 8, 1.50 -> 1.5, 1e3 -> 1000. Text that is none stays.
std::string PlainNumber(absl::string_view text);

// "1h0m0s", "1.5s": Go's spelling.
std::string GoDuration(absl::Duration duration);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_VALUE_FORMS_H_
