// Early return on a status that is not OK.
//
//   GANTRY_RETURN_IF_ERROR(file.Sync());
//   GANTRY_ASSIGN_OR_RETURN(UniqueFd fd, OpenBlob(digest));
//
// Both work in functions that return absl::Status or absl::StatusOr<T>.

#ifndef GANTRY_BASE_STATUS_MACROS_H_
#define GANTRY_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define GANTRY_RETURN_IF_ERROR(...)                                                              \
  do {                                                                                           \
    if (::absl::Status gantry_status = (__VA_ARGS__); ABSL_PREDICT_FALSE(!gantry_status.ok())) { \
      return gantry_status;                                                                      \
    }                                                                                            \
  } while (false)

// `lhs` may declare a variable; it must not contain a comma outside parentheses.
#define GANTRY_ASSIGN_OR_RETURN(lhs, ...) \
  GANTRY_ASSIGN_OR_RETURN_IMPL_(GANTRY_CONCAT_(gantry_status_or_, __LINE__), lhs, __VA_ARGS__)

#define GANTRY_ASSIGN_OR_RETURN_IMPL_(result, lhs, ...) \
  auto result = (__VA_ARGS__);                          \
  if (ABSL_PREDICT_FALSE(!result.ok())) {               \
    return std::move(result).status();                  \
  }                                                     \
  lhs = std::move(result).value()

#define GANTRY_CONCAT_(a, b) GANTRY_CONCAT_INNER_(a, b)
#define GANTRY_CONCAT_INNER_(a, b) a##b

#endif  // GANTRY_BASE_STATUS_MACROS_H_
