// A gRPC call as core wants it: namespace and lease from the metadata, a cancel token with the deadline.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_CALL_H_
#define GANTRY_SUPERVISOR_API_GANTRY_CALL_H_

#include <grpcpp/server_context.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "supervisor/core/call_context.h"

namespace gantry::api::gantry_v1 {

// Time the client leaves us.
inline absl::Duration TimeLeft(const grpc::ServerContextBase& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
  return std::max(absl::ZeroDuration(),
                  absl::FromChrono(deadline - std::chrono::system_clock::now()));
}

// Namespace and lease of a call; without a header it is "default".
inline core::CallContext MakeCallContext(const grpc::ServerContextBase& context,
                                         CancelToken* cancel) {
  const auto header = [&](const char* name) {
    const auto it = context.client_metadata().find(name);
    return it == context.client_metadata().end()
               ? std::string()
               : std::string(it->second.data(), it->second.size());
  };
  core::CallContext call;
  call.ns = header("containerd-namespace");
  if (call.ns.empty()) call.ns = "default";
  call.lease = header("containerd-lease");
  call.cancel = cancel;
  return call;
}

// For the length of a unary call.
class Call {
 public:
  explicit Call(const grpc::ServerContextBase& context)
      : cancel_(TimeLeft(context)), context_(MakeCallContext(context, &cancel_)) {}
  operator const core::CallContext&() const { return context_; }

 private:
  CancelToken cancel_;
  const core::CallContext context_;
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_CALL_H_
