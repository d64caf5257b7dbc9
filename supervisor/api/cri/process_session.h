// Exec and attach: one client's channels joined to the streams of a process.
//
// Spec: remotecommand of Kubernetes, versions 1 to 5.
#ifndef GANTRY_SUPERVISOR_API_CRI_PROCESS_SESSION_H_
#define GANTRY_SUPERVISOR_API_CRI_PROCESS_SESSION_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "supervisor/api/cri/link_connection.h"
#include "supervisor/api/cri/opened_process.h"
#include "supervisor/api/cri/stream_link.h"
#include "supervisor/core/container_streams.h"

namespace gantry::api::cri {

using OpenProcess =
    std::function<absl::StatusOr<OpenedProcess>(runtime::AttachStream::Handler* handler)>;

// Waits until the client has opened its channels, at most `creation_time`; then opens the process's
// streams and serves until the process has ended or the client has gone. Of an exec, an exit code
// other than 0 is a failure, and its input ends with the client unless it is a terminal; a
// container that a client was attached to goes on, its input as stdin_once says. Blocks; does not
// close the connection.
void ServeProcess(LinkConnection& connection, const LinkPurpose& purpose,
                  absl::Duration creation_time, bool is_exec, const OpenProcess& open);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_PROCESS_SESSION_H_
