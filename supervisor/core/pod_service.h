// Pods: run, stop, remove, look at, and make containers in them.
//
//   (under way) -> ready -> stopped -> removed
//
// A pod is a sandbox whose record holds a gantry.v1.PodConfig and whose state SandboxService keeps.
// The record is written before anything is made that could leak, and deleted after all of it is
// gone, so a pod that a daemon left half-made is removed by the next. No process belongs to a pod,
// but for one small init where its containers share a process namespace: that is a task by the
// pod's id, without a container's record.
//
// Every call may be repeated at any moment. A repeated Run() or CreateContainer() joins the work
// that is under way, whatever became of the first caller, and returns what there is when it is
// done. Stop() and Remove() end what is under way for the pod. Lists are answered from memory.
//
// Plugins of NRI (nri/plugins.h) are asked about pods and containers, and change containers before
// they are made.
//
// Thread-safe. kNotFound: no such pod or container. Ids may be given as unambiguous prefixes
// (kInvalidArgument if one is not).
#ifndef GANTRY_SUPERVISOR_CORE_POD_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_POD_SERVICE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
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

#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/pod_container.h"
#include "supervisor/core/task_service.h"

namespace gantry {
class Executor;
}
namespace gantry::network {
class Cni;
}
namespace gantry::nri {
class Plugins;
}
namespace gantry::oci {
class RuntimeSpec;
struct HostFacts;
}  // namespace gantry::oci
namespace nri::pkg::api::v1alpha1 {
class Container;
class ContainerEviction;
class ContainerUpdate;
class PodSandbox;
}  // namespace nri::pkg::api::v1alpha1
namespace gantry::runtime {
class RuntimeProbe;
}

namespace gantry::core {

class ContainerLifecycle;
class EventBus;
class ImageCatalog;
class ImageUnpack;
class SandboxService;
struct Stores;

// One pod as it is now.
struct Pod {
  std::string id;
  std::shared_ptr<const v1::PodConfig> config;
  std::shared_ptr<const std::string> extension;  // the door's, as given to Run()
  absl::Time created_at;
  bool ready = false;
  std::vector<std::string> addresses;  // the first is the one to show; none with the host's network
  std::string network_json;            // what the network's plugins answered
};

// A runtime that pods can be run by.
struct PodRuntime {
  std::string name;  // "" the default one
  bool recursive_read_only = false;
  bool user_namespaces = false;
  bool systemd_cgroup = false;
};

struct DiskUse {
  int64_t bytes = 0;
  int64_t inodes = 0;
  absl::Time at;
};

struct ProcessUse {
  uint64_t processes = 0;
  uint64_t threads = 0;
  uint64_t files = 0;
  uint64_t sockets = 0;
  uint64_t open_files_limit = 0;  // soft, of the first process
};

class PodService {
 public:
  // Nothing is owned.
  struct Parts {
    Stores* stores;
    SandboxService* sandboxes;
    ContainerRecords* records;
    ContainerLifecycle* lifecycle;
    TaskService* tasks;
    ImageCatalog* images;
    ImageUnpack* unpack;
    runtime::RuntimeProbe* runtimes;
    const oci::HostFacts* host;
    EventBus* events;
    Executor* workers;
    network::Cni* cni = nullptr;      // null: pods have loopback only, or the host's network
    nri::Plugins* plugins = nullptr;  // null: there are none
    std::string state_directory;
    std::string init_path;  // gantry-init; "": pods cannot share a process namespace
  };
  explicit PodService(const Parts& parts) : parts_(parts) {}
  ~PodService();
  PodService(const PodService&) = delete;
  PodService& operator=(const PodService&) = delete;

  // At the start, after tasks were recovered and before the doors open: reads the records, and
  // removes what was left half-made, in the background.
  absl::Status Recover();
  // After Recover(): plugins of NRI may join.
  void StartPlugins();

