#include "supervisor/api/grpc/call.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "supervisor/api/grpc_status.h"
#include "supervisor/core/caller.h"

namespace gantry::api {
namespace {

absl::Duration TimeLeft(const grpc::ServerContextBase& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
  return std::max(absl::ZeroDuration(),
                  absl::FromChrono(deadline - std::chrono::system_clock::now()));
}

// The first value, if there are several.
std::string Header(const grpc::ServerContextBase& context, const char* name) {
  const auto& all = context.client_metadata();
  const auto it = all.lower_bound(name);
  return it == all.end() || it->first != name ? std::string()
                                              : std::string(it->second.data(), it->second.size());
}

}  // namespace

Call::Call(const grpc::ServerContextBase& context, Scoped scoped)
    : scoped_(scoped),
      cancel_(TimeLeft(context)),
      scope_{Header(context, "containerd-namespace"), Header(context, "containerd-lease")} {
  if (scoped == Scoped::kDefault && scope_.ns.empty()) scope_.ns = "default";
  context_.ns = scope_.ns;
  context_.lease = scope_.lease;
  context_.cancel = &cancel_;
  // Pods' door, which names no namespace, says so itself.
  context_.caller =
      core::CallerOfPeer(context.peer(), scoped == Scoped::kDefault ? "gantry" : "containerd");
}

absl::Status Call::Validate() const {
  return scoped_ == Scoped::kNo ? absl::OkStatus() : scope_.Validate();
}

grpc::Status Call::Ended(const absl::Status& status) const {
  return scoped_ == Scoped::kDefault ? ToGrpc(status) : ToGrpcWithClass(status);
}

absl::Status ClientGone() { return absl::CancelledError("the client has gone"); }
absl::Status DaemonStopping() { return absl::UnavailableError("the daemon is stopping"); }

}  // namespace gantry::api
