#include "supervisor/network/firewall_rules.h"

#include <netinet/in.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::network {
namespace {

// Everything that does not depend on networks and ports. The networks' chains follow in the same
// block: an element that leads to a chain is sent right behind its map, before later commands.
//
// from_outside: drops what comes from outside for 127.0.0.0/8 (a bridge with route_localnet would
// take it), and what comes for a container's address by another way than its bridge, unless it
// answers the container.
// published: by destination port. [::1] is left to the shims. Also for packets of the host itself,
// whose loopback addresses entering-BRIDGE masquerades, because the container could not answer
// them.
constexpr char kTable[] = R"(
add table inet $table
delete table inet $table
table inet $table {
  map home4 { type ipv4_addr : verdict; flags interval; }
  map home6 { type ipv6_addr : verdict; flags interval; }
  map to_network { type ifname : verdict; }
  map from_network { type ifname : verdict; }
  map leaving { type ifname : verdict; }
  map entering { type ifname : verdict; }
  map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map ports4_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map ports6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
  set open4 { type ipv4_addr . inet_proto . inet_service; }
  set open6 { type ipv6_addr . inet_proto . inet_service; }
  set linked4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
  set linked6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service; }

  chain from_outside {
    type filter hook prerouting priority mangle; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
    ct state established,related accept
    ip daddr vmap @home4
    ip6 daddr vmap @home6
  }
  chain to_host {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump published
  }
  chain by_host {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump published
  }
  chain published {
    dnat ip to ip daddr . meta l4proto . th dport map @ports4_at
    dnat ip to meta l4proto . th dport map @ports4
    ip6 daddr ::1 return
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_at
    dnat ip6 to meta l4proto . th dport map @ports6
  }
  chain sources {
    type nat hook postrouting priority srcnat; policy accept;
    oifname vmap @entering
    iifname vmap @leaving
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname vmap @to_network
    iifname vmap @from_network
  }
)";

// Frames of containers on their way into a bridge. The sets have the device in front, so that a
// frame costs the same with one container as with a thousand.
//
// targets6: the address that a neighbour advertisement is about, which nft can only name as bytes
// of the message. A router's advertisement or redirect would take over a neighbour's routes.
//
// separate, between: neighbours that may not meet still reach published ports of each other by the
// host. Where the kernel passes bridged packets through the rules for routed ones (br_netfilter),
// it translates such a packet on the bridge and gives it the neighbour's MAC: it goes from port to
// port. Only the MAC that the container sent it to tells it from others, so that "separate" judges
// frames to one MAC, and "between" lets through what is left of them.
//
// Of those that are kept apart a linked pair meets all the same (linked_macs, links), to find each
// other and by the ports of the one that the other is linked to; what comes back is known by its
// source port, because frames of a bridge have no connections. Fragments without a port are lost.
// A frame to a MAC that the bridge has not learnt leaves by all ports, and passes to links only.
constexpr char kBridgeTable[] = R"(
add table bridge $table
delete table bridge $table
table bridge $table {
  set members { type ifname; }
  set macs { type ifname . ether_addr; }
  set addresses4 { type ifname . ipv4_addr; }
  set addresses6 { type ifname . ipv6_addr; }
  set targets6 { typeof iifname . @th,64,128; }
  set apart { type ifname; }
  set gateways { type ifname . ether_addr; }
  set linked_macs { type ifname . ether_addr; }
  set links { type ifname . ifname; }
  set links_to { type ifname . ether_addr . inet_proto . inet_service; }
  set links_from { type ifname . ether_addr . inet_proto . inet_service; }

  chain from_container {
    type filter hook prerouting priority -300; policy accept;
    iifname @apart jump separate
    iifname @members goto sources
  }
  chain separate {
    ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 return
    iifname . ether daddr @gateways return
    iifname . ether daddr != @linked_macs drop
    ether type arp return
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return
    iifname . ether daddr . meta l4proto . th dport @links_to return
    tcp flags & (syn | ack) == syn drop
    iifname . ether daddr . meta l4proto . th sport @links_from return
    drop
  }
  chain sources {
    iifname . ether saddr != @macs drop
    ether type vmap { ip : goto sources4, arp : goto sources_arp, ip6 : goto sources6 }
    drop
  }
  chain sources4 {
    iifname . ip saddr @addresses4 accept
    drop
  }
  chain sources_arp {
    iifname . arp saddr ether != @macs drop
    arp saddr ip 0.0.0.0 accept
    iifname . arp saddr ip @addresses4 accept
    drop
  }
  chain sources6 {
    icmpv6 type { nd-router-advert, nd-redirect } drop
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 drop
    iifname . ip6 saddr @addresses6 accept
    ip6 saddr :: ip6 daddr ff02::/16 accept
    drop
  }
  chain between {
    type filter hook forward priority -300; policy accept;
    iifname @apart oifname @apart goto neighbours
  }
  chain neighbours {
    ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 goto groups
    iifname . oifname @links accept
    iifname . ether daddr @linked_macs drop
  }
  chain groups {
    iifname . oifname != @links drop
    ether type arp accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    drop
  }
}
)";

