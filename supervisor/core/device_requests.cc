#include "supervisor/core/device_requests.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/oci/cdi/apply_edits.h"

namespace gantry::core {
namespace {

constexpr char kField[] = "device_requests";
constexpr char kGpuKind[] = "nvidia.com/gpu=";
// More than any machine has; the names are made up one by one.
constexpr int kMaxCount = 1024;

// As docker's messages print it: [[gpu compute]].
std::string CapabilityText(const v1::DeviceRequest& request) {
  return absl::StrCat("[",
                      absl::StrJoin(request.capabilities(), " ",
                                    [](std::string* out, const v1::StringList& one) {
                                      absl::StrAppend(out, "[", absl::StrJoin(one.values(), " "),
                                                      "]");
                                    }),
                      "]");
}

absl::Status NoDriver(const v1::DeviceRequest& request, absl::string_view why) {
  return FieldError(kField,
                    absl::StrCat("could not select device driver \"", request.driver(),
                                 "\" with capabilities: ", CapabilityText(request), "; ", why));
}

bool WantsGpu(const v1::DeviceRequest& request) {
  return std::any_of(
      request.capabilities().begin(), request.capabilities().end(), [](const v1::StringList& all) {
        return std::find(all.values().begin(), all.values().end(), "gpu") != all.values().end();
      });
}

absl::Status AddGpus(const v1::DeviceRequest& request, std::vector<std::string>& names) {
  if (request.device_ids_size() > 0) {
    if (request.count() != 0)
      return FieldError(kField, "a count and ids of devices exclude each other");
    for (const std::string& id : request.device_ids()) {
      names.push_back(absl::StrContains(id, "/") ? id : absl::StrCat(kGpuKind, id));
    }
    return absl::OkStatus();
  }
  if (request.count() == -1) {
    names.push_back(absl::StrCat(kGpuKind, "all"));
    return absl::OkStatus();
  }
  const int count = request.count() == 0 ? 1 : request.count();
  if (count < 0 || count > kMaxCount) {
    return FieldError(kField,
                      absl::StrCat("count ", count, " is neither -1 nor from 1 to ", kMaxCount));
  }
  for (int i = 0; i < count; ++i) names.push_back(absl::StrCat(kGpuKind, i));
  return absl::OkStatus();
}

absl::StatusOr<oci::cdi::ContainerEdits> Resolve(const v1::ContainerConfig& config,
                                                 const oci::cdi::DeviceFiles& files) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, RequestedDevices(config));
  absl::StatusOr<oci::cdi::ContainerEdits> edits = files.Resolve(names);
  if (edits.ok() || absl::IsFailedPrecondition(edits.status())) return edits;
  const std::string why(edits.status().message());
  for (const v1::DeviceRequest& request : config.device_requests()) {
    if (request.driver() == "cdi" || !absl::StrContains(why, kGpuKind)) continue;
    return NoDriver(request, absl::StrCat(why, "; `nvidia-ctk cdi generate` writes such a file"));
  }
  return FieldError(kField, why);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> RequestedDevices(const v1::ContainerConfig& config) {
  std::vector<std::string> names;
  for (const v1::DeviceRequest& request : config.device_requests()) {
    if (request.driver() == "cdi") {
      if (request.device_ids().empty())
        return FieldError(kField, "a request of the driver \"cdi\" names no device");
      if (request.count() != 0)
        return FieldError(kField, "the driver \"cdi\" takes names of devices, not a count");
      for (const std::string& id : request.device_ids()) names.push_back(id);
    } else if (request.driver() == "nvidia" || (request.driver().empty() && WantsGpu(request))) {
      GANTRY_RETURN_IF_ERROR(AddGpus(request, names));
    } else {
      return NoDriver(request,
                      "the drivers are \"cdi\" and, for the capability \"gpu\", \"nvidia\"");
    }
  }
  return names;
}

absl::Status CheckDevices(const v1::ContainerConfig& config, const oci::cdi::DeviceFiles& files) {
  if (config.device_requests().empty()) return absl::OkStatus();
  return Resolve(config, files).status();
}

absl::Status AddDevices(const v1::ContainerConfig& config, const oci::cdi::DeviceFiles& files,
                        oci::RuntimeSpec& spec) {
  if (config.device_requests().empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const oci::cdi::ContainerEdits edits, Resolve(config, files));
  return oci::cdi::ApplyEdits(edits, spec);
}

}  // namespace gantry::core
