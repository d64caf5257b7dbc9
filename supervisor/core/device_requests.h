// Devices that a container asks for by what they are: CDI names, and GPUs as docker's --gpus asks
// for them, which are the devices of CDI kind nvidia.com/gpu.
//
// Free functions, safe to call from any thread; they read the CDI files.
#ifndef GANTRY_SUPERVISOR_CORE_DEVICE_REQUESTS_H_
#define GANTRY_SUPERVISOR_CORE_DEVICE_REQUESTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/oci/cdi/device_files.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::v1 {
class ContainerConfig;
}

namespace gantry::core {

// The CDI names behind the requests, in order. kInvalidArgument, field "device_requests": a driver
// or capability that nobody serves, a request that says nothing or both a count and ids.
absl::StatusOr<std::vector<std::string>> RequestedDevices(const v1::ContainerConfig& config);

// Whether a container could have them now.
//   kInvalidArgument, field "device_requests"  as above, or no file describes one of them
//   kFailedPrecondition                        two files do
absl::Status CheckDevices(const v1::ContainerConfig& config, const oci::cdi::DeviceFiles& files);

// Changes `spec` as the files say now. Errors: CheckDevices(), oci::cdi::ApplyEdits().
absl::Status AddDevices(const v1::ContainerConfig& config, const oci::cdi::DeviceFiles& files,
                        oci::RuntimeSpec& spec);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_DEVICE_REQUESTS_H_
