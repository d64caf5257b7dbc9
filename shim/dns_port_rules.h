// The rules in a container's network namespace that let its resolver answer at 127.0.0.11:53
// without having that port: the container may bind 0.0.0.0:53 itself.
//
// Queries get the resolver's port on their way out, answers get port 53 on their way in. The
// numbers are rewritten in the packets; no NAT, and so no tracking of all the container's
// connections for the sake of its name queries. Where the container tracks connections itself, it
// sees queries and answers with the same port.
//
// Table "ip gantry-names" of nf_tables, made by one netlink transaction. It is the namespace's and
// needs no process to be there.
#ifndef GANTRY_SHIM_DNS_PORT_RULES_H_
#define GANTRY_SHIM_DNS_PORT_RULES_H_

#include <cstdint>

#include "absl/status/status.h"

namespace gantry::shim {

// 127.0.0.11
inline constexpr uint32_t kResolverAddress = 0x7f00000b;

// In the network namespace of the calling thread. An earlier table of this name is replaced.
//   kUnimplemented      the kernel has no nf_tables
//   kPermissionDenied   not root there
absl::Status RedirectDnsPort(uint16_t port);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_DNS_PORT_RULES_H_
