#include "supervisor/api/buildkit/session_context.h"

#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"

#include "base/status_macros.h"
#include "supervisor/api/grpc_status.h"

namespace gantry::api::buildkit {
namespace {

std::string Escaped(const std::string& value) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : value) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || std::strchr("-_.~", c) != nullptr) {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(kHex[static_cast<unsigned char>(c) >> 4]);
      out.push_back(kHex[static_cast<unsigned char>(c) & 15]);
    }
  }
  return out;
}

}  // namespace

SessionContext::SessionContext(CancelToken* cancel) {
  if (cancel == nullptr) return;
  if (cancel->remaining() < absl::InfiniteDuration())
    context_.set_deadline(absl::ToChronoTime(absl::Now() + cancel->remaining()));
  cancelled_ = cancel->OnCancel([this] { context_.TryCancel(); });
}

void SessionContext::Add(const std::string& key, const std::vector<std::string>& values) {
  bool escape = false;
  for (const std::string& value : values) {
    for (const char c : value) escape |= c < 0x20 || c > 0x7e;
    // Blanks at the ends would be cut off.
    escape |= !value.empty() && (value.front() == ' ' || value.back() == ' ');
  }
  for (const std::string& value : values)
    context_.AddMetadata(key, escape ? Escaped(value) : value);
  if (escape) context_.AddMetadata(key + "-encoded", "1");
}

absl::Status Ended(const grpc::Status& status, CancelToken* cancel) {
  if (status.ok()) return absl::OkStatus();
  // The caller's reason is better than the call's.
  if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE)
    return absl::UnavailableError("the client's session has ended");
  return FromGrpc(status);
}

}  // namespace gantry::api::buildkit
