// The one table between our statuses and gRPC's, and what a gRPC call says about its context.
#ifndef GANTRY_SUPERVISOR_API_GRPC_STATUS_H_
#define GANTRY_SUPERVISOR_API_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace gantry::api {

// The codes are the same numbers; messages are cut to what HTTP/2 trailers carry safely (4 KiB) and
// made valid UTF-8.
grpc::Status ToGrpc(const absl::Status& status);

// The same, its message ending with the words of its class ("...: not found"), by which
// containerd's clients know it when only the text reaches them.
grpc::Status ToGrpcWithClass(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_STATUS_H_
