// How near an address is: what may be asked of it on behalf of a server on the internet.
//
// A registry says where its blobs, uploads and tokens are. One on the internet has no business to
// name an address of this machine, of its link (where clouds keep the machine's secrets) or of its
// private network.
//
// Free functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_ADDRESS_REACH_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_ADDRESS_REACH_H_

#include <sys/socket.h>

#include "absl/strings/string_view.h"

namespace gantry::distribution {

// From far to near: a server may name what is as far as itself, or farther.
enum class Reach { kUnknown, kPublic, kPrivate, kLinkLocal, kLoopback };

Reach ReachOf(const sockaddr& address);

// Of "host", "host:port" or "[v6]:port" where the host is an address or localhost; kUnknown for
// names.
Reach ReachOfHost(absl::string_view host_port);

// "the machine itself", for messages.
absl::string_view NameOf(Reach reach);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_ADDRESS_REACH_H_
