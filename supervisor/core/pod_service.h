// Pods: run, stop, remove and look at. Their containers are PodContainers' (pod_containers.h), and
// what they use is PodFigures' (pod_figures.h).
//
//   (under way) -> ready -> stopped -> removed
//
// A pod is a sandbox whose record holds a gantry.v1.PodConfig and whose state SandboxService keeps.
// The record is written before anything is made that could leak, and deleted after all of it is
// gone, so a pod that a daemon left half-made is removed by the next. No process belongs to a pod,
// but for one small init where its containers share a process namespace: that is a task by the
// pod's id, without a container's record.
//
// Every call may be repeated at any moment. A repeated Run() joins the work that is under way,
// whatever became of the first caller, and returns what there is when it is done. Stop() and
// Remove() end what is under way for the pod. Lists are answered from memory.
//
// Plugins of NRI (nri/plugins.h) are asked about pods and containers.
//
// Thread-safe. kNotFound: no such pod. Ids may be given as unambiguous prefixes (kInvalidArgument
// if one is not).
#ifndef GANTRY_SUPERVISOR_CORE_POD_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_POD_SERVICE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "proto/gantry/v1/pods.pb.h"
#include "supervisor/core/call_context.h"

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
struct HostFacts;
struct Resources;
}  // namespace gantry::oci
namespace nri::pkg::api::v1alpha1 {
class Container;
class PodSandbox;
}  // namespace nri::pkg::api::v1alpha1
namespace gantry::runtime {
class RuntimeProbe;
}

namespace gantry::core {

class ContainerLifecycle;
class ContainerRecords;
class EventBus;
class ImageCatalog;
class ImageUnpack;
class PodContainers;
class SandboxService;
class TaskService;
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
  explicit PodService(const Parts& parts);
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
  absl::Status Update(const CallContext& context, absl::string_view id,
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

  // Containers of pods, which live and end with this.
  PodContainers& containers() { return *containers_; }

 private:
  friend class PodContainers;
  struct Entry;
  struct Flight;
  struct PluginRound;
  using Key = std::pair<std::string, std::string>;  // namespace, id

  // Runs `work` once for all who ask for the same name at the same time.
  absl::StatusOr<std::string> Together(
      const CallContext& context, const std::string& name,
      const std::function<absl::StatusOr<std::string>(const CallContext& alone)>& work);

  using EntryPtr = std::shared_ptr<Entry>;
  // The right to make, stop or remove a pod, until destroyed: one call at a time has it.
  class Operation;

  absl::StatusOr<EntryPtr> Find(const CallContext& context, absl::string_view id) const;
  std::set<std::string> Namespaces() const;  // those that have pods
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
  absl::Status EndTask(const CallContext& context, const std::string& id);

  // Plugins of NRI. A round is null where there are none; none of these is called with a lock that
  // a container's operation holds.
  std::unique_ptr<PluginRound> BeginMaking() const;
  std::unique_ptr<PluginRound> BeginEnding() const;
  ::nri::pkg::api::v1alpha1::PodSandbox ViewForPlugins(const Entry& entry) const;
  ::nri::pkg::api::v1alpha1::PodSandbox PodForPlugins(const CallContext& context,
                                                      const std::string& pod) const;
  void ListForPlugins(std::vector<::nri::pkg::api::v1alpha1::PodSandbox>& pods,
                      std::vector<::nri::pkg::api::v1alpha1::Container>& containers) const;
  absl::Status AskToRun(PluginRound* round, Entry& entry) const;
  void TellStopped(Entry& entry) const;
  void TellRemoved(PluginRound* round, const Entry& entry) const;

  const Parts parts_;

  mutable absl::Mutex mu_;
  std::map<Key, EntryPtr> pods_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::shared_ptr<Flight>> flights_ ABSL_GUARDED_BY(mu_);

  const std::unique_ptr<PodContainers> containers_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_SERVICE_H_
