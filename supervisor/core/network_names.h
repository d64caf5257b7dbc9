// The files that name queries inside networks are answered from by the containers' shims
// (network/names_file.h), written from the records:
//   <state>/names/networks/<ns>/<network id>      who is on the network
//   <state>/names/containers/<ns>/<container id>  what the container's resolver has to know
//
// Each is replaced at once. A network's file is read from the records and written under one lock
// per service, so that what the last of two calls writes is never older than what the first did.
// The lock is held over reading the records and writing the file, never over a call of the kernel's
// network parts. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_NAMES_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_NAMES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "supervisor/metadata/network_store.h"

namespace gantry::v1 {
class ContainerConfig;
}

namespace gantry::core {

// The container that a link leads to: NAME of "NAME", "NAME:ALIAS" or "/NAME:/OWN/ALIAS".
std::string LinkTarget(absl::string_view link);

class NetworkNames {
 public:
  // `store` outlives this object. `host_resolv_conf` names the servers that containers' queries are
  // forwarded to.
  NetworkNames(metadata::NetworkStore* store, std::string state_directory,
               std::string host_resolv_conf = "/etc/resolv.conf");

  // Whether all its containers find each other by name: on all networks but the default one, as
  // people know it of docker's.
  static bool HasNames(const metadata::StoredNetwork& network);
  // Whether a container with this configuration has links, "NAME:ALIAS". It finds the containers of
  // all its networks by name, those of the default one too.
  static bool HasLinks(const v1::ContainerConfig& config);

  // After each change of the network's endpoints. The default network's names are written from the
  // first container with links on; until then there is nothing to do for it.
  //   kResourceExhausted  no space, or too many names
  absl::Status NetworkChanged(const metadata::StoredNetwork& network) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status NetworkRemoved(const metadata::StoredNetwork& network);

  // Writes the resolver file of a container that is on these networks, the most important first.
  // Only with an internal network nothing is forwarded to the host's servers.
  //   kInvalidArgument  a server or a link of the configuration
  absl::Status ContainerChanged(absl::string_view ns, absl::string_view container_id,
                                const v1::ContainerConfig& config,
                                const std::vector<metadata::StoredNetwork>& networks)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status ContainerRemoved(absl::string_view ns, absl::string_view container_id);

  // Where a container's resolver file is.
  std::string ResolverPath(absl::string_view ns, absl::string_view container_id) const;

  // At the start: writes the files of all networks, and removes those that belong to no network and
  // no endpoint.
  absl::Status Reconcile();

 private:
  std::string NetworkPath(absl::string_view ns, absl::string_view network_id) const;
  absl::Status WriteNetwork(const metadata::StoredNetwork& network)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  metadata::NetworkStore* const store_;
  const std::string directory_;
  const std::string host_resolv_conf_;
  absl::Mutex mu_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_NAMES_H_
