// Starts shims: through the zygote, which forks a warmed process in under a millisecond, or
// directly when there is none.
//
// The zygote is a child of the supervisor and ends with it; the shims it forked do not. A zygote
// that died is started again by the next Launch(). A launch returns when the shim listens on its
// socket, or with the reason why it never will; it waits on file descriptors only, it does not
// poll.
//
// Thread-safe; launches run side by side (the fork itself is serialised, the shim's start is not).
#ifndef GANTRY_SUPERVISOR_RUNTIME_SHIM_LAUNCHER_H_
#define GANTRY_SUPERVISOR_RUNTIME_SHIM_LAUNCHER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/runtime/bundle.h"

namespace gantry::runtime {

// A shim that listens. `pidfd` refers to this very process, whatever happens to the number.
struct LaunchedShim {
  ShimProcess process;
  UniqueFd pidfd;
};

// What core needs of it; fake_launcher.h is the other one.
class Launcher {
 public:
  virtual ~Launcher() = default;

  // The bundle's launch record must be on disk. Writes shim.json before returning. On failure no
  // shim of this bundle runs.
  //   kNotFound           the gantry-shim program is missing
  //   kDeadlineExceeded   it did not get ready in time (and was killed)
  //   kInternal           it started and died; its last words are in the message
  // `runtime_path`, absolute or "", is the OCI runtime that the shim will be told to call: it gets
  // a sealed copy of it.
  virtual absl::StatusOr<LaunchedShim> Launch(const Bundle& bundle,
                                              const std::string& runtime_path) = 0;
};

class ShimLauncher : public Launcher {
 public:
  struct Options {
    std::string shim_path;  // gantry-shim
    std::string log_level = "info";
    bool use_zygote = true;
    // How many open files shims may have, and so containers that ask for no limit of their own: the
    // soft limit. 0: as many as we.
    uint64_t open_files = 0;
    absl::Duration timeout = absl::Seconds(10);  // from Launch() to a listening socket
  };

  explicit ShimLauncher(Options options);
  // Ends the zygote, no shim.
  ~ShimLauncher() override;
  ShimLauncher(const ShimLauncher&) = delete;
  ShimLauncher& operator=(const ShimLauncher&) = delete;

  // Starts the zygote ahead of the first launch. Failure is not fatal: launches fall back.
  absl::Status WarmUp();

  absl::StatusOr<LaunchedShim> Launch(const Bundle& bundle,
                                      const std::string& runtime_path) override;

  // 0 when none runs. For tests and for `system info`.
  pid_t zygote_pid() const;

 private:
  class Zygote;
  struct State;
  const std::unique_ptr<State> state_;
};

// pidfd of the process if it is still the one named. kNotFound: it ended.
absl::StatusOr<UniqueFd> OpenShimPidfd(const ShimProcess& process);

// Collects the zombie of a shim that was started without a zygote, and so is a child of this
// process. Harmless otherwise.
void ReapIfChild(int pidfd);

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_SHIM_LAUNCHER_H_
