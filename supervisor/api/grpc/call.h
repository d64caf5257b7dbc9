// One gRPC call as core wants it: namespace and lease from the metadata, a cancel token with the
// client's deadline.
//
// Thread-compatible; cancel() is thread-safe. Lives as long as the call.
#ifndef GANTRY_SUPERVISOR_API_GRPC_CALL_H_
#define GANTRY_SUPERVISOR_API_GRPC_CALL_H_

#include <grpcpp/server_context.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/caller.h"
#include "supervisor/metadata/scope.h"

namespace gantry::api {

// What a call has to say about its namespace. The first and the last are containerd's ways, whose
// clients read an error's class from the end of its message.
enum class Scoped {
  kYes,      // it names a valid one
  kDefault,  // it names a valid one, or none for "default"
  kNo,       // it concerns none
};

class Call {
 public:
  explicit Call(const grpc::ServerContextBase& context, Scoped scoped = Scoped::kYes)
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
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // To be asked before any work is done.
  //   kFailedPrecondition  no namespace is named, and one is required
  //   kInvalidArgument     the namespace is not an identifier
  absl::Status Validate() const {
    return scoped_ == Scoped::kNo ? absl::OkStatus() : scope_.Validate();
  }
  // How the call ends, in its door's words.
  grpc::Status Ended(const absl::Status& status) const {
    return scoped_ == Scoped::kDefault ? ToGrpc(status) : ToGrpcWithClass(status);
  }
  // Namespace and lease, for the stores.
  const metadata::Scope& scope() const { return scope_; }
  const std::string& ns() const { return scope_.ns; }
  const core::CallContext& context() const { return context_; }
  operator const core::CallContext&() const { return context_; }
  CancelToken& cancel() { return cancel_; }
  // The client's deadline; infinite when it set none.
  absl::Time deadline() const { return absl::Now() + cancel_.remaining(); }

 private:
  static absl::Duration TimeLeft(const grpc::ServerContextBase& context) {
    const auto deadline = context.deadline();
    if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
    return std::max(absl::ZeroDuration(),
                    absl::FromChrono(deadline - std::chrono::system_clock::now()));
  }
  // The first value, if there are several.
  static std::string Header(const grpc::ServerContextBase& context, const char* name) {
    const auto& all = context.client_metadata();
    const auto it = all.lower_bound(name);
    return it == all.end() || it->first != name ? std::string()
                                                : std::string(it->second.data(), it->second.size());
  }

  const Scoped scoped_;
  CancelToken cancel_;
  metadata::Scope scope_;
  core::CallContext context_;
};

inline absl::Status ClientGone() { return absl::CancelledError("the client has gone"); }
inline absl::Status DaemonStopping() { return absl::UnavailableError("the daemon is stopping"); }

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_CALL_H_
