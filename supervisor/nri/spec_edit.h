// What plugins change, put into a container's runtime configuration. Pure.
//
// A name that begins with "-" is removed instead of being set. What two plugins set is refused
// (Owners). A plugin's answer is input like any other: what is no mount, no device, no variable is
// refused with the plugin's name.
#ifndef GANTRY_SUPERVISOR_NRI_SPEC_EDIT_H_
#define GANTRY_SUPERVISOR_NRI_SPEC_EDIT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json_fwd.hpp>

#include "supervisor/nri/owners.h"
#include "supervisor/nri/wire.h"

namespace gantry::nri {

// Whose change of which container it is.
struct Editor {
  std::string container;
  std::string plugin;
  Owners* owners;
};

// kInvalidArgument that names the plugin and the container.
absl::Status Refused(const Editor& editor, absl::string_view what);

// kInvalidArgument: the adjustment; kFailedPrecondition: another plugin was first. The names of CDI
// devices are added to `cdi_devices`; the configuration is not changed for them.
absl::Status Adjust(const wire::ContainerAdjustment& change, const Editor& editor,
                    nlohmann::json& spec, std::vector<std::string>& cdi_devices);

// linux.resources of the configuration, an object. Device rules are added.
absl::Status AdjustResources(const wire::LinuxResources& change, const Editor& editor,
                             nlohmann::json& resources);

// The same on the message that an update travels in. Errors as above.
absl::Status MergeResources(const wire::LinuxResources& change, const Editor& editor,
                            wire::LinuxResources& into);

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_SPEC_EDIT_H_
