// Between CRI's messages and core's: what a pod and a container are asked to be, and how they are
// doing. Pure, but for the reading of seccomp profiles that a request names.
#ifndef GANTRY_SUPERVISOR_API_CRI_TRANSLATE_H_
#define GANTRY_SUPERVISOR_API_CRI_TRANSLATE_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "proto/cri/v1/containers.pb.h"
#include "proto/cri/v1/images.pb.h"
#include "proto/cri/v1/pod_config.pb.h"
#include "proto/cri/v1/pods.pb.h"
#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/api/cri/cri_door.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/pod_container.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/task_service.h"

namespace gantry::v1 {
class RegistryAuth;
}

namespace gantry::api::cri {

namespace wire = ::runtime::v1;

// What the door keeps with a container's record: the wire::ContainerConfig as it came.
inline constexpr char kExtension[] = "cri";

// Reads the file of a seccomp profile. kNotFound and others are the request's fault.
using ReadProfile = std::function<absl::StatusOr<std::string>(const std::string& path)>;

// kInvalidArgument names the field.
absl::StatusOr<gantry::v1::PodConfig> ToPod(const wire::PodSandboxConfig& in,
                                            const std::string& runtime_handler);
// `image`: what the container is made from, as core finds it.
absl::StatusOr<core::PodContainer> ToContainer(const std::string& pod,
                                               const wire::ContainerConfig& in,
                                               const ReadProfile& read);
absl::StatusOr<oci::Resources> ToResources(const wire::LinuxContainerResources& in);
// Takes over what `change` sets.
void MergeResources(const wire::LinuxContainerResources& change,
                    wire::LinuxContainerResources& into);
absl::StatusOr<gantry::v1::RegistryAuth> ToAuth(const wire::AuthConfig& in,
                                                absl::string_view image);

wire::PodSandbox ToSandbox(const core::Pod& pod);
wire::PodSandboxStatus ToSandboxStatus(const core::Pod& pod);

// A container with its task, if it has one.
struct ContainerNow {
  core::LoadedContainer loaded;
  std::optional<core::Process> task;
  wire::ContainerConfig config;
};
// Fills in the configuration, which the record has.
void ReadConfig(ContainerNow& now);

wire::ContainerState StateOf(const ContainerNow& container);
wire::Container ToContainerItem(const ContainerNow& container);
wire::ContainerStatus ToStatus(const ContainerNow& container, const core::Pod* pod);
// The JSON of a verbose answer.
std::string VerboseInfo(const ContainerNow& container);

// "busybox" -> "docker.io/library/busybox": names as CRI shows them.
std::string FullName(absl::string_view familiar);

// Whether all of `wanted` is in `labels`.
template <class Map>
bool LabelsFit(const Map& labels, const Map& wanted) {
  for (const auto& [key, value] : wanted) {
    const auto found = labels.find(key);
    if (found == labels.end() || found->second != value) return false;
  }
  return true;
}

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_TRANSLATE_H_
