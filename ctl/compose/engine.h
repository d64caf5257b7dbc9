// The daemon as a project sees it: what is there of the project, and the calls that change it.
//
// Each method is one intent of one container, network or image; the order is apply.h's. Ids of
// containers that it made are kept, because later ones refer to them. Thread-safe.
// Spec: facts of docker compose's convergence; labels in container_config.h.
#ifndef GANTRY_CTL_COMPOSE_ENGINE_H_
#define GANTRY_CTL_COMPOSE_ENGINE_H_

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "ctl/client.h"
#include "ctl/compose/plan.h"
#include "ctl/compose/project.h"

namespace gantry::v1 {
class ContainerConfig;
class ContainerSummary;
class Filter;
}  // namespace gantry::v1

namespace gantry::compose {

// A file of the host on its way into a container.
struct SyncedFile {
  std::string target;  // absolute
  std::string content;
  std::string link;  // of a symbolic link
  bool folder = false;
  uint32_t mode = 0644;
  int64_t uid = 0;
  int64_t gid = 0;
  absl::Time modified;
};

class Engine {
 public:
  // `client` and `cancelled` outlive this. Waits end with kCancelled soon after `cancelled` is set.
  Engine(ctl::Client& client, const std::atomic<bool>& cancelled)
      : client_(client), cancelled_(cancelled) {}

  // ---- what is there ----
  // Containers of a project, by the labels; of the services named, or of all. Newest first.
  absl::StatusOr<std::vector<v1::ContainerSummary>> Containers(
      const std::string& project, const std::vector<std::string>& services, bool all);
  absl::StatusOr<Observed> Observe(const Project& project,
                                   const std::vector<std::string>& services);
  static ObservedContainer Describe(const v1::ContainerSummary& summary);

  // ---- changes ----
  absl::Status CreateNetwork(const Project& project, const std::string& key);
  // Disconnects what is connected first.
  absl::Status RecreateNetwork(const Project& project, const std::string& key);
  absl::Status CreateVolume(const Project& project, const std::string& key);
  // False: containers of others are connected to it, and it stays.
  absl::StatusOr<bool> RemoveNetwork(const std::string& name);

  // Remembers a container for those that share something with it.
  void Know(const std::string& service, const std::string& id);
  // `name`: instead of the usual one. `inherit`: a container whose anonymous volumes it takes over.
  absl::StatusOr<std::string> CreateContainer(const Project& project, const std::string& service,
                                              int number, const std::string& name = "",
                                              const std::string& inherit = "",
                                              const std::string& replaced = "");
  // The same with a configuration that the caller has changed; no labels of ours are added.
  absl::StatusOr<std::string> CreateFrom(const v1::ContainerConfig& config,
                                         const std::string& name);
  // Created anew under another name, then put in the place of the old one.
  absl::StatusOr<std::string> RecreateContainer(const Project& project, const Step& step,
                                                std::optional<int> timeout_seconds,
                                                bool keep_anonymous_volumes);
  // Secrets and configs that are not files, into a container that was created.
  absl::Status Inject(const Project& project, const std::string& service, const std::string& id);
  // The commands below `key` (post_start, pre_stop) in a running container, one after the other.
  // kFailedPrecondition: one ended with another status than 0.
  absl::Status RunHooks(const Project& project, const std::string& service, const std::string& id,
                        const std::string& key);
  // One such command. `place` names it in errors.
  absl::Status RunHook(const Node& hook, const std::string& place, const std::string& id);
  // Files into a container, owned by root; folders that are missing are made.
  absl::Status CopyFiles(const std::string& id, const std::vector<SyncedFile>& files);
  // Files and folders of a running container, by its own `rm`.
  absl::Status RemoveFiles(const std::string& id, const std::vector<std::string>& paths);
  // kFailedPrecondition: something uses it.
  absl::Status RemoveImage(const std::string& image);
  absl::Status Start(const std::string& id);
  absl::Status Stop(const std::string& id, std::optional<int> timeout_seconds);
  // After the service's pre_stop commands, where it runs.
  absl::Status StopWithHooks(const Project& project, const std::string& service,
                             const std::string& id, std::optional<int> timeout_seconds);
  absl::Status Kill(const std::string& id, const std::string& signal);
  absl::Status Restart(const std::string& id, std::optional<int> timeout_seconds);
  // `volumes`: its anonymous volumes too, also those that it has from a predecessor.
  absl::Status Remove(const std::string& id, bool force, bool volumes);
  absl::Status Pause(const std::string& id, bool pause);
  absl::Status Rename(const std::string& id, const std::string& name);
  // "0123456789ab_demo-web-1": of a successor while its predecessor is there.
  static std::string TemporaryName(const std::string& old_id, const std::string& name);

  // Waits until the containers of each dependency meet its condition. `waiting` is called with the
  // name of each container and what it is at: "Waiting", then "Healthy" or "Exited".
  //   kFailedPrecondition  docker compose's words: "dependency failed to start: ..."
  absl::Status AwaitDependencies(
      const Project& project, const std::string& service,
      const std::function<void(const std::string& container, const char* word)>& waiting);
  // Waits until it runs (and is healthy, where it has a health check). kDeadlineExceeded.
  absl::Status AwaitReady(const std::string& id, absl::Time deadline, bool may_complete);
  // Waits until it is healthy or, without a health check, has run for `monitor` without an end or a
  // restart. `name` is its name in errors, because it has a temporary one.
  // kFailedPrecondition: it is unhealthy, ended or was restarted.
  absl::Status AwaitSteady(const std::string& id, const std::string& name, absl::Duration monitor);
  // kCancelled.
  absl::Status Rest(absl::Duration duration);
  // Exit code of the end that it comes to.
  absl::StatusOr<int> AwaitExit(const std::string& id);

  absl::StatusOr<std::string> ImageDigest(const std::string& image);
  ctl::Client& client() { return client_; }

 private:
  std::map<std::string, std::string> KnownIds();
  // Volumes of a container that nobody has named.
  std::vector<std::string> AnonymousVolumes(const std::string& id);
  absl::StatusOr<ObservedContainer> Look(const std::string& id, bool* has_health_check);
  absl::Status AwaitOne(const std::string& dependency, const Dependency& wanted,
                        const ObservedContainer& first,
                        const std::function<void(const std::string&, const char*)>& waiting);
  // A moment between two looks. kCancelled.
  absl::Status Breathe();

  ctl::Client& client_;
  const std::atomic<bool>& cancelled_;
  absl::Mutex mutex_;
  std::map<std::string, std::vector<std::string>> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_ENGINE_H_
