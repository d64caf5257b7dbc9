// Whether a program of the host uses a port.
#ifndef GANTRY_SUPERVISOR_NETWORK_PORT_USE_H_
#define GANTRY_SUPERVISOR_NETWORK_PORT_USE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

#include "supervisor/network/firewall.h"

namespace gantry::network {

// By binding a socket to it for a moment. `address`: "" for every address. False also when this
// cannot be found out (no SCTP in this kernel).
bool PortInUse(absl::string_view address, Protocol protocol, uint16_t port);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_PORT_USE_H_
