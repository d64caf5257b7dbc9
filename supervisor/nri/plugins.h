// The plugins of NRI: they see pods and containers come and go, and change containers before they
// are made.
//
// A plugin connects to a socket, or is started from a directory. It registers, is configured and
// shown all there is (Synchronize), and is then asked what it subscribed to, plugins one after the
// other in the order of their indices. What they change is put together; two that set the same
// thing are refused.
//
// No plugin harms others: one that does not answer within its time is dropped and passed over, and
// so is one that dies. Only an error that a plugin answers with makes the call fail that it was
// asked about.
//
// What is going on is a Round: all of it asks the same plugins. A plugin that joins is shown what
// there is once the rounds before it are over, and later rounds wait until it has seen that: no
// container is missed, and none is shown twice.
//
// Thread-safe. Wire: nri.pkg.api.v1alpha1.
#ifndef GANTRY_SUPERVISOR_NRI_PLUGINS_H_
#define GANTRY_SUPERVISOR_NRI_PLUGINS_H_

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include <nlohmann/json_fwd.hpp>

#include "base/executor.h"
#include "base/unique_fd.h"
#include "supervisor/nri/wire.h"

namespace gantry::nri {

class Plugin;

class Plugins {
 public:
  struct Options {
    std::string plugin_directory;  // programs NN-NAME; may be absent
    std::string config_directory;  // NN-NAME.conf, NAME.conf
    absl::Duration registration_timeout = absl::Seconds(5);
    absl::Duration request_timeout = absl::Seconds(2);
    std::string runtime_version;
  };

  // What plugins are shown, and what they ask for. Called without locks, on threads of this class.
  struct Host {
    std::function<void(std::vector<wire::PodSandbox>& pods,
                       std::vector<wire::Container>& containers)>
        list;
    // Sets limits of a container; and ends one.
    std::function<absl::Status(const wire::ContainerUpdate& update)> update;
    std::function<absl::Status(const wire::ContainerEviction& eviction)> evict;
  };

  explicit Plugins(Options options);
  // Asks the plugins to end, closes all connections and waits for what is under way.
  ~Plugins();
  Plugins(const Plugins&) = delete;
  Plugins& operator=(const Plugins&) = delete;

  // Once, when the host can be asked: starts the programs of the plugin directory.
  void Start(Host host);
  // A plugin has connected. Returns at once; before Start() it waits for that.
  void Adopt(UniqueFd connection);

  // Runs work about containers that nobody waits for, such as what is due after an exit.
  void Later(absl::AnyInvocable<void()> work);

  // "00-name", in their order.
  std::vector<std::string> names() const;

  // What plugins made of the creation of a container.
  struct Created {
    std::vector<std::string> cdi_devices;
    std::vector<wire::ContainerUpdate> updates;  // of other containers
    std::vector<wire::ContainerEviction> evictions;
  };
  struct Updated {
    wire::LinuxResources resources;  // of the container itself
    std::vector<wire::ContainerUpdate> updates;
    std::vector<wire::ContainerEviction> evictions;
  };

  // What happens to one pod or container, from before the plugins are asked until its result can be
  // seen by others. Thread-compatible; ends with its destruction.
  class Round {
   public:
    // What is being made waits for the plugins of the directory, which the daemon has just started.
    enum class Of { kMaking, kEnding };
    Round(Plugins& plugins, Of what);
    ~Round();
    Round(const Round&) = delete;
    Round& operator=(const Round&) = delete;

    // Nobody is to be asked: messages need not be made.
    bool empty() const { return asked_.empty(); }

    // Errors are a plugin's, and make what they are about fail.
    absl::Status RunPodSandbox(const wire::PodSandbox& pod);
    absl::Status UpdatePodSandbox(const wire::PodSandbox& pod, const wire::LinuxResources& overhead,
                                  const wire::LinuxResources& resources);
    // Changes `spec`, the runtime configuration of `container`.
    absl::StatusOr<Created> CreateContainer(const wire::PodSandbox& pod,
                                            const wire::Container& container, nlohmann::json& spec);
    absl::Status StartContainer(const wire::PodSandbox& pod, const wire::Container& container);
    absl::StatusOr<Updated> UpdateContainer(const wire::PodSandbox& pod,
                                            const wire::Container& container,
                                            const wire::LinuxResources& resources);

    // These cannot be refused; a plugin's errors are logged.
    void PostUpdatePodSandbox(const wire::PodSandbox& pod);
    void StopPodSandbox(const wire::PodSandbox& pod);
    void RemovePodSandbox(const wire::PodSandbox& pod);
    void PostCreateContainer(const wire::PodSandbox& pod, const wire::Container& container);
    void PostStartContainer(const wire::PodSandbox& pod, const wire::Container& container);
    void PostUpdateContainer(const wire::PodSandbox& pod, const wire::Container& container);
    std::vector<wire::ContainerUpdate> StopContainer(const wire::PodSandbox& pod,
                                                     const wire::Container& container);
    void RemoveContainer(const wire::PodSandbox& pod, const wire::Container& container);

   private:
    absl::Status Validate(const wire::PodSandbox& pod, const wire::Container& container,
                          const wire::ContainerAdjustment& adjustment, const Created& created,
                          const wire::OwningPlugins& owners);
    // Asks all; the first error ends it.
    absl::Status AskAll(wire::Event event, const char* method,
                        const google::protobuf::MessageLite& request, const wire::PodSandbox& pod,
                        const wire::Container* container);
    void TellAll(wire::Event event, const char* method,
                 const google::protobuf::MessageLite& request, const wire::PodSandbox& pod,
                 const wire::Container* container);

    Plugins& plugins_;
    uint64_t number_ = 0;
    std::vector<std::shared_ptr<Plugin>> asked_;  // in their order
  };

 private:
  void Join(const std::shared_ptr<Plugin>& plugin, bool launched);
  // Registration to synchronization. After an error it is of no use.
  absl::Status Bring(const std::shared_ptr<Plugin>& plugin,
                     std::vector<wire::ContainerUpdate>& updates);
  void Launch(const std::string& file, const std::string& index, const std::string& name);
  void LaunchAll();
  std::string ConfigOf(const std::string& index, const std::string& name) const;
  wire::UpdateContainersResponse Update(const std::string& plugin,
                                        const wire::UpdateContainersRequest& request);
  void Forget(const std::shared_ptr<Plugin>& plugin);
  // Inserts it in order; returns the number of the last round that does not ask it.
  uint64_t Insert(const std::shared_ptr<Plugin>& plugin);
  void WaitForRounds(uint64_t last);

  const Options options_;
  Host host_;  // from Start() on

  mutable absl::Mutex mu_;
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  int launching_ ABSL_GUARDED_BY(mu_) = 0;            // started here, and not ready yet
  std::vector<UniqueFd> early_ ABSL_GUARDED_BY(mu_);  // connected before Start()
  std::vector<std::shared_ptr<Plugin>> joining_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<Plugin>> plugins_ ABSL_GUARDED_BY(mu_);
  uint64_t next_round_ ABSL_GUARDED_BY(mu_) = 1;
  std::set<uint64_t> rounds_ ABSL_GUARDED_BY(mu_);  // under way

  // Destroyed first. Joins take their time and must not keep what is due from being done.
  std::unique_ptr<Executor> joins_;
  std::unique_ptr<Executor> work_;
};

}  // namespace gantry::nri

#endif  // GANTRY_SUPERVISOR_NRI_PLUGINS_H_
