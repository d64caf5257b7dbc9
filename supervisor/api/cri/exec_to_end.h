// A command in a container, run to its end for one call: ExecSync. Used by the runtime service
// only. Blocks the call's thread while the command runs; safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_API_CRI_EXEC_TO_END_H_
#define GANTRY_SUPERVISOR_API_CRI_EXEC_TO_END_H_

#include <string>

#include "absl/status/status.h"

#include "proto/cri/v1/runtime_service.pb.h"
#include "supervisor/api/cri/translate.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/core/exec_runner.h"

namespace gantry::api::cri {

// The container is one that runs.
//   kDeadlineExceeded  the command ran longer than the request allows, and was killed
//   kCancelled         the client has gone; the command is given up
absl::Status ExecToEnd(core::ExecRunner& runner, Call& call, const std::string& ns,
                       const std::string& container, const wire::ExecSyncRequest& request,
                       wire::ExecSyncResponse& response);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_EXEC_TO_END_H_