  // Returns the id once everything of the pod is up. `extension` is kept for the door. If it fails,
  // nothing stays.
  //   kAlreadyExists       there is one by that name with another configuration, or it was stopped
  //   kInvalidArgument     the configuration
  //   kNotFound            no such runtime
  //   kUnavailable         the network is not ready
  absl::StatusOr<std::string> Run(const CallContext& context, const v1::PodConfig& config,
                                  const std::string& extension);
  // Limits of all of its containers together, which its client sets. Plugins may refuse.
  absl::Status UpdatePod(const CallContext& context, absl::string_view id,
                         const oci::Resources& overhead, const oci::Resources& resources);
  // Kills its containers and gives its network back. Idempotent.
  //   kUnavailable         something of it does not end; repeat the call
  absl::Status Stop(const CallContext& context, absl::string_view id);
  // Stops it, removes its containers and then everything else. Idempotent, as Stop().
  absl::Status Remove(const CallContext& context, absl::string_view id);

  absl::StatusOr<Pod> Get(const CallContext& context, absl::string_view id) const;
  std::vector<Pod> List(const CallContext& context) const;
  // The default first, under its own name too. Those that are not installed are left out; an error
  // is why there is no default.
  absl::StatusOr<std::vector<PodRuntime>> Runtimes() const;
  // Whether a pod can be given a network now: OK, or why not.
  absl::Status NetworkReady(const CallContext& context) const;
  // For people: the network as JSON, and what became of reading it.
  std::string NetworkConfigJson() const;
  std::string NetworkLoadStatus() const;
  // Path of its network namespace; "" with the host's network.
  absl::StatusOr<std::string> NetnsPath(const CallContext& context, absl::string_view id) const;

  // Returns the id of the new container; its name is chosen by the pod's and its own.
  //   kFailedPrecondition  the pod is not ready, or the image is not whole
  //   kAlreadyExists       there is another container of that name
  absl::StatusOr<std::string> CreateContainer(const CallContext& context,
                                              const PodContainer& container);
  // Of a container that was created and never started.
  absl::Status StartContainer(const CallContext& context, const std::string& container);

  // Idempotent: of one that has ended, or is not there, nothing is left to do. After `patience` it
  // is killed; with none at once.
  absl::Status StopContainer(const CallContext& context, const std::string& container,
                             absl::Duration patience);
  // Kills it if it runs. Its log stays. Idempotent.
  absl::Status RemoveContainer(const CallContext& context, const std::string& container);
  // Changes what `change` sets of its limits, in the kernel where it runs and for its start where
  // it was not started. All is changed or nothing. `extension` replaces the door's of that name.
  absl::Status UpdateContainer(const CallContext& context, const std::string& container,
                               const oci::Resources& change, const std::string& extension_name,
                               const std::string& extension);
  // Freezes the running container into a tar archive at the absolute path `location`; it runs on.
  //   kFailedPrecondition  it does not run, or its runtime or CRIU cannot do that here
  absl::Status Checkpoint(const CallContext& context, const std::string& container,
                          const std::string& location);
  // A container of any kind has ended, and that is on record.
  void OnExit(const std::string& ns, const std::string& container);
  // What the container has written to its root file system; looked at every ten seconds at most.
  absl::StatusOr<DiskUse> DiskUseOf(const CallContext& context, const LoadedContainer& container);
  // What the unpacked layers of all images of the namespace take, each counted once; looked at as
  // often.
  absl::StatusOr<DiskUse> ImageUse(const CallContext& context);
  // Open files, sockets and threads of its processes.
  absl::StatusOr<ProcessUse> ProcessUseOf(const CallContext& context, const std::string& id) const;
  // `container` is an id or a prefix of one; it has to be of a pod.
  absl::StatusOr<LoadedContainer> Container(const CallContext& context,
                                            const std::string& container) const;
  // Visits all containers of pods, in order of id: their records without specs, and their states.
  // `visit` may take things out of what it is shown, which is used again for the next.
  absl::Status EachContainer(const CallContext& context,
                             absl::FunctionRef<void(LoadedContainer&)> visit) const;
  // All containers of pods, or those of one pod, without their specs.
  absl::StatusOr<std::vector<LoadedContainer>> Containers(const CallContext& context,
                                                          absl::string_view pod = "") const;
  // The same with them.
  absl::StatusOr<std::vector<LoadedContainer>> WholeContainers(const CallContext& context,
                                                               absl::string_view pod = "") const;

