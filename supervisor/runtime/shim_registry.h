// The live shims, by task, and the reports of their death.
//
// A Shim is shared: a call in progress keeps it alive while the task is deleted from under it.
// Death is noticed by the shim's pidfd in one epoll thread for all of them, whatever the shim's
// last words were.
//
// Thread-safe. The callback runs on the registry's thread, once per shim, with no lock held; it may
// call back into the registry but must not block for long (hand work to an Executor).
#ifndef GANTRY_SUPERVISOR_RUNTIME_SHIM_REGISTRY_H_
#define GANTRY_SUPERVISOR_RUNTIME_SHIM_REGISTRY_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "base/unique_fd.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::runtime {

class Shim {
 public:
  // `client` that has been used with this shim already; null makes one.
  Shim(Bundle bundle, ShimProcess process, UniqueFd pidfd,
       std::unique_ptr<ShimClient> client = nullptr)
      : bundle_(std::move(bundle)),
        process_(process),
        pidfd_(std::move(pidfd)),
        client_(client != nullptr
                    ? std::move(client)
                    : std::make_unique<ShimClient>(bundle_.key(), bundle_.socket_path())) {}
  // Leaves the process alone.
  ~Shim();
  Shim(const Shim&) = delete;
  Shim& operator=(const Shim&) = delete;

  const TaskKey& key() const { return bundle_.key(); }
  const Bundle& bundle() const { return bundle_; }
  const ShimProcess& process() const { return process_; }
  int pidfd() const { return pidfd_.get(); }
  ShimClient& client() { return *client_; }

  // Sends SIGKILL to this very process; gone already is success.
  absl::Status KillShim();
  // Waits until the process is gone. kDeadlineExceeded.
  absl::Status WaitGone(absl::Duration timeout);

 private:
  const Bundle bundle_;
  const ShimProcess process_;
  const UniqueFd pidfd_;
  const std::unique_ptr<ShimClient> client_;
};

class ShimRegistry {
 public:
  using OnShimGone = std::function<void(std::shared_ptr<Shim>)>;

  explicit ShimRegistry(OnShimGone on_gone);
  // Stop(), and forgets the shims, which live on.
  ~ShimRegistry();
  ShimRegistry(const ShimRegistry&) = delete;
  ShimRegistry& operator=(const ShimRegistry&) = delete;

  // kAlreadyExists: the task has a live shim. A shim that died before it was added is reported like
  // any other.
  absl::Status Add(std::shared_ptr<Shim> shim);
  // Null when there is none.
  std::shared_ptr<Shim> Find(const TaskKey& key) const;
  // Forgets it, so that its end is not reported; null when it was not there (or its death was
  // reported already).
  std::shared_ptr<Shim> Remove(const TaskKey& key);
  std::vector<std::shared_ptr<Shim>> List() const;

  // Ends the thread: no callback runs after this. Shims can still be added, found and removed, by
  // calls that are under way.
  void Stop();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_SHIM_REGISTRY_H_
