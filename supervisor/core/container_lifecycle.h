// The life cycle of containers by intent: docker's verbs over records, snapshots and tasks.
// containerd's clients order these steps themselves and do not come here.
//
// Values are messages of gantry.v1 (docs/adr/0004).
// Thread-safe. Operations on one container take turns (its operation lock).
// kNotFound: no such container; kInvalidArgument: ambiguous prefix, bad request;
// kFailedPrecondition: its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_LIFECYCLE_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_LIFECYCLE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_removal.h"
#include "supervisor/core/container_steps.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_unpack.h"
#include "supervisor/core/prepare_run.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/cdi/device_files.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/user_lookup.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::v1 {
class ContainerConfig;
class CreateContainerRequest;
class CreateContainerResponse;
class PruneContainersRequest;
class PruneContainersResponse;
class RemoveContainerRequest;
class RemoveContainerResponse;
class RestartContainerRequest;
class StartContainerRequest;
class StartContainerResponse;
class StopContainerRequest;
class StopContainerResponse;
class UpdateContainerRequest;
class UpdateContainerResponse;
enum ContainerState : int;
}  // namespace gantry::v1

namespace gantry::core {

class ContainerVolumes;
class NetworkPlaces;
struct PodMember;

// kRun: it is started at once, so one that a restart of the daemon finds not started was cut off.
enum class CreateFor { kLater, kRun };

class ContainerLifecycle {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerSteps* steps;
    RunPreparer* runs;
    ContainerRemoval* removal;
    ContainerView* view;
    Stores* stores;
    EventBus* events;
    TaskService* tasks;
    ImageCatalog* images;
    ImageUnpack* unpack;
    const oci::HostFacts* host;
    runtime::RuntimeProbe* runtimes;
    ContainerVolumes* volumes;
    std::string state_directory;        // <state>/mounts/ holds mounts for the length of a call
    std::string init_path;              // static init for --init; "" none
    NetworkPlaces* networks = nullptr;  // null: there are no networks
    // Of a container that does not choose its network.
    std::string default_network = "none";
    const oci::cdi::DeviceFiles* devices = nullptr;  // null: no files describe devices
    int64_t default_pids_limit = 0;  // of a container that sets none and is in no pod; 0: none
  };
  explicit ContainerLifecycle(const Parts& parts) : parts_(parts) {}

  // Reserves the name, prepares the root file system, writes the record: in this order, each undone
  // if a later one fails.
  // With `pod` it is made in that pod.
  // kNotFound: no such image (pull it first); kAlreadyExists: the name is taken, by whom.
  absl::StatusOr<v1::CreateContainerResponse> Create(const CallContext& context,
                                                     const v1::CreateContainerRequest& request,
                                                     CreateFor purpose = CreateFor::kLater,
                                                     const PodMember* pod = nullptr);
  // The same from an image that has no name: a build's files so far. It is run at once. Nothing but
  // the platform and the layers of `image` is looked at; the caller keeps them alive.
  absl::StatusOr<v1::CreateContainerResponse> CreateFrom(const CallContext& context,
                                                         const v1::CreateContainerRequest& request,
                                                         const ResolvedImage& image);
  // kUnimplemented: from a checkpoint.
  absl::StatusOr<v1::StartContainerResponse> Start(const CallContext& context,
                                                   const v1::StartContainerRequest& request);
  // A stop of the same container that is under way and has more patience is cut short.
  absl::StatusOr<v1::StopContainerResponse> Stop(const CallContext& context,
                                                 const v1::StopContainerRequest& request);
  // With SIGKILL, returns once the process has ended. Of a container that waits for its restart,
  // the restart is called off.
  absl::Status Kill(const CallContext& context, const std::string& container,
                    const std::string& signal);
  absl::Status Restart(const CallContext& context, const v1::RestartContainerRequest& request);
  absl::Status Pause(const CallContext& context, const std::string& container);
  absl::Status Unpause(const CallContext& context, const std::string& container);
  // With `force` it is killed, and what else is done with it at the moment is cut short.
  // kFailedPrecondition: it runs and `force` is not set; kUnavailable: removal has begun and goes
  // on by itself.
  absl::StatusOr<v1::RemoveContainerResponse> Remove(const CallContext& context,
                                                     const v1::RemoveContainerRequest& request);
  // kInvalidArgument: it has that name already.
  absl::Status Rename(const CallContext& context, const std::string& container,
                      const std::string& new_name);
  // kInvalidArgument: nothing is to change.
  absl::StatusOr<v1::UpdateContainerResponse> Update(const CallContext& context,
                                                     const v1::UpdateContainerRequest& request);
  absl::StatusOr<v1::PruneContainersResponse> Prune(const CallContext& context,
                                                    const v1::PruneContainersRequest& request);

 private:
  absl::StatusOr<v1::CreateContainerResponse> CreateOf(
      const CallContext& context, const v1::CreateContainerRequest& request, CreateFor purpose,
      const PodMember* pod,
      const std::function<absl::StatusOr<ResolvedImage>(const v1::ContainerConfig&)>& find_image);
  // Its state now; `task`, which may be null, is set to its task.
  v1::ContainerState StateNow(const LoadedContainer& loaded,
                              absl::StatusOr<Process>* task = nullptr) const;
  absl::StatusOr<oci::User> LookUpUser(const std::string& chain_id,
                                       const std::vector<snapshot::Mount>& mounts,
                                       const std::string& user,
                                       const std::vector<std::string>& groups);

  const Parts parts_;

  absl::Mutex mu_;
  // Users and groups of image roots, by top chain ID; a few of the latest.
  std::map<std::string, oci::UserDatabase> users_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_LIFECYCLE_H_
