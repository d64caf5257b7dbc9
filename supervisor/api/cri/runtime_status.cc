#include "supervisor/api/cri/runtime_status.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include <nlohmann/json.hpp>

#include "supervisor/core/pod_service.h"

namespace gantry::api::cri {

void FillStatus(const CriParts& parts, const core::CallContext& in, bool verbose,
                wire::StatusResponse& response) {
  wire::RuntimeCondition& ready = *response.mutable_status()->add_conditions();
  ready.set_type("RuntimeReady");
  const absl::StatusOr<std::vector<core::PodRuntime>> runtimes = parts.pods->Runtimes();
  ready.set_status(runtimes.ok());
  if (!runtimes.ok()) {
    ready.set_reason("RuntimeMissing");
    ready.set_message(std::string(runtimes.status().message()));
  }
  wire::RuntimeCondition& network = *response.mutable_status()->add_conditions();
  network.set_type("NetworkReady");
  const absl::Status up = parts.pods->NetworkReady(in);
  network.set_status(up.ok());
  if (!up.ok()) {
    network.set_reason("NetworkPluginNotReady");
    network.set_message(std::string(up.message()));
  }
  for (const core::PodRuntime& one : runtimes.value_or(std::vector<core::PodRuntime>())) {
    wire::RuntimeHandler& handler = *response.add_runtime_handlers();
    handler.set_name(one.name);
    handler.mutable_features()->set_recursive_read_only_mounts(one.recursive_read_only);
    handler.mutable_features()->set_user_namespaces(one.user_namespaces);
  }
  response.mutable_features()->set_supplemental_groups_policy(true);
  // Nothing more is needed for it than for a user namespace. mount_options are left out: crun 1.8
  // drops them where there is a user namespace, and says nothing.
  response.mutable_features()->set_user_namespaces_host_network(runtimes.ok() &&
                                                                runtimes->front().user_namespaces);
  if (!verbose) return;
  const nlohmann::json config = {
      {"rootDir", parts.root_directory},
      {"systemdCgroup", runtimes.ok() && runtimes->front().systemd_cgroup}};
  (*response.mutable_info())["config"] = config.dump();
  (*response.mutable_info())["cniconfig"] = parts.pods->NetworkConfigJson();
  (*response.mutable_info())["lastCNILoadStatus"] = parts.pods->NetworkLoadStatus();
}

}  // namespace gantry::api::cri
