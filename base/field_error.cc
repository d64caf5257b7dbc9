#include "base/field_error.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"

namespace gantry {
namespace {

constexpr absl::string_view kPayloadUrl = "gantry/field";
constexpr absl::string_view kBadRequestUrl = "type.googleapis.com/google.rpc.BadRequest";

// Four fixed message shapes of length-delimited fields: generated code would be
// too much for a leaf that every program links.
void PutVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

void PutBytes(uint32_t field, absl::string_view bytes, std::string* out) {
  PutVarint(field << 3 | 2, out);
  PutVarint(bytes.size(), out);
  out->append(bytes.data(), bytes.size());
}

absl::optional<uint64_t> TakeVarint(absl::string_view* in) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !in->empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(in->front());
    in->remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return absl::nullopt;
}

// The first length-delimited field of that number; nullopt if there is none or the bytes are
// damaged.
absl::optional<absl::string_view> FindBytes(uint32_t field, absl::string_view message) {
  while (!message.empty()) {
    const auto tag = TakeVarint(&message);
    if (!tag) return absl::nullopt;
    if ((*tag & 7) == 0) {
      if (!TakeVarint(&message)) return absl::nullopt;
      continue;
    }
    if ((*tag & 7) != 2) return absl::nullopt;
    const auto size = TakeVarint(&message);
    if (!size || *size > message.size()) return absl::nullopt;
    const absl::string_view bytes = message.substr(0, *size);
    message.remove_prefix(*size);
    if (*tag >> 3 == field) return bytes;
  }
  return absl::nullopt;
}

}  // namespace

absl::Status FieldError(absl::string_view field, absl::string_view reason) {
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, ": ", reason));
  status.SetPayload(kPayloadUrl, absl::Cord(field));
  return status;
}

std::string FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  return payload ? std::string(*payload) : "";
}

std::string FieldReason(const absl::Status& status) {
  const std::string prefix = absl::StrCat(FieldOf(status), ": ");
  const absl::string_view message = status.message();
  if (prefix.size() <= 2) return std::string(message);
  if (message.substr(0, prefix.size()) == prefix) return std::string(message.substr(prefix.size()));
  // "container web: FIELD: REASON": what it was found out at stays.
  const size_t colon = message.find(absl::StrCat(": ", prefix));
  if (colon == message.npos) return std::string(message);
  return absl::StrCat(message.substr(0, colon + 2), message.substr(colon + 2 + prefix.size()));
}

std::string EncodeFieldError(const absl::Status& status) {
  const std::string field = FieldOf(status);
  if (field.empty()) return "";
  std::string violation;  // BadRequest.FieldViolation
  PutBytes(1, field, &violation);
  PutBytes(2, FieldReason(status), &violation);
  std::string request;  // BadRequest
  PutBytes(1, violation, &request);
  std::string any;  // google.protobuf.Any
  PutBytes(1, kBadRequestUrl, &any);
  PutBytes(2, request, &any);
  std::string out;  // google.rpc.Status
  PutVarint(1 << 3, &out);
  PutVarint(static_cast<uint64_t>(status.code()), &out);
  PutBytes(2, status.message(), &out);
  PutBytes(3, any, &out);
  return out;
}

absl::Status DecodeFieldError(absl::Status status, absl::string_view details) {
  const auto any = FindBytes(3, details);
  if (!any || FindBytes(1, *any) != kBadRequestUrl) return status;
  const auto request = FindBytes(2, *any);
  if (!request) return status;
  const auto violation = FindBytes(1, *request);
  if (!violation) return status;
  const auto field = FindBytes(1, *violation);
  if (field) status.SetPayload(kPayloadUrl, absl::Cord(*field));
  return status;
}

}  // namespace gantry
