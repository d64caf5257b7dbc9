#include "supervisor/distribution/address_reach.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace gantry::distribution {
namespace {

Reach ReachOfV4(uint32_t address) {
  const auto within = [address](uint32_t network, int bits) {
    return (address >> (32 - bits)) == (network >> (32 - bits));
  };
  if (within(0x7f000000, 8) || within(0, 8)) return Reach::kLoopback;
  if (within(0xa9fe0000, 16)) return Reach::kLinkLocal;
  if (within(0x0a000000, 8) || within(0xac100000, 12) || within(0xc0a80000, 16) ||
      within(0x64400000, 10))
    return Reach::kPrivate;
  return Reach::kPublic;
}

Reach ReachOfV6(const in6_addr& address) {
  const uint8_t* bytes = address.s6_addr;
  static constexpr uint8_t kZero[12] = {};
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  static constexpr uint8_t kNat64[12] = {0, 0x64, 0xff, 0x9b};
  const uint32_t last = static_cast<uint32_t>(bytes[12]) << 24 |
                        static_cast<uint32_t>(bytes[13]) << 16 |
                        static_cast<uint32_t>(bytes[14]) << 8 | bytes[15];
  if (std::memcmp(bytes, kZero, 12) == 0 && last <= 1) return Reach::kLoopback;
  if (std::memcmp(bytes, kMapped, 12) == 0 || std::memcmp(bytes, kNat64, 12) == 0 ||
      std::memcmp(bytes, kZero, 12) == 0)
    return ReachOfV4(last);
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) return Reach::kLinkLocal;
  if ((bytes[0] & 0xfe) == 0xfc) return Reach::kPrivate;
  return Reach::kPublic;
}

}  // namespace

Reach ReachOf(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address, sizeof(v4));
    return ReachOfV4(ntohl(v4.sin_addr.s_addr));
  }
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &address, sizeof(v6));
    return ReachOfV6(v6.sin6_addr);
  }
  return Reach::kLoopback;  // a unix socket
}

Reach ReachOfHost(absl::string_view host_port) {
  std::string host;
  if (absl::StartsWith(host_port, "[")) {
    host = std::string(host_port.substr(1, host_port.find(']') - 1));
  } else {
    const size_t colon = host_port.find(':');
    // More than one colon: an address of version 6 without brackets.
    const bool port = colon != absl::string_view::npos &&
                      host_port.find(':', colon + 1) == absl::string_view::npos;
    host = std::string(port ? host_port.substr(0, colon) : host_port);
  }
  while (absl::EndsWith(host, ".")) host.pop_back();
  if (absl::EqualsIgnoreCase(host, "localhost") || absl::EndsWithIgnoreCase(host, ".localhost"))
    return Reach::kLoopback;
  in6_addr v6;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return ReachOfV6(v6);
  // Also 127.1, 0x7f.1 and 2130706433, which connect() takes as well.
  in_addr v4;
  if (inet_aton(host.c_str(), &v4) == 1) return ReachOfV4(ntohl(v4.s_addr));
  return Reach::kUnknown;
}

absl::string_view NameOf(Reach reach) {
  switch (reach) {
    case Reach::kUnknown:
      return "an unknown address";
    case Reach::kPublic:
      return "the internet";
    case Reach::kPrivate:
      return "a private network";
    case Reach::kLinkLocal:
      return "the local link";
    case Reach::kLoopback:
      return "the machine itself";
  }
  return "";
}

}  // namespace gantry::distribution
