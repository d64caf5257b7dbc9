// A container's runtime configuration as plugins are shown it. Pure.
#ifndef GANTRY_SUPERVISOR_NRI_SPEC_VIEW_H_
#define GANTRY_SUPERVISOR_NRI_SPEC_VIEW_H_

#include <nlohmann/json_fwd.hpp>

#include "supervisor/nri/wire.h"

namespace gantry::nri {

// Fills in what the configuration says: process, mounts, hooks, limits, namespaces. What has the
// wrong type is left out.
void DescribeSpec(const nlohmann::json& spec, wire::Container& out);

// linux.resources.
wire::LinuxResources DescribeResources(const nlohmann::json& resources);

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_SPEC_VIEW_H_
