// Containers of pods: made, started, stopped, changed, removed and found.
//
// A part of PodService, which makes one and ends what is in a pod through it; both work on the same
// pods. A repeated Create() joins the work that is under way, whatever became of the first caller,
// and returns what there is when it is done. Lists are answered from memory.
//
// Plugins of NRI (nri/plugins.h) are asked about containers, and change them before they are made.
//
// Thread-safe. kNotFound: no such pod or container. Ids may be given as unambiguous prefixes
// (kInvalidArgument if one is not).
#ifndef GANTRY_SUPERVISOR_CORE_POD_CONTAINERS_H_
#define GANTRY_SUPERVISOR_CORE_POD_CONTAINERS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/pod_container.h"
#include "supervisor/core/pod_service.h"

namespace gantry::oci {
class RuntimeSpec;
}
namespace nri::pkg::api::v1alpha1 {
class ContainerEviction;
class ContainerUpdate;
}  // namespace nri::pkg::api::v1alpha1

namespace gantry::core {

class PodContainers {
 public:
  // Made by the service, which outlives it.
  explicit PodContainers(PodService& pods);
  ~PodContainers();
  PodContainers(const PodContainers&) = delete;
  PodContainers& operator=(const PodContainers&) = delete;

  // Returns the id of the new container; its name is chosen by the pod's and its own.
  //   kFailedPrecondition  the pod is not ready, or the image is not whole
  //   kAlreadyExists       there is another container of that name
  absl::StatusOr<std::string> Create(const CallContext& context, const PodContainer& container);
  // Of a container that was created and never started.
  absl::Status Start(const CallContext& context, const std::string& container);

  // Idempotent: of one that has ended, or is not there, nothing is left to do. After `patience` it
  // is killed; with none at once.
  absl::Status Stop(const CallContext& context, const std::string& container,
                    absl::Duration patience);
  // Kills it if it runs. Its log stays. Idempotent.
  absl::Status Remove(const CallContext& context, const std::string& container);
  // Changes what `change` sets of its limits, in the kernel where it runs and for its start where
  // it was not started. All is changed or nothing. `extension` replaces the door's of that name.
  absl::Status Update(const CallContext& context, const std::string& container,
                      const oci::Resources& change, const std::string& extension_name,
                      const std::string& extension);
  // Freezes the running container into a tar archive at the absolute path `location`; it runs on.
  //   kFailedPrecondition  it does not run, or its runtime or CRIU cannot do that here
  absl::Status Checkpoint(const CallContext& context, const std::string& container,
                          const std::string& location);
  // A container of any kind has ended, and that is on record.
  void OnExit(const std::string& ns, const std::string& container);
  // `container` is an id or a prefix of one; it has to be of a pod.
  absl::StatusOr<LoadedContainer> Load(const CallContext& context,
                                       const std::string& container) const;
  // Visits all containers of pods, in order of id: their records without specs, and their states.
  // `visit` may take things out of what it is shown, which is used again for the next.
  absl::Status Each(const CallContext& context,
                    absl::FunctionRef<void(LoadedContainer&)> visit) const;
  // All containers of pods, or those of one pod, without their specs.
  absl::StatusOr<std::vector<LoadedContainer>> List(const CallContext& context,
                                                    absl::string_view pod = "") const;
  // The same with them.
  absl::StatusOr<std::vector<LoadedContainer>> ListWhole(const CallContext& context,
                                                         absl::string_view pod = "") const;

 private:
  friend class PodService;
  using Entry = PodService::Entry;
  using EntryPtr = PodService::EntryPtr;
  using Key = PodService::Key;
  using PluginRound = PodService::PluginRound;
  struct Ending;

  // Kills what runs in the pod, and waits for starts that are under way.
  absl::Status EndAll(const CallContext& context, Entry& entry);
  absl::Status RemoveAll(const CallContext& context, const Entry& entry);
  absl::Status RemoveLoaded(const CallContext& context, const LoadedContainer& loaded);

  absl::StatusOr<std::string> CreateAlone(const CallContext& context, const EntryPtr& entry,
                                          const std::string& name, const PodContainer& container);
  // Adds to `labels` what the container's record has to refer to.
  absl::Status Join(const CallContext& context, const Entry& entry, const PodContainer& container,
                    const std::string& id, oci::ContainerConfig& spec, oci::User& user,
                    std::map<std::string, std::string>& labels) const;
  absl::StatusOr<oci::MountConfig> ToMount(const CallContext& context, const PodMount& mount,
                                           std::map<std::string, std::string>& labels) const;
  absl::StatusOr<oci::MountConfig> ImageMount(const CallContext& context, const PodMount& mount,
                                              std::map<std::string, std::string>& labels) const;

  absl::Status FreezeTo(const CallContext& context, const LoadedContainer& loaded,
                        const std::string& directory);
  absl::Status WriteRootChanges(const CallContext& context, const LoadedContainer& loaded,
                                const std::string& directory);

  absl::Status ChangeLimits(const CallContext& context, const std::string& container,
                            const oci::Resources& change,
                            const std::pair<std::string, std::string>* extension);

  // Plugins of NRI. A round is null where there are none; none of these is called with a lock that
  // a container's operation holds.
  absl::StatusOr<std::string> NamespaceOf(const std::string& container) const;
  absl::Status ApplyUpdate(const ::nri::pkg::api::v1alpha1::ContainerUpdate& update);
  absl::Status ApplyUpdates(const std::vector<::nri::pkg::api::v1alpha1::ContainerUpdate>& updates);
  void Evict(const std::vector<::nri::pkg::api::v1alpha1::ContainerEviction>& evictions);
  absl::Status AskToCreate(PluginRound& round, const Entry& entry, const PodContainer& container,
                           const std::string& id, oci::RuntimeSpec& spec,
                           std::vector<std::string>& cdi);
  void TellCreated(const CallContext& context, PluginRound* round, const Entry& entry,
                   const std::string& id) const;
  void TellNotCreated(PluginRound& round, const Entry& entry, const PodContainer& container,
                      const std::string& id) const;
  absl::Status AskToStart(const CallContext& context, PluginRound* round,
                          const LoadedContainer& loaded) const;
  void TellStarted(const CallContext& context, PluginRound* round, const std::string& id) const;
  absl::Status NoteStartRefused(const CallContext& context, const std::string& id,
                                const absl::Status& why);
  // Once for each container; the first caller to know of the end calls it.
  void TellEnded(const CallContext& context, const LoadedContainer& loaded);
  void TellRemoved(const CallContext& context, PluginRound* round, const LoadedContainer& loaded);
  absl::StatusOr<oci::Resources> AskToUpdate(const CallContext& context, PluginRound* round,
                                             const LoadedContainer& loaded,
                                             const oci::Resources& change);
  void TellUpdated(const CallContext& context, PluginRound* round, const std::string& id) const;

  PodService& pods_;
  const PodService::Parts& parts_;

  absl::Mutex mu_;
  // Containers of whose end plugins were told, until they are removed.
  std::map<Key, std::shared_ptr<Ending>> endings_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_CONTAINERS_H_
