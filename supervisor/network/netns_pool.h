// Network namespaces that are made before they are needed: making one takes the kernel about a
// millisecond, and several while others are being taken down.
//
// How many there are follows their use. A thread, "netns-pool", makes them a moment after the last
// one was taken, so that it does not compete with the start that took it. When none is taken for a
// while, those that are there go, and the thread ends: an idle daemon has neither, and a namespace
// never has settings of the host from long ago. Nothing of them outlives the process.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_NETWORK_NETNS_POOL_H_
#define GANTRY_SUPERVISOR_NETWORK_NETNS_POOL_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/network/links.h"

namespace gantry::network {

// A container's network namespace, and a socket in it.
struct OpenNetns {
  UniqueFd fd;
  std::unique_ptr<Links> inside;
};

// As every container gets it: its loopback device is up, and devices have IPv6 only where they are
// given it. Errors: as NewNetns().
absl::StatusOr<OpenNetns> MakeContainerNetns();

class NetnsPool {
 public:
  struct Limits {
    size_t most = 8;
    // Since the last Take() before more are made, longer than the start that it is for; while one
    // follows the other, five times as long since the first of them.
    absl::Duration quiet = absl::Milliseconds(30);
    absl::Duration idle = absl::Minutes(2);  // since the last Take() before all go
  };
  using Make = std::function<absl::StatusOr<OpenNetns>()>;

  NetnsPool() : NetnsPool(Limits()) {}
  explicit NetnsPool(Limits limits, Make make = MakeContainerNetns)
      : limits_(limits), make_(std::move(make)) {}
  // Waits for a namespace that is being made.
  ~NetnsPool();
  NetnsPool(const NetnsPool&) = delete;
  NetnsPool& operator=(const NetnsPool&) = delete;

  // One that was made ahead, else a new one. Errors: of `make`.
  absl::StatusOr<OpenNetns> Take();

  // How many were made ahead and not taken.
  size_t size() const;

 private:
  void Loop();

  const Limits limits_;
  const Make make_;

  mutable absl::Mutex mu_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mu_);
  std::vector<OpenNetns> ready_ ABSL_GUARDED_BY(mu_);
  size_t wanted_ ABSL_GUARDED_BY(mu_) = 1;  // to fill up to
  size_t taken_ ABSL_GUARDED_BY(mu_) = 0;   // since they were last filled up
  // On the monotonic clock: the first and the last of these.
  absl::Duration first_taken_ ABSL_GUARDED_BY(mu_);
  absl::Duration last_taken_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_NETNS_POOL_H_
