// Containers of a service in exchange for new ones, a few at a time, with a way back.
//
// Asked for with `up --rollback` and by deploy.update_config. The old containers are kept, running
// or stopped, until all new ones are ready; then they are removed. Without it (docker compose's
// way) each container is stopped and removed before its successor starts.
// Spec: compose-spec "deploy: update_config, rollback_config".
#ifndef GANTRY_CTL_COMPOSE_SERVICE_UPDATE_H_
#define GANTRY_CTL_COMPOSE_SERVICE_UPDATE_H_

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

struct UpdatePolicy {
  enum class OnFailure {
    kPause,     // what was exchanged stays, the rest is left as it was
    kContinue,  // the others are exchanged all the same
    kRollback,  // all go back
  };
  int parallelism = 1;  // 0: all at once
  absl::Duration delay;
  // How long a container without a health check has to run to count as ready.
  absl::Duration monitor = absl::Seconds(5);
  bool start_first = false;  // the new one is started before the old one is stopped
  OnFailure on_failure = OnFailure::kPause;
  // This share of the containers may fail without `on_failure`: they go back to the old ones, the
  // others are exchanged, and the update has succeeded.
  double max_failure_ratio = 0;

  // The way back, of kRollback and of what was interrupted.
  struct Rollback {
    int parallelism = 1;  // 0: all at once
    absl::Duration delay;
    // How long an old container that was started again is watched; zero: not at all.
    absl::Duration monitor;
    bool start_first = false;  // the old one is started before the new one is stopped
    bool go_on = true;         // after a failure of more than max_failure_ratio
    double max_failure_ratio = 0;
  };
  Rollback back = {};

  // "2 at a time, the new one starts first, back on failure"
  std::string Text() const;
};

// The service's, or nullopt: each container is simply made anew. `rollback`: asked for on the
// command line. The service is complete (complete.h).
std::optional<UpdatePolicy> UpdatePolicyOf(const Node& service, bool rollback);

// Why two containers of the service cannot run at once (a published port, an address); "": they
// can.
std::string CannotOverlap(const Node& service);

struct OldContainer {
  std::string id;
  std::string name;
  int number = 0;
  bool running = false;
};

// What is done to one container. Called from several threads.
class ContainerExchange {
 public:
  virtual ~ContainerExchange() = default;
  // A successor under a temporary name; its id.
  virtual absl::StatusOr<std::string> Create(const OldContainer& old) = 0;
  virtual absl::Status Start(const std::string& id) = 0;
  virtual absl::Status Stop(const std::string& id) = 0;
  virtual absl::Status Remove(const std::string& id) = 0;
  virtual absl::Status Rename(const std::string& id, const std::string& name) = 0;
  // Waits until it is healthy, or has run for `monitor`.
  virtual absl::Status AwaitReady(const std::string& id, const OldContainer& old,
                                  absl::Duration monitor) = 0;
  // Between two groups. kCancelled.
  virtual absl::Status Pause(absl::Duration delay) = 0;
  virtual void Show(const OldContainer& old, absl::string_view word, bool failed) = 0;
};

// `ids` gets the containers that are there afterwards, also after a failure.
//   kFailedPrecondition  a new container did not become ready; says which, why, and what is there
//   kCancelled           interrupted, and all went back
absl::Status UpdateService(const std::string& service, const std::vector<OldContainer>& containers,
                           const UpdatePolicy& policy, ContainerExchange& exchange,
                           std::vector<std::string>* ids);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_SERVICE_UPDATE_H_
