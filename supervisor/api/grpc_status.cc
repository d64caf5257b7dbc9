#include "supervisor/api/grpc_status.h"

#include <string>

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

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      PrintableMessage(status.message()));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace gantry::api
