// The mounts of a runtime spec: docker's usual ones, with the user's in their place. Used by
// BuildSpec() only.
//
// Free functions, safe to call from any thread; nothing here touches the disk.
#ifndef GANTRY_SUPERVISOR_OCI_SPEC_MOUNTS_H_
#define GANTRY_SUPERVISOR_OCI_SPEC_MOUNTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include <nlohmann/json.hpp>

#include "base/id_map.h"
#include "supervisor/oci/spec_builder.h"

namespace gantry::oci {

// In the container's own /dev, so that nothing is written into its root file system.
inline constexpr char kInitInContainer[] = "/dev/gantry-init";

nlohmann::json RangesToJson(const std::vector<IdRange>& ranges);

// In the order in which the runtime is to mount them. `needs_shared_root` and `needs_slave_root`
// are set when a mount hands mounts out of the container or takes them in.
//   kInvalidArgument  a path that is not absolute, two mounts at one place, an unknown propagation
absl::StatusOr<nlohmann::json> BuildMounts(const ContainerConfig& config, bool& needs_shared_root,
                                           bool& needs_slave_root);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_SPEC_MOUNTS_H_
