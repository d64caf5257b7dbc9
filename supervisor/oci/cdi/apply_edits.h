// What a CDI device asks for, in a container's runtime configuration.
//
// A free function, safe to call from any thread. Looks at the host's device nodes.
#ifndef GANTRY_SUPERVISOR_OCI_CDI_APPLY_EDITS_H_
#define GANTRY_SUPERVISOR_OCI_CDI_APPLY_EDITS_H_

#include "absl/status/status.h"

#include "supervisor/oci/cdi/cdi_file.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::oci::cdi {

// Variables, device nodes and mounts replace those of the same name or place. A device node belongs
// to the container's user where the file names none, and may be used as the file says. Mounts are
// put in the order of their depth, so that none hides another.
//   kNotFound            a device node that the host does not have
//   kInvalidArgument     a device node whose type is not that of the host's
//   kUnimplemented       a network interface is to be moved, which our runtimes cannot
absl::Status ApplyEdits(const ContainerEdits& edits, RuntimeSpec& spec);

}  // namespace gantry::oci::cdi

#endif  // GANTRY_SUPERVISOR_OCI_CDI_APPLY_EDITS_H_
