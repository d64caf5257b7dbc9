#include "supervisor/network/port_use.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/unique_fd.h"
#include "supervisor/network/address.h"

namespace gantry::network {
namespace {

bool InUse(const Address& address, Protocol protocol, uint16_t port) {
  const bool ipv4 = address.family() == Family::kIpv4;
  const UniqueFd fd(socket(ipv4 ? AF_INET : AF_INET6,
                           (protocol == Protocol::kUdp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC,
                           protocol == Protocol::kSctp ? IPPROTO_SCTP : 0));
  if (!fd.valid()) return false;
  const int on = 1;
  // Connections that have ended and linger do not count; a listener does.
  if (protocol != Protocol::kUdp) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!ipv4) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  sockaddr_storage storage = {};
  socklen_t length;
  const std::string bytes = address.Bytes();
  if (ipv4) {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    std::memcpy(&in->sin_addr, bytes.data(), bytes.size());
    length = sizeof *in;
  } else {
    auto* in = reinterpret_cast<sockaddr_in6*>(&storage);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    std::memcpy(&in->sin6_addr, bytes.data(), bytes.size());
    length = sizeof *in;
  }
  return bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0 && errno == EADDRINUSE;
}

}  // namespace

bool PortInUse(absl::string_view address, Protocol protocol, uint16_t port) {
  if (const absl::StatusOr<Address> one = Address::Parse(address); one.ok())
    return InUse(*one, protocol, port);
  return InUse(Address(Family::kIpv4, 0), protocol, port) ||
         InUse(Address(Family::kIpv6, 0), protocol, port);
}

}  // namespace gantry::network
