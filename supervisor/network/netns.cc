#include "supervisor/network/netns.h"

#include <fcntl.h>
#include <sched.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::network {
namespace {

absl::Status OnThread(const std::function<absl::Status()>& work) {
  absl::Status result;
  GANTRY_ASSIGN_OR_RETURN(std::thread thread, NewThread([&] { result = work(); }));
  thread.join();
  return result;
}

}  // namespace

absl::StatusOr<UniqueFd> NewNetns(const std::function<absl::Status()>& work) {
  UniqueFd made;
  GANTRY_RETURN_IF_ERROR(OnThread([&]() -> absl::Status {
    if (unshare(CLONE_NEWNET) != 0) return ErrnoToStatus(errno, "cannot make a network namespace");
    made.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!made.valid()) return ErrnoToStatus(errno, "cannot open the new network namespace");
    return work == nullptr ? absl::OkStatus() : work();
  }));
  return made;
}

absl::Status InNetns(int netns, const std::function<absl::Status()>& work) {
  return OnThread([&] {
    if (setns(netns, CLONE_NEWNET) != 0)
      return ErrnoToStatus(errno, "cannot enter the network namespace");
    return work();
  });
}

}  // namespace gantry::network