constexpr char kUserTable[] = R"(
add table inet gantry-user
add chain inet gantry-user forward { type filter hook forward priority filter - 1; policy accept; }
)";

// Whether packets from outside reach containers' own addresses only as far as rules let them.
bool Guards(const FirewallNetwork& network, Family family) {
  const GatewayMode mode = network.ModeOf(family);
  return network.internal || (mode != GatewayMode::kNatUnprotected && mode != GatewayMode::kRouted);
}

// What a packet for one of the network's containers must match to pass.
std::vector<std::string> RulesTo(const FirewallNetwork& network) {
  std::vector<std::string> rules = {"ct state established,related accept"};
  // From one port of the bridge to another, where the kernel lets bridged packets through here, or
  // by the host's hand.
  const std::string from_here = absl::StrCat("iifname \"", network.bridge, "\" ");
  if (network.between) {
    rules.push_back(from_here + "accept");
  } else {
    rules.push_back(from_here + "ip saddr . ip daddr . meta l4proto . th dport @linked4 accept");
    rules.push_back(from_here + "ip6 saddr . ip6 daddr . meta l4proto . th dport @linked6 accept");
    // IPv6 finds neighbours by packets that pass here like others. Those of a bridge have been
    // judged by its own table; routed ones have fewer hops left.
    rules.push_back(from_here +
                    "ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } "
                    "accept");
  }
  // What a published port sent here, also for neighbours that may not reach each other otherwise.
  if (!network.internal) rules.push_back("ct status dnat accept");
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    if (network.internal) break;
    const bool ipv4 = family == Family::kIpv4;
    const GatewayMode mode = network.ModeOf(family);
    const std::string of = absl::StrCat("meta nfproto ", ipv4 ? "ipv4" : "ipv6", " ");
    if (mode == GatewayMode::kNatUnprotected) rules.push_back(of + "accept");
    if (mode == GatewayMode::kRouted)
      rules.push_back(absl::StrCat(of, "meta l4proto ", ipv4 ? "icmp" : "ipv6-icmp", " accept"));
    if (mode == GatewayMode::kRouted || !network.trusted.empty()) {
      rules.push_back(ipv4 ? "ip daddr . meta l4proto . th dport @open4 accept"
                           : "ip6 daddr . meta l4proto . th dport @open6 accept");
    }
  }
  rules.push_back("drop");
  return rules;
}

// What the kernel gives the device by itself (RFC 4291, appendix A).
Address LinkLocal(const MacAddress& mac) {
  const MacAddress::Bytes& b = mac.bytes();
  const uint8_t bytes[16] = {
      0xfe, 0x80, 0,    0,    0,    0,    0,   0, static_cast<uint8_t>(b[0] ^ 2),
      b[1], b[2], 0xff, 0xfe, b[3], b[4], b[5]};
  return Address::FromBytes({reinterpret_cast<const char*>(bytes), sizeof bytes});
}

ElementField MacField(const MacAddress& mac) {
  const MacAddress::Bytes& bytes = mac.bytes();
  return {mac.ToString(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}};
}

}  // namespace

std::string TableName(absl::string_view state_directory) {
  if (state_directory == "/run/gantry") return kTableName;
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(state_directory.data()), state_directory.size(),
         hash);
  return absl::StrCat(kTableName, "-",
                      absl::BytesToHexString({reinterpret_cast<const char*>(hash), 4}));
}

absl::string_view ProtocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kUdp:
      return "udp";
    case Protocol::kSctp:
      return "sctp";
    case Protocol::kTcp:
      break;
  }
  return "tcp";
}

uint8_t ProtocolNumber(Protocol protocol) {
  switch (protocol) {
    case Protocol::kUdp:
      return IPPROTO_UDP;
    case Protocol::kSctp:
      return IPPROTO_SCTP;
    case Protocol::kTcp:
      break;
  }
  return IPPROTO_TCP;
}

