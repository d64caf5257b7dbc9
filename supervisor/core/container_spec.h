// From a gantry.v1.ContainerConfig to what the spec builder takes. Pure, but for the check that
// bind sources exist.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_SPEC_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_SPEC_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/oci/image_config.h"
#include "supervisor/oci/spec_builder.h"

namespace gantry::v1 {
class ContainerConfig;
class Resources;
}  // namespace gantry::v1

namespace gantry::core {

// Refuses what no container can have, before anything is made. kInvalidArgument names the option
// and what to write instead.
absl::Status CheckContainerConfig(const v1::ContainerConfig& config);

// Fills in what the image says where the person was silent: command, environment, directory, user,
// labels, stop signal.
// kInvalidArgument: nothing to run.
absl::Status MergeImageConfig(const oci::ImageConfig& image, v1::ContainerConfig& config);

// linux.cgroupsPath of a container: "/gantry/<id>", or "system.slice:gantry:<id>" where systemd
// makes the group. `parent` is the person's --cgroup-parent; "" is the usual one.
std::string CgroupsPath(absl::string_view id, const std::string& parent, bool systemd);

struct SpecPlace {
  std::string id;
  std::string directory;  // holds hostname, hosts and resolv.conf to be shown in the container
  std::string init_path;
  std::string cgroups_path;
  std::map<std::string, std::string> mount_sources = {};  // of volumes, by target
  // Pid of another container's init process, for "container:NAME" modes.
  std::function<absl::StatusOr<int32_t>(absl::string_view container)> pid_of;
};

// `config` is merged already.
absl::StatusOr<oci::ContainerConfig> ToSpecConfig(const v1::ContainerConfig& config,
                                                  const SpecPlace& place);

// The limits alone, for create and update.
absl::StatusOr<oci::Resources> ToResources(const v1::Resources& resources);

// "TERM", "SIGTERM", "15" -> 15. kInvalidArgument: no such signal.
absl::StatusOr<int> ParseSignal(absl::string_view text);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_SPEC_H_
