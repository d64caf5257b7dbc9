// Which ports of the host lead to a container. Pure, but for a look at the host's own sockets.
#ifndef GANTRY_SUPERVISOR_CORE_PORT_CHOICE_H_
#define GANTRY_SUPERVISOR_CORE_PORT_CHOICE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "proto/record/v1/network.pb.h"
#include "supervisor/metadata/network_store.h"

namespace gantry::v1 {
class ContainerConfig;
class PortBinding;
}  // namespace gantry::v1

namespace gantry::core {

// The bindings of a configuration. When it publishes all ports, also one for each exposed port that
// has none.
std::vector<v1::PortBinding> WantedPorts(const v1::ContainerConfig& config);

// A binding on networks where no port of the host leads to the container: the port is opened at the
// container's own addresses.
//   kInvalidArgument    not an address
absl::StatusOr<record::v1::NetworkPort> OpenedPort(const v1::PortBinding& binding);

// The host port of one binding: the asked one; any free one for "" and "0"; the first free one of a
// range. Free of the ports of `all` containers, of those `made` already has, and of the host's
// programs. A binding without an address is for `default_address`, and without that for every
// address of the host.
//   kInvalidArgument    not a port, a range or an address
//   kAlreadyExists      the port is taken, and by whom
//   kResourceExhausted  every port of a range is taken
absl::StatusOr<record::v1::NetworkPort> ChoosePort(const v1::PortBinding& binding,
                                                   absl::string_view default_address,
                                                   const std::vector<metadata::StoredNetns>& all,
                                                   const record::v1::NetworkNamespace& made);

// The ports of `made` for the bindings of a configuration, in their order; `only_opened`: as
// OpenedPort(), otherwise as ChoosePort(). What `made` has already is kept where a binding is met
// by it, so that a port that was chosen stays; the rest is moved to its leaving ports, whose host
// ports other bindings of the container may take. Errors: those of the two.
absl::Status ChoosePorts(const std::vector<v1::PortBinding>& wanted,
                         absl::string_view default_address, bool only_opened,
                         const std::vector<metadata::StoredNetns>& all,
                         record::v1::NetworkNamespace& made);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_PORT_CHOICE_H_