absl::Status CheckDevice(absl::string_view name) {
  const bool plain =
      !name.empty() && name.size() <= 15 && std::all_of(name.begin(), name.end(), [](char c) {
        return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
               c == '.';
      });
  if (plain) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" cannot name a device: 1 to 15 letters, digits, - _ or ."));
}

absl::Status CheckLink(const BridgeLink& link) {
  GANTRY_RETURN_IF_ERROR(CheckDevice(link.from.device));
  return CheckDevice(link.to.device);
}

absl::Status CheckNetwork(const FirewallNetwork& network) {
  for (const std::string& device : network.trusted) GANTRY_RETURN_IF_ERROR(CheckDevice(device));
  return CheckDevice(network.bridge);
}

absl::Status CheckPorts(const std::vector<PublishedPort>& ports) {
  for (const PublishedPort& port : ports) {
    if (port.host.has_value() && port.host->family() != port.container.family()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "port ", port.host_port, " of ", port.host->ToString(), " cannot lead to ",
          port.container.ToString(), ": the kernel does not translate between IPv4 and IPv6"));
    }
    if ((port.host_port == 0 && !port.opened) || port.container_port == 0)
      return absl::InvalidArgumentError("port 0 cannot be published");
  }
  return absl::OkStatus();
}

std::string FixedRules(bool bridge_family) {
  return absl::StrCat(kUserTable, bridge_family ? kBridgeTable : "", kTable);
}

// The chains of one network, for a block of the table, without the elements that lead to them.
std::string Chains(const FirewallNetwork& network) {
  const std::string& bridge = network.bridge;
  const std::string name = absl::StrCat("\"", bridge, "\"");
  std::string text;
  const auto chain = [&](absl::string_view which, const std::vector<std::string>& rules) {
    absl::StrAppend(&text, "  chain ", which, "-", bridge, " {\n    ",
                    absl::StrJoin(rules, "\n    "), "\n  }\n");
  };
  // The bridge's own address is the host's, which published ports are reached at from everywhere.
  std::vector<std::string> home = {absl::StrCat("iifname ", name, " return"),
                                   "fib daddr type local return"};
  for (const std::string& device : network.trusted)
    home.push_back(absl::StrCat("iifname \"", device, "\" return"));
  home.push_back("drop");
  chain("home", home);
  chain("to", RulesTo(network));

  chain("from", {"ct state established,related accept", network.internal ? "drop" : "accept"});

  std::vector<std::string> leaving;
  if (network.masquerade && !network.internal) {
    for (const Prefix& subnet : network.subnets) {
      const absl::string_view ip = subnet.family() == Family::kIpv4 ? "ip" : "ip6";
      const std::optional<Address>& source =
          subnet.family() == Family::kIpv4 ? network.ipv4_source : network.ipv6_source;
      if (network.ModeOf(subnet.family()) == GatewayMode::kRouted) continue;
      leaving.push_back(
          absl::StrCat("oifname != ", name, " ", ip, " saddr ", subnet.ToString(), " ",
                       source.has_value() ? absl::StrCat("snat ", ip, " to ", source->ToString())
                                          : "masquerade"));
    }
  }
  chain("leaving", leaving);

  // Published ports only. From a neighbour, or from the container itself, the answer would not come
  // back by the host; all others see the client's own address.
  std::vector<std::string> entering = {"ip saddr 127.0.0.0/8 masquerade"};
  for (const Prefix& subnet : network.subnets) {
    const absl::string_view ip = subnet.family() == Family::kIpv4 ? "ip" : "ip6";
    entering.push_back(absl::StrCat(ip, " saddr ", subnet.ToString(), " ", ip, " daddr ",
                                    subnet.ToString(), " ct status dnat masquerade"));
  }
  entering.push_back("ct status dnat accept");
  chain("entering", entering);
  return text;
}

// The elements that lead to them. `verb`: "add", "create" or "delete".
std::string Jumps(absl::string_view verb, const FirewallNetwork& network) {
  const std::string& bridge = network.bridge;
  std::string text;
  for (const Prefix& subnet : network.subnets) {
    if (!Guards(network, subnet.family())) continue;
    absl::StrAppend(&text, verb, " element inet $table ",
                    subnet.family() == Family::kIpv4 ? "home4" : "home6", " { ", subnet.ToString(),
                    " : jump home-", bridge, " }\n");
  }
  const std::pair<const char*, const char*> maps[] = {{"to_network", "to"},
                                                      {"from_network", "from"},
                                                      {"leaving", "leaving"},
                                                      {"entering", "entering"}};
  for (const auto& [map, chain] : maps) {
    absl::StrAppend(&text, verb, " element inet $table ", map, " { \"", bridge, "\" : jump ", chain,
                    "-", bridge, " }\n");
  }
  return text;
}

