// What the firewall's tables consist of: the types that networks and ports are described by, and
// the text and elements that follow from them. Pure; firewall.h writes them into the kernel.
//
// "$table" in a text stands for the name of our table.
#ifndef GANTRY_SUPERVISOR_NETWORK_FIREWALL_RULES_H_
#define GANTRY_SUPERVISOR_NETWORK_FIREWALL_RULES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "supervisor/network/address.h"
#include "supervisor/network/links.h"
#include "supervisor/network/set_elements.h"

namespace gantry::network {

inline constexpr char kTableName[] = "gantry";
// Of the daemon with this state directory: kTableName for the one in the usual place, another name
// for each that runs beside it.
std::string TableName(absl::string_view state_directory);

enum class Protocol { kTcp, kUdp, kSctp };

absl::string_view ProtocolName(Protocol protocol);
// As in an IP header.
uint8_t ProtocolNumber(Protocol protocol);

// How packets get into a network and out of it, per family of addresses.
enum class GatewayMode {
  kNat,             // in by published ports of the host, out with the host's address
  kNatUnprotected,  // as kNat, and each port of each container is reached at its own address
  kRouted,          // no translation: published ports are reached at the container's own address
  kIsolated,        // not even the host has an address in it; for internal networks
};

struct FirewallNetwork {
  std::string bridge;
  std::vector<Prefix> subnets;
  bool internal = false;   // no way in or out but through the host itself
  bool masquerade = true;  // what leaves has the host's address
  bool between = true;     // containers of this network may reach each other
  GatewayMode ipv4_mode = GatewayMode::kNat;
  GatewayMode ipv6_mode = GatewayMode::kNat;
  // Devices of the host behind which published ports are reached at the container's own address.
  std::vector<std::string> trusted;
  // The host's address that what leaves has; without it the one of the device that it leaves by.
  std::optional<Address> ipv4_source;
  std::optional<Address> ipv6_source;

  GatewayMode ModeOf(Family family) const {
    return family == Family::kIpv4 ? ipv4_mode : ipv6_mode;
  }
};

// The host's end of a container's pair of devices, in a network's bridge. What frames may come from
// it: with the container's MAC and one of its addresses as their source, the IPv6 link-local one
// that follows from the MAC and those of duplicate address detection included; ARP and neighbour
// discovery about its own addresses only, and nothing that makes it a router. Only IPv4, IPv6 and
// ARP.
struct BridgePort {
  std::string device;
  MacAddress mac;
  std::vector<Address> addresses;
  bool check_sources = true;  // false: any frame may come from it
  // Whether frames may go to the network's other ports. Otherwise only to `gateway`, the bridge's
  // own MAC, and group frames to ports without this limit.
  bool between = true;
  MacAddress gateway;
};

// A container that may reach some ports of another although their network keeps its containers
// apart (BridgePort::between): what docker's links open. Frames pass both ways, but only to these
// ports of the one and back from them.
struct BridgeLink {
  struct End {
    std::string device;  // as BridgePort::device
    MacAddress mac;
    std::vector<Address> addresses;
  };
  End from;
  End to;
  std::vector<std::pair<Protocol, uint16_t>> ports;  // of `to`
};

// Packets to the host's port go to the container's; or, opened, packets to the container's own
// address reach the port, in networks that let them as far as that.
struct PublishedPort {
  bool opened = false;          // then without `host` and `host_port`
  std::optional<Address> host;  // one address of the host; without it all of the container's family
  Protocol protocol = Protocol::kTcp;
  uint16_t host_port = 0;
  Address container;
  uint16_t container_port = 0;
};

// The element of our table that carries it, as nft prints it: "inet gantry ports4 { tcp . 8080 }".
std::string RuleOf(const PublishedPort& port, absl::string_view table);

// kInvalidArgument: a device's name that no rule can hold.
absl::Status CheckDevice(absl::string_view name);
absl::Status CheckLink(const BridgeLink& link);
absl::Status CheckNetwork(const FirewallNetwork& network);
// kInvalidArgument: a port 0, or one that leads from one family of addresses to the other.
absl::Status CheckPorts(const std::vector<PublishedPort>& ports);

// All that does not depend on networks and ports; the block of the table "inet" is left open, for
// the networks' chains. `bridge_family`: with the table of the bridge family.
std::string FixedRules(bool bridge_family);
// The chains of a network, for the inside of that block.
std::string Chains(const FirewallNetwork& network);
// The elements that lead from the fixed chains to them. `verb`: add, create or delete.
std::string Jumps(absl::string_view verb, const FirewallNetwork& network);
// What carries a published port. No two ports have the same Place().
SetElement ElementOf(const PublishedPort& port);
// What the sets hold of one port of a bridge.
std::vector<SetElement> ElementsOf(const BridgePort& port);
// What the sets hold of one link. `bridge_family`: as FixedRules().
std::vector<SetElement> ElementsOf(const BridgeLink& link, bool bridge_family);

}  // namespace gantry::network

#endif  // GANTRY_SUPERVISOR_NETWORK_FIREWALL_RULES_H_
