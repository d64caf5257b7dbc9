// What a run of a container needs before its task is made: its network namespace, its name files,
// its root file system and its spec, as they are at this start. PrepareRun() is the flow.
//
// Called with the container's operation lock held. Its place in a network is given back by
// EndRun(); nothing else outlives the task or has to be released: files are written over by the
// next start, mounts are the shim's. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_PREPARE_RUN_H_
#define GANTRY_SUPERVISOR_CORE_PREPARE_RUN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/mount_points.h"
#include "supervisor/core/name_files.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/task_view.h"
#include "supervisor/oci/cdi/device_files.h"

namespace gantry::core {

class NetworkPlaces;
class RunVolumes;

class RunPreparer {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    const TaskView* tasks;
    const MountPoints* mount_points;
    NetworkPlaces* networks = nullptr;  // null: there are no networks
    RunVolumes* volumes = nullptr;      // null: there are no volumes
    int64_t log_max_size_bytes = 20 << 20;
    int32_t log_max_files = 5;
    const oci::cdi::DeviceFiles* devices = nullptr;  // null: no files describe devices
    int64_t generated_files_bytes = 0;               // 0: the files may grow without limit
  };
  explicit RunPreparer(const Parts& parts) : parts_(parts) {}

  // Nothing is left after a failure. Its networks may still be in the making when it returns; the
  // task's `ready` waits for them.
  //   kFailedPrecondition  a container whose namespaces it shares does not run
  //   otherwise those of NetworkPlaces::Enter()
  absl::StatusOr<CreateTask> PrepareRun(const CallContext& context, const LoadedContainer& loaded);
  // Its task has been made, or not: gives back what only the making needed.
  void EndPreparation(const LoadedContainer& loaded);
  // Gives back what outlives the task. Failures are logged: the next start, of the container or of
  // the daemon, tries again. Idempotent.
  void EndRun(const CallContext& context, const LoadedContainer& loaded);

  // Pid of the first process of a container. kFailedPrecondition: it does not run.
  absl::StatusOr<int32_t> InitPid(const CallContext& context, absl::string_view container);

 private:
  // The stored spec, with the namespaces that it shares with other containers as they are now, and
  // the network namespace at `netns` ("": a fresh one), and the devices that it asks for.
  absl::StatusOr<std::string> SpecOfRun(const CallContext& context, const LoadedContainer& loaded,
                                        const NetworkChoice& network, const std::string& netns);
  // hostname, hosts and resolv.conf.
  absl::Status WriteFilesOfRun(const CallContext& context, const LoadedContainer& loaded,
                               const NetworkChoice& network, NamesOfNetworks names);
  absl::StatusOr<shim::v1::Stdio> StdioOfRun(const LoadedContainer& loaded);

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_PREPARE_RUN_H_
