// Devices of a runtime spec: nodes in the container's /dev, and rules of its device cgroup. Used by
// BuildSpec() only.
//
// Free functions, safe to call from any thread. Nodes are looked up on the host's disk.
#ifndef GANTRY_SUPERVISOR_OCI_SPEC_DEVICES_H_
#define GANTRY_SUPERVISOR_OCI_SPEC_DEVICES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json.hpp>

#include "supervisor/oci/spec_builder.h"

namespace gantry::oci {

// A negative number stands for all of them.
nlohmann::json DeviceRule(bool allow, absl::string_view type, int64_t major, int64_t minor,
                          absl::string_view access);

// Of every container: null, zero, random, urandom, tty and console are allowed, all else is not.
nlohmann::json DefaultDeviceRules();

// "c 10:200 rwm", "b *:* r", "a *:* rwm".
absl::StatusOr<nlohmann::json> ParseDeviceRule(absl::string_view text);

// All device nodes below `directory`. What belongs to the container's own /dev is left out.
void CollectDevices(const std::string& directory, const std::string& shown_as,
                    nlohmann::json& devices, nlohmann::json* rules, absl::string_view access,
                    int depth);

// Adds a node, or those of a directory, with its rule.
//   kNotFound         there is no such file on the host
//   kInvalidArgument  it is no device, or the paths or permissions are malformed
absl::Status AddDevice(const DeviceConfig& device, nlohmann::json& devices, nlohmann::json& rules);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_SPEC_DEVICES_H_
