// Port-forward: one client's pairs of channels joined to TCP connections inside a pod.
//
// Each connection is a pair of channels, "error" and "data", with the same port and request id. It
// is dialled at 127.0.0.1 and, if nothing listens there, at ::1, from the pod's network namespace;
// nothing has to be installed in the pod. Spec: portforward.k8s.io.
#ifndef GANTRY_SUPERVISOR_API_CRI_FORWARD_SESSION_H_
#define GANTRY_SUPERVISOR_API_CRI_FORWARD_SESSION_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/api/cri/link_connection.h"

namespace gantry::api::cri {

// Serves until the client has gone. `netns` as StreamTargets::netns. A pair that is not complete
// after `creation_time` is refused. Blocks; does not close the connection.
void ServeForwards(LinkConnection& connection, const std::string& pod_id,
                   absl::Duration creation_time,
                   const std::function<absl::StatusOr<UniqueFd>(const std::string&)>& netns);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_FORWARD_SESSION_H_
