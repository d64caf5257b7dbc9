// An error about one field of a request.
//
// Code that checks a request names the field in the words of the API ("resources.memory"); the
// program that the user typed into knows what the user called it ("--memory"). The field travels as
// a payload of the status, and over gRPC as a google.rpc.BadRequest in the status details.
#ifndef GANTRY_BASE_FIELD_ERROR_H_
#define GANTRY_BASE_FIELD_ERROR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry {

// kInvalidArgument "FIELD: REASON".
absl::Status FieldError(absl::string_view field, absl::string_view reason);

// The field that `status` is about; "" if it is about none.
std::string FieldOf(const absl::Status& status);
// What is wrong with the field: the message without the field's name. The whole message if it is
// about none.
std::string FieldReason(const absl::Status& status);

// The bytes of a google.rpc.Status that names the field; "" if `status` is about none.
std::string EncodeFieldError(const absl::Status& status);
// `status` with the field that `details` (bytes of a google.rpc.Status) name; unchanged if they
// name none or are damaged.
absl::Status DecodeFieldError(absl::Status status, absl::string_view details);

}  // namespace gantry

#endif  // GANTRY_BASE_FIELD_ERROR_H_
