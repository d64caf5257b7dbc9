// One gRPC call as core wants it: namespace and lease from the metadata, a cancel token with the
// client's deadline.
//
// Thread-compatible; cancel() is thread-safe. Lives as long as the call.
#ifndef GANTRY_SUPERVISOR_API_GRPC_CALL_H_
#define GANTRY_SUPERVISOR_API_GRPC_CALL_H_

#include <grpcpp/server_context.h>

#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "supervisor/core/call_context.h"
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
  explicit Call(const grpc::ServerContextBase& context, Scoped scoped = Scoped::kYes);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // To be asked before any work is done.
  //   kFailedPrecondition  no namespace is named, and one is required
  //   kInvalidArgument     the namespace is not an identifier
  absl::Status Validate() const;
  // How the call ends, in its door's words.
  grpc::Status Ended(const absl::Status& status) const;
  // Namespace and lease, for the stores.
  const metadata::Scope& scope() const { return scope_; }
  const std::string& ns() const { return scope_.ns; }
  const core::CallContext& context() const { return context_; }
  operator const core::CallContext&() const { return context_; }
  CancelToken& cancel() { return cancel_; }
  // The client's deadline; infinite when it set none.
  absl::Time deadline() const { return absl::Now() + cancel_.remaining(); }

 private:
  const Scoped scoped_;
  CancelToken cancel_;
  metadata::Scope scope_;
  core::CallContext context_;
};

absl::Status ClientGone();
absl::Status DaemonStopping();

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_CALL_H_
