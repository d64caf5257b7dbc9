// What a container has of the pod that it is made in.
#ifndef GANTRY_SUPERVISOR_CORE_POD_MEMBER_H_
#define GANTRY_SUPERVISOR_CORE_POD_MEMBER_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/spec_builder.h"
#include "supervisor/oci/user_lookup.h"

namespace gantry::core {

// In a container's record: where the shim writes its log, in CRI's format. "" for nowhere.
inline constexpr char kPodLogExtension[] = "gantry.pod.log";

struct PodMember {
  std::string pod_id;
  std::string directory;  // the pod's hostname, hosts and resolv.conf are in it
  std::string log_path;   // absolute; "" for no log
  // Brings the container into the pod: namespaces, cgroup, and what else gantry.v1's configuration
  // has no words for. Called with what was made of that configuration.
  std::function<absl::Status(const std::string& id, oci::ContainerConfig& spec, oci::User& user)>
      join;
  // Changes the finished configuration before it is recorded; may be null. What it adds to `labels`
  // and `extensions` is recorded too.
  std::function<absl::Status(const std::string& id, oci::RuntimeSpec& spec)> finish;
  // CDI names of further devices, which finish() may add to.
  std::vector<std::string> cdi_devices;
  // Added to the record's labels once join() and finish() have run; for references to what they
  // made.
  std::map<std::string, std::string> labels;
  // What the door keeps with the record, by its name. Core does not read it.
  std::map<std::string, std::string> extensions;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_MEMBER_H_
