// Sandboxes: environments that the containers of a pod share. A sandbox has no process of its own;
// containers in it have shims.
//
// Owns the state of each sandbox (time of creation, started, time of the stop). A change is stored
// before it is answered or published, so a restart of the daemon changes nothing. After a boot of
// the machine, sandboxes that were not stopped count as stopped. The record of a sandbox
// (metadata::SandboxStore) belongs to its client and is created and deleted independently.
//
//   created -> ready (started) -> stopped -> forgotten
//
// Thread-safe. kNotFound: no such sandbox. Events are published here.
// Semantics: containerd "sandbox controller" service.
#ifndef GANTRY_SUPERVISOR_CORE_SANDBOX_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_SANDBOX_SERVICE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/clock.h"
#include "supervisor/core/wait_board.h"

namespace gantry::metadata {
class SandboxStore;
}

namespace gantry::core {

class EventBus;

struct Sandbox {
  absl::Time created_at = absl::InfinitePast();
  bool started = false;
  std::optional<absl::Time> stopped_at;

  bool ready() const { return started && !stopped_at.has_value(); }
};

class SandboxService {
 public:
  // Called with the time of the stop, or with why there will be none.
  using Stopped = std::function<void(absl::StatusOr<absl::Time>)>;
  using Ticket = uint64_t;

  // Reads the stored states. `boot_id` is the kernel's; "" reads it. The store, events and clock
  // outlive the service.
  SandboxService(metadata::SandboxStore& store, EventBus& events, const Clock& clock,
                 std::string boot_id = "");
  SandboxService(const SandboxService&) = delete;
  SandboxService& operator=(const SandboxService&) = delete;

  // kAlreadyExists; kInvalidArgument: the id.
  absl::Status Create(const std::string& ns, const std::string& id);
  // Idempotent. kFailedPrecondition: it was stopped.
  absl::StatusOr<Sandbox> Start(const std::string& ns, const std::string& id);
  // Idempotent; the time of the first stop stays.
  absl::Status Stop(const std::string& ns, const std::string& id);
  // Stops it and forgets it.
  absl::Status Shutdown(const std::string& ns, const std::string& id);
  absl::StatusOr<Sandbox> Get(const std::string& ns, const std::string& id) const;

  // Calls `done` once, without locks held: when the sandbox is stopped (at once if it is), with
  // kNotFound, with kCancelled after CancelWait(), or with kUnavailable after EndWaits().
  Ticket WaitAsync(const std::string& ns, const std::string& id, Stopped done);
  // True: `done` had not been called, and was called now.
  bool CancelWait(Ticket ticket);
  void EndWaits();

 private:
  using Key = std::pair<std::string, std::string>;  // namespace and id
  absl::Status End(const Key& key, bool forget);
  absl::Status Save(const Key& key, const Sandbox& sandbox);
  absl::Status Load();

  metadata::SandboxStore& store_;
  EventBus& events_;
  const Clock& clock_;
  const std::string boot_id_;

  WaitBoard<Key, absl::Time> waits_;  // waiters are added and taken under mu_

  // Held across a change and its storing, so that changes of one sandbox are stored in the order in
  // which they are made.
  absl::Mutex change_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  mutable absl::Mutex mu_;
  std::map<Key, Sandbox> sandboxes_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_SANDBOX_SERVICE_H_
