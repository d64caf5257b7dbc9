// What a container must not see, change or call: masked and read-only paths, seccomp, cgroups. With
// it the options of --security-opt that say so (ApplySecurityOption() of spec_builder.h). Used by
// BuildSpec() only.
//
// Free functions, safe to call from any thread; nothing here touches the disk.
#ifndef GANTRY_SUPERVISOR_OCI_SPEC_SECURITY_H_
#define GANTRY_SUPERVISOR_OCI_SPEC_SECURITY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include <nlohmann/json.hpp>

#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/spec_builder.h"

namespace gantry::oci {

// Adds maskedPaths, readonlyPaths and seccomp to the spec's "linux". `capabilities` are the
// container's, which the default profile depends on.
//   kInvalidArgument  a malformed path or seccomp profile
absl::Status AddConfinement(const ContainerConfig& config,
                            const std::vector<std::string>& capabilities, const HostFacts& host,
                            nlohmann::json& linux_part);

// The tree that a container sees is its own only in a cgroup namespace of its own, and only of
// version 2 may it be given away.
// kInvalidArgument: asked for otherwise.
absl::Status CheckWritableCgroups(const ContainerConfig& config, const HostFacts& host);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_SPEC_SECURITY_H_
