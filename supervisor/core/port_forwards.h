// Published ports that the kernel cannot carry, and that the container's shim therefore does
// (shim/port_forward.h): at an IPv6 address of the host for a container without one, and at [::1].
// Pure.
#ifndef GANTRY_SUPERVISOR_CORE_PORT_FORWARDS_H_
#define GANTRY_SUPERVISOR_CORE_PORT_FORWARDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "supervisor/metadata/network_store.h"
#include "supervisor/network/address.h"
#include "supervisor/network/firewall.h"

namespace gantry::core {

struct PortForward {
  network::Protocol protocol = network::Protocol::kTcp;
  network::Address host;
  uint16_t host_port = 0;
  network::Address container;
  uint16_t container_port = 0;
  bool if_possible = false;  // this address in particular was not asked for
};

// `places`: those of this container.
std::vector<PortForward> ForwardsOf(const record::v1::NetworkNamespace& netns,
                                    const std::vector<metadata::StoredEndpoint>& places);

// What of the namespace's ports neither the kernel nor the shim can carry, though it was asked for:
// SCTP at [::1], and at IPv6 addresses of the host for a container without IPv6.
//   kInvalidArgument  there is such a port; field port_bindings
absl::Status CheckCarried(const record::v1::NetworkNamespace& netns,
                          const std::vector<metadata::StoredEndpoint>& places);

// What the shim of a container forwards, beside the mount of its network namespace `netns`. The
// shim reads the file when it creates the container, and whenever the daemon has it do so. The
// second file is there from before a change until the shim has read it.
std::string ForwardsPath(absl::string_view netns);
std::string ChangingForwardsPath(absl::string_view netns);

// As the shim reads them, a line each.
std::string ForwardsText(const std::vector<PortForward>& forwards);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_PORT_FORWARDS_H_
