// For lists of everything that the daemon has: containers and images of kubelet and of containerd's
// clients are in namespaces of their own.
#ifndef GANTRY_CTL_COMMANDS_EACH_NAMESPACE_H_
#define GANTRY_CTL_COMMANDS_EACH_NAMESPACE_H_

#include <functional>

#include "absl/status/status.h"

#include "ctl/client.h"

namespace gantry::ctl {

inline constexpr char kAllNamespaces[] = "all-namespaces";
inline constexpr char kAllNamespacesHelp[] = "Those of all namespaces, each with its name";

// `client` itself, or with `all` one of each namespace that the daemon knows, by name.
absl::Status EachNamespace(Client& client, bool all,
                           const std::function<absl::Status(Client&)>& visit);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_EACH_NAMESPACE_H_