SetElement ElementOf(const PublishedPort& port) {
  SetElement element;
  if (port.opened) {
    element.set = port.container.family() == Family::kIpv4 ? "open4" : "open6";
    element.key = {AddressField(port.container),
                   ProtocolField(ProtocolName(port.protocol), ProtocolNumber(port.protocol)),
                   PortField(port.container_port)};
    return element;
  }
  element.set = absl::StrCat("ports", port.container.family() == Family::kIpv4 ? "4" : "6",
                             port.host.has_value() ? "_at" : "");
  if (port.host.has_value()) element.key.push_back(AddressField(*port.host));
  element.key.push_back(ProtocolField(ProtocolName(port.protocol), ProtocolNumber(port.protocol)));
  element.key.push_back(PortField(port.host_port));
  element.value = {AddressField(port.container), PortField(port.container_port)};
  return element;
}

std::string RuleOf(const PublishedPort& port, absl::string_view table) {
  return absl::StrCat("inet ", table, " ", ElementOf(port).Place(), " }");
}

std::vector<SetElement> ElementsOf(const BridgePort& port) {
  std::vector<SetElement> all;
  const auto element = [&](absl::string_view set, std::vector<ElementField> more) {
    SetElement one;
    one.table = SetElement::Table::kBridge;
    one.set = std::string(set);
    one.key.push_back(DeviceField(port.device));
    for (ElementField& field : more) one.key.push_back(std::move(field));
    all.push_back(std::move(one));
  };
  if (!port.between) {
    element("apart", {});
    element("gateways", {MacField(port.gateway)});
  }
  if (!port.check_sources) return all;
  element("members", {});
  element("macs", {MacField(port.mac)});
  const auto add6 = [&](const Address& address) {
    element("addresses6", {AddressField(address)});
    element("targets6", {AddressNumberField(address)});
  };
  bool link_local = false;
  for (const Address& address : port.addresses) {
    if (address.family() == Family::kIpv4) {
      element("addresses4", {AddressField(address)});
    } else {
      add6(address);
      link_local |= address == LinkLocal(port.mac);
    }
  }
  if (!link_local) add6(LinkLocal(port.mac));
  return all;
}

std::vector<SetElement> ElementsOf(const BridgeLink& link, bool bridge_family) {
  std::vector<SetElement> all;
  const auto element = [&](SetElement::Table table, absl::string_view set,
                           std::vector<ElementField> key) {
    SetElement one;
    one.table = table;
    one.set = std::string(set);
    one.key = std::move(key);
    all.push_back(std::move(one));
  };
  const auto port_fields = [](const std::pair<Protocol, uint16_t>& port) {
    return std::make_pair(ProtocolField(ProtocolName(port.first), ProtocolNumber(port.first)),
                          PortField(port.second));
  };
  for (const auto& port : link.ports) {
    const auto [protocol, number] = port_fields(port);
    for (const Address& from : link.from.addresses) {
      for (const Address& to : link.to.addresses) {
        if (from.family() != to.family()) continue;
        element(SetElement::Table::kInet, from.family() == Family::kIpv4 ? "linked4" : "linked6",
                {AddressField(from), AddressField(to), protocol, number});
      }
    }
  }
  if (!bridge_family) return all;
  const ElementField from = DeviceField(link.from.device);
  const ElementField to = DeviceField(link.to.device);
  element(SetElement::Table::kBridge, "linked_macs", {from, MacField(link.to.mac)});
  element(SetElement::Table::kBridge, "linked_macs", {to, MacField(link.from.mac)});
  element(SetElement::Table::kBridge, "links", {from, to});
  element(SetElement::Table::kBridge, "links", {to, from});
  for (const auto& port : link.ports) {
    const auto [protocol, number] = port_fields(port);
    element(SetElement::Table::kBridge, "links_to",
            {from, MacField(link.to.mac), protocol, number});
    element(SetElement::Table::kBridge, "links_from",
            {to, MacField(link.from.mac), protocol, number});
  }
  return all;
}

}  // namespace gantry::network
