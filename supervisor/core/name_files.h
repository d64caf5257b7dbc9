// hostname, hosts and resolv.conf of a container, which are bind-mounted into it: written at its
// start, and kept in line while its networks change.
//
// They are written in place, because a bind mount is of the file and not of its name. A resolv.conf
// that was edited since we wrote it (its SHA-256 lies beside it, in resolv.conf.hash) is the user's
// and is never written again. Lines of hosts that others wrote stay.
//
// Calls for one container run one after the other: its operation lock is held.
#ifndef GANTRY_SUPERVISOR_CORE_NAME_FILES_H_
#define GANTRY_SUPERVISOR_CORE_NAME_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::v1 {
class ContainerConfig;
}

namespace gantry::core {

// What its networks give a container.
struct NamesOfNetworks {
  // Its own, without prefix lengths.
  std::vector<std::string> addresses;
  // It is on a network with names, and so asks the resolver of its shim for all of them.
  bool resolver = false;
  // What "host-gateway" in an extra host stands for. Empty: such hosts are left out.
  std::vector<std::string> host_gateways;
};

// Where the host's own files are.
struct HostNameFiles {
  std::string etc = "/etc";
  // Taken in place of a resolv.conf that names systemd's stub only, which containers do not reach.
  std::string resolved = "/run/systemd/resolve/resolv.conf";
};

// Whether an extra host of it is to be found at the host's own address.
bool NeedsHostGateway(const v1::ContainerConfig& config);

// Writes the three files into `directory`, over those that are there. With the host's network their
// contents are the host's at this moment.
//   kInvalidArgument  a field of the configuration
absl::Status WriteNameFiles(const std::string& directory, const v1::ContainerConfig& config,
                            absl::string_view container_id, const NamesOfNetworks& names = {},
                            const HostNameFiles& host = {});

// Brings the files of a running container in line after its networks have changed: removes the
// lines of hosts that `before` gave it, as far as they are still there, and adds those of `now`.
absl::Status UpdateNameFiles(const std::string& directory, const v1::ContainerConfig& config,
                             absl::string_view container_id, const NamesOfNetworks& before,
                             const NamesOfNetworks& now, const HostNameFiles& host = {});

// Writes into `directory` what the container whose files are in `other` has, for one that shares
// its network.
absl::Status CopyNameFiles(const std::string& other, const std::string& directory);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NAME_FILES_H_
