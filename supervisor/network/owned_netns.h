// Network namespaces of containers with a user namespace. Thread-safe.
#ifndef GANTRY_SUPERVISOR_NETWORK_OWNED_NETNS_H_
#define GANTRY_SUPERVISOR_NETWORK_OWNED_NETNS_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/id_map.h"
#include "base/unique_fd.h"

namespace gantry::network {

// As NewNetns(), with a new user namespace that owns it: the root of a container in that one has
// the rights of an administrator in the network namespace, and none outside.
struct OwnedNetns {
  UniqueFd netns;
  UniqueFd user_namespace;
};
absl::StatusOr<OwnedNetns> NewOwnedNetns(const IdMaps& maps,
                                         const std::function<absl::Status()>& work = nullptr);
// The same, owned by a user namespace that there is.
absl::StatusOr<UniqueFd> NewNetnsIn(int user_namespace,
                                    const std::function<absl::Status()>& work = nullptr);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_OWNED_NETNS_H_
