#include "supervisor/api/grpc_status.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/field_error.h"

namespace gantry::api {
namespace {

constexpr size_t kMaxMessageBytes = 4096;

// Runtimes quote whatever they were given; a trailer must still be text.
std::string PrintableMessage(absl::string_view message) {
  std::string out(message.substr(0, kMaxMessageBytes));
  for (size_t i = 0; i < out.size();) {
    const auto lead = static_cast<unsigned char>(out[i]);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xF0 && lead < 0xF5 ? 4
                          : lead >= 0xE0                ? 3
                          : lead >= 0xC2                ? 2
                                                        : 0;
    bool valid = length != 0 && lead < 0xF5 && i + length <= out.size();
    for (size_t j = 1; valid && j < length; ++j) {
      valid = (static_cast<unsigned char>(out[i + j]) & 0xC0) == 0x80;
    }
    if (valid) {
      i += length;
    } else {
      out[i++] = '?';
    }
  }
  return out;
}

// "" for classes without words of their own.
absl::string_view ClassWords(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "invalid argument";
    case absl::StatusCode::kNotFound:
      return "not found";
    case absl::StatusCode::kAlreadyExists:
      return "already exists";
    case absl::StatusCode::kFailedPrecondition:
      return "failed precondition";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kUnimplemented:
      return "not implemented";
    case absl::StatusCode::kOutOfRange:
      return "out of range";
    default:
      return "";
  }
}

// A payload of this name is the bytes of a google.rpc.Status for the trailer of that name, for
// clients that look for more than code and message there.
constexpr char kDetails[] = "grpc-status-details-bin";

// What clients with protobuf expect in the trailer: details that were given, or the field that a
// request got wrong (base/field_error.h).
std::string DetailsOf(const absl::Status& status) {
  if (const auto details = status.GetPayload(kDetails); details.has_value())
    return std::string(*details);
  const std::string field = FieldOf(status);
  if (field.empty()) return "";
  return EncodeFieldError(FieldError(field, PrintableMessage(FieldReason(status))));
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      PrintableMessage(status.message()), DetailsOf(status));
}

grpc::Status ToGrpcWithClass(const absl::Status& status) {
  const absl::string_view words = ClassWords(status.code());
  if (words.empty() || absl::EndsWith(status.message(), words)) return ToGrpc(status);
  return ToGrpc(absl::Status(status.code(), absl::StrCat(status.message(), ": ", words)));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return DecodeFieldError(
      absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message()),
      status.error_details());
}

}  // namespace gantry::api
