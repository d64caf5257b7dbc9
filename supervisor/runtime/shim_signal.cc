#include "supervisor/runtime/shim_signal.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/runtime/shim_launcher.h"

namespace gantry::runtime {

absl::Status SignalPortsChanged(const BundleStore& store, const TaskKey& key) {
  // Who serves it is read from the directory; the launch record is not needed.
  const Bundle bundle(key, store.PathOf(key), store.SocketPathOf(key), LaunchRecord());
  GANTRY_ASSIGN_OR_RETURN(const ShimProcess process, bundle.ReadShimProcess());
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd pidfd, OpenShimPidfd(process));
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), SIGHUP, nullptr, 0) == 0) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat("signalling the shim of ", key.container_id));
}

}  // namespace gantry::runtime
