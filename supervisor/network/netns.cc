#include "supervisor/network/netns.h"

#include <fcntl.h>
#include <sched.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/user_namespace.h"

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

absl::StatusOr<OwnedNetns> NewOwnedNetns(const IdMaps& maps,
                                         const std::function<absl::Status()>& work) {
  GANTRY_ASSIGN_OR_RETURN(const NewNamespaces made, NewNamespaces::Make(maps, CLONE_NEWNET));
  OwnedNetns owned;
  GANTRY_ASSIGN_OR_RETURN(owned.netns, made.Open("net"));
  GANTRY_ASSIGN_OR_RETURN(owned.user_namespace, made.Open("user"));
  if (work != nullptr) GANTRY_RETURN_IF_ERROR(InNetns(owned.netns.get(), work));
  return owned;
}

absl::StatusOr<UniqueFd> NewNetnsIn(int user_namespace, const std::function<absl::Status()>& work) {
  GANTRY_ASSIGN_OR_RETURN(const NewNamespaces made,
                          NewNamespaces::MakeIn(user_namespace, CLONE_NEWNET));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd netns, made.Open("net"));
  if (work != nullptr) GANTRY_RETURN_IF_ERROR(InNetns(netns.get(), work));
  return netns;
}

absl::Status InNetns(int netns, const std::function<absl::Status()>& work) {
  return OnThread([&] {
    if (setns(netns, CLONE_NEWNET) != 0)
      return ErrnoToStatus(errno, "cannot enter the network namespace");
    return work();
  });
}

}  // namespace gantry::network
