// Work inside a network namespace, named by a descriptor.
//
// A namespace belongs to a thread, so each call makes one for itself: the caller's thread stays
// where it is, and so does every other. Thread-safe.
#ifndef GANTRY_SUPERVISOR_NETWORK_NETNS_H_
#define GANTRY_SUPERVISOR_NETWORK_NETNS_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry::network {

// A new namespace, empty but for a loopback device that is down. It lives as long as a descriptor,
// a mount or a process holds it. `work` is run in it, as by InNetns().
//   kPermissionDenied   not root
//   kResourceExhausted  no more threads or namespaces (user.max_net_namespaces)
absl::StatusOr<UniqueFd> NewNetns(const std::function<absl::Status()>& work = nullptr);

// Runs `work` on a thread inside the namespace and waits for its end. What `work` opens there
// (sockets, files of /proc/sys/net) belongs to that namespace wherever it is used later.
//   kInvalidArgument  `netns` is not a network namespace
//   otherwise what `work` returned
absl::Status InNetns(int netns, const std::function<absl::Status()>& work);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_NETNS_H_
