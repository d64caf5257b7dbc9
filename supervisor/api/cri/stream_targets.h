// What the streaming server reaches in core: execs, attached clients and the namespaces of pods.
#ifndef GANTRY_SUPERVISOR_API_CRI_STREAM_TARGETS_H_
#define GANTRY_SUPERVISOR_API_CRI_STREAM_TARGETS_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"

#include "supervisor/api/cri/stream_server.h"

namespace gantry::core {
class ExecService;
}

namespace gantry::api::cri {

// In the namespace `ns`. `netns_path`: path of a pod's network namespace, "" with the host's
// network. All outlive the server.
StreamTargets CoreStreamTargets(
    const std::string& ns, core::ExecService& execs, core::ContainerStreams& streams,
    std::function<absl::StatusOr<std::string>(const std::string& pod_id)> netns_path);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_STREAM_TARGETS_H_
