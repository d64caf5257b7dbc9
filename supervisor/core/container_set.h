// Changes a container without making it anew: what can be changed while it runs is in force at
// once, the rest from its next start on, and the answer says which is which.
//
//   at once         labels, limits, restart policy, stop signal and time, networks, published ports
//                   (but those of a container that has no network of its own), mounts, where a log
//                   driver sends to
//   at its start    environment, command, entry point, working directory, other options of the log,
//                   another log driver
//
// Thread-safe; takes the container's operation lock. kNotFound: no such container or network;
// kInvalidArgument: a value, or nothing is to change; kFailedPrecondition: another client made the
// container, or its state forbids it. Labels, process, ports and mounts change together or not at
// all; when a later change fails, those before it stay: the message names them.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_SET_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_SET_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/runtime_spec.h"

namespace gantry::v1 {
class ContainerConfig;
class SetContainerRequest;
class SetContainerResponse;
}  // namespace gantry::v1

namespace gantry::runtime {
class RuntimeProbe;
}

namespace gantry::core {

class ContainerLifecycle;
class ContainerNetworks;
class ContainerVolumes;
class MountChanges;
class RunVolumes;

class ContainerSet {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    TaskService* tasks;
    ContainerLifecycle* lifecycle;
    ContainerNetworks* networks;
    ContainerVolumes* volumes;
    runtime::RuntimeProbe* runtimes;
    RunVolumes* run_volumes;
  };
  explicit ContainerSet(const Parts& parts) : parts_(parts) {}

  absl::StatusOr<v1::SetContainerResponse> Set(const CallContext& context,
                                               const v1::SetContainerRequest& request);

 private:
  absl::Status SetConfig(const CallContext& context, const v1::SetContainerRequest& request,
                         v1::SetContainerResponse& response);
  // Makes the mounts that are asked for: those of the stored configuration, and where the container
  // runs those that it has. `before` is the configuration without the changes, `loaded` has them.
  // `changes` are kept once the record is written.
  absl::Status SetMounts(const CallContext& context, const v1::SetContainerRequest& request,
                         const v1::ContainerConfig& before, LoadedContainer& loaded,
                         oci::RuntimeSpec& spec, MountChanges& changes);
  // The published ports of a running container: `loaded` has the new configuration. Notes in
  // `response` what is in force.
  absl::Status SetPorts(const CallContext& context, const v1::SetContainerRequest& request,
                        const LoadedContainer& loaded, bool runs,
                        v1::SetContainerResponse& response);
  // Where the log goes, of a running container.
  absl::Status MoveLog(const CallContext& context, const LoadedContainer& loaded);

  const Parts parts_;
};

// The part of Set() that is about the configuration; pure. `runs`: the container runs, so that what
// cannot change now is told of.
absl::Status ApplySet(const v1::SetContainerRequest& request, bool runs,
                      v1::ContainerConfig& config, v1::SetContainerResponse& response);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_SET_H_
