// Requests for devices by what they are, in docker's words: the values of --device and --gpus, and
// HostConfig.DeviceRequests.
//
// Pure functions. Which devices there are is the daemon's to know.
#ifndef GANTRY_BASE_ENGINE_DEVICE_REQUEST_H_
#define GANTRY_BASE_ENGINE_DEVICE_REQUEST_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::v1 {
class ContainerConfig;
class DeviceRequest;
}  // namespace gantry::v1

namespace gantry::engine {

class FieldReader;

// --device: a path as ParseDevice() reads it, or VENDOR/CLASS=NAME of CDI. What is no absolute path
// and has a '=' behind a '/' is taken for such a name. Several names become one request.
absl::Status AddDevice(absl::string_view text, v1::ContainerConfig& config);

// --gpus all, a number, or fields in CSV: device=0, "device=0,1", count=2, driver=...,
// capabilities=..., options=... ; the capability "gpu" is always asked for.
absl::StatusOr<v1::DeviceRequest> ParseGpus(absl::string_view text);

// One entry of HostConfig.DeviceRequests.
void ReadDeviceRequest(FieldReader& in, v1::DeviceRequest& out);
// The list; null where nothing is requested, as docker writes it.
Value DeviceRequestsDocument(const v1::ContainerConfig& config);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_DEVICE_REQUEST_H_
