// A call on a client's session. Used by the session's files only.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_CONTEXT_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_CONTEXT_H_

#include <grpcpp/client_context.h>

#include <string>
#include <vector>

#include "absl/status/status.h"

#include "base/cancel_token.h"

namespace gantry::api::buildkit {

// A call that ends with the token. Thread-compatible.
class SessionContext {
 public:
  explicit SessionContext(CancelToken* cancel);
  grpc::ClientContext* get() { return &context_; }

  // Header values are printable ASCII: others are escaped, and the receiver is told.
  void Add(const std::string& key, const std::vector<std::string>& values);

 private:
  grpc::ClientContext context_;
  CancelToken::Registration cancelled_;  // ends before the context
};

// How a call on the session ended.
absl::Status Ended(const grpc::Status& status, CancelToken* cancel);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SESSION_CONTEXT_H_