 private:
  struct Entry;
  struct Flight;
  struct PluginRound;
  struct Ending;
  using Key = std::pair<std::string, std::string>;  // namespace, id

  // Runs `work` once for all who ask for the same name at the same time.
  absl::StatusOr<std::string> Together(
      const CallContext& context, const std::string& name,
      const std::function<absl::StatusOr<std::string>(const CallContext& alone)>& work);

  using EntryPtr = std::shared_ptr<Entry>;
  // The right to make, stop or remove a pod, until destroyed: one call at a time has it.
  class Operation;

  absl::StatusOr<EntryPtr> Find(const CallContext& context, absl::string_view id) const;
  Pod View(const Entry& entry) const;
  std::string Directory(const Key& key) const;

  absl::StatusOr<std::string> RunAlone(const CallContext& context, const v1::PodConfig& config,
                                       const std::string& extension);
  absl::Status Make(const CallContext& context, Entry& entry);
  absl::Status MakeFiles(const Entry& entry);
  absl::Status MakeNamespaces(const Entry& entry);
  // Its network, by the plugins of CNI.
  absl::Status Attach(const CallContext& context, Entry& entry);
  absl::Status Detach(const CallContext& context, const Entry& entry);
  void ReadAddresses(Entry& entry);
  // The first process of a process namespace that its containers share.
  absl::Status StartInit(const CallContext& context, const Entry& entry);

  absl::Status StopEntry(const CallContext& context, Entry& entry);
  absl::Status EndContainers(const CallContext& context, Entry& entry);
  absl::Status EndTask(const CallContext& context, const std::string& id);
  absl::Status RemoveContainers(const CallContext& context, const Entry& entry);
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
  std::unique_ptr<PluginRound> BeginMaking() const;
  std::unique_ptr<PluginRound> BeginEnding() const;
  ::nri::pkg::api::v1alpha1::PodSandbox ViewForPlugins(const Entry& entry) const;
  ::nri::pkg::api::v1alpha1::PodSandbox PodForPlugins(const CallContext& context,
                                                      const std::string& pod) const;
  void ListForPlugins(std::vector<::nri::pkg::api::v1alpha1::PodSandbox>& pods,
                      std::vector<::nri::pkg::api::v1alpha1::Container>& containers) const;
  absl::StatusOr<std::string> NamespaceOf(const std::string& container) const;
  absl::Status ApplyUpdate(const ::nri::pkg::api::v1alpha1::ContainerUpdate& update);
  absl::Status ApplyUpdates(const std::vector<::nri::pkg::api::v1alpha1::ContainerUpdate>& updates);
  void Evict(const std::vector<::nri::pkg::api::v1alpha1::ContainerEviction>& evictions);
  absl::Status AskToRun(PluginRound* round, Entry& entry) const;
  void TellStopped(Entry& entry) const;
  void TellRemoved(PluginRound* round, const Entry& entry) const;
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
  // Once for each container, whoever is first to know.
  void TellEnded(const CallContext& context, const LoadedContainer& loaded);
  void TellContainerRemoved(const CallContext& context, PluginRound* round,
                            const LoadedContainer& loaded);
  absl::StatusOr<oci::Resources> AskToUpdate(const CallContext& context, PluginRound* round,
                                             const LoadedContainer& loaded,
                                             const oci::Resources& change);
  void TellUpdated(const CallContext& context, PluginRound* round, const std::string& id) const;

  const Parts parts_;

  mutable absl::Mutex mu_;
  std::map<Key, EntryPtr> pods_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::shared_ptr<Flight>> flights_ ABSL_GUARDED_BY(mu_);
  // Of containers; with "" as id of the namespace's images.
  std::map<Key, DiskUse> disk_uses_ ABSL_GUARDED_BY(mu_);
  // Containers of whose end plugins were told, until they are removed.
  std::map<Key, std::shared_ptr<Ending>> endings_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_SERVICE_H_
