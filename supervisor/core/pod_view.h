// Pods and their containers as plugins of NRI are shown them. Pure.
#ifndef GANTRY_SUPERVISOR_CORE_POD_VIEW_H_
#define GANTRY_SUPERVISOR_CORE_POD_VIEW_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/pod_container.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/task_service.h"
#include "supervisor/nri/wire.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::core {

// Annotations of a runtime configuration that say what it is of. No others are put there: runtimes
// do things for some, and who writes a pod is not who may ask for them.
namespace pod_annotation {
inline constexpr char kType[] = "io.kubernetes.cri.container-type";
inline constexpr char kPodId[] = "io.kubernetes.cri.sandbox-id";
inline constexpr char kPodName[] = "io.kubernetes.cri.sandbox-name";
inline constexpr char kPodNamespace[] = "io.kubernetes.cri.sandbox-namespace";
inline constexpr char kPodUid[] = "io.kubernetes.cri.sandbox-uid";
inline constexpr char kLogDirectory[] = "io.kubernetes.cri.sandbox-log-directory";
inline constexpr char kContainerName[] = "io.kubernetes.cri.container-name";
inline constexpr char kImageName[] = "io.kubernetes.cri.image-name";
inline constexpr char kHandler[] = "io.containerd.cri.runtime-handler";
}  // namespace pod_annotation

// `directory`: where the pod's namespaces are kept. `pid`: of its init; 0 for none.
nri::wire::PodSandbox ViewOfPod(const Pod& pod, const std::string& directory, int32_t pid);

// One that is recorded.
nri::wire::Container ViewOfContainer(const LoadedContainer& container,
                                     const std::optional<Process>& task);
// One that is being made. What its runtime configuration says is not filled in.
nri::wire::Container ViewOfNewContainer(const PodContainer& container, const std::string& id,
                                        const std::string& pod_id);

// Limits both ways. Errors: what plugins made of them is no limit.
nri::wire::LinuxResources ToPluginResources(const oci::Resources& resources);
absl::StatusOr<oci::Resources> FromPluginResources(const nri::wire::LinuxResources& resources);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_VIEW_H_
