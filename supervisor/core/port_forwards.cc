#include "supervisor/core/port_forwards.h"

#include <algorithm>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "base/field_error.h"
#include "supervisor/core/network_records.h"

namespace gantry::core {

using metadata::StoredEndpoint;
using network::Address;
using network::Family;

std::vector<PortForward> ForwardsOf(const record::v1::NetworkNamespace& netns,
                                    const std::vector<StoredEndpoint>& places) {
  const auto published_by = [&places](const std::string& network, Family family) {
    for (const StoredEndpoint& one : places) {
      if (one.network_id != network) continue;
      const bool routed =
          family == Family::kIpv4 ? one.record.routed_ipv4() : one.record.routed_ipv6();
      return routed ? std::nullopt : AddressOf(one.record, family);
    }
    return std::optional<Address>();
  };
  const std::optional<Address> ipv4 = published_by(netns.gateway_network(), Family::kIpv4);
  const std::optional<Address> ipv6 = published_by(netns.ipv6_gateway_network(), Family::kIpv6);
  std::vector<PortForward> forwards;
  for (const record::v1::NetworkPort& port : netns.ports()) {
    const absl::StatusOr<Address> host = Address::Parse(port.host_address());
    if ((host.ok() && host->family() == Family::kIpv4) || port.protocol() == "sctp" ||
        port.host_port() == 0)
      continue;
    const bool every = !host.ok() || host->is_unspecified();
    PortForward forward;
    // The container's own IPv6 address is reached by the kernel, but for the loopback address.
    if (ipv6.has_value()) {
      if (!every && !host->is_loopback()) continue;
      forward.host = Address(Family::kIpv6, 1);
      forward.container = *ipv6;
    } else if (ipv4.has_value()) {
      forward.host = every ? Address(Family::kIpv6, 0) : *host;
      forward.container = *ipv4;
    } else {
      continue;
    }
    forward.protocol = ProtocolOf(port.protocol());
    forward.host_port = static_cast<uint16_t>(port.host_port());
    forward.container_port = static_cast<uint16_t>(port.container_port());
    forward.if_possible = !host.ok();
    forwards.push_back(forward);
  }
  return forwards;
}

absl::Status CheckCarried(const record::v1::NetworkNamespace& netns,
                          const std::vector<StoredEndpoint>& places) {
  const std::vector<network::PublishedPort> carried = PortsOf(netns, places);
  for (const record::v1::NetworkPort& port : netns.ports()) {
    const absl::StatusOr<Address> host = Address::Parse(port.host_address());
    if (port.protocol() != "sctp" || !host.ok() || host->family() != Family::kIpv6) continue;
    const bool by_kernel =
        std::any_of(carried.begin(), carried.end(), [&](const network::PublishedPort& one) {
          return one.protocol == network::Protocol::kSctp &&
                 one.container.family() == Family::kIpv6 &&
                 one.container_port == port.container_port();
        });
    if (by_kernel && !host->is_loopback()) continue;
    return FieldError(
        "port_bindings",
        absl::StrCat("SCTP port ", port.host_port(), " cannot be published at [", host->ToString(),
                     "]: ",
                     host->is_loopback() ? "the kernel does not let [::1] out of the host"
                                         : "the container has no IPv6 address that it leads to",
                     ", and what stands in for the kernel there carries TCP and UDP only; publish "
                     "it at an IPv4 address, or connect the container to a network with IPv6"));
  }
  return absl::OkStatus();
}

std::string ForwardsPath(absl::string_view netns) { return absl::StrCat(netns, ".ports"); }

std::string ChangingForwardsPath(absl::string_view netns) {
  return absl::StrCat(ForwardsPath(netns), ".changing");
}

std::string ForwardsText(const std::vector<PortForward>& forwards) {
  std::string text;
  for (const PortForward& one : forwards) {
    absl::StrAppend(&text, network::ProtocolName(one.protocol), " ", one.host.ToString(), " ",
                    one.host_port, " ", one.container.ToString(), " ", one.container_port, " ",
                    one.if_possible ? "if-possible" : "required", "\n");
  }
  return text;
}

}  // namespace gantry::core
