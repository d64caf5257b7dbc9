#include "supervisor/network/firewall.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <nftables/libnftables.h>
#include <openssl/sha.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/network/legacy_tables.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

constexpr size_t kGenerations = 1000;

// Everything that does not depend on networks and ports. The networks' chains follow in the same
// block: an element that leads to a chain is sent right behind its map, before later commands.
//
// from_outside: drops what comes from outside for 127.0.0.0/8 (a bridge with route_localnet would
// take it), and what comes for a container's address by another way than its bridge, unless it
// answers the container.
// published: by destination port. [::1] is left to the shims. Also for packets of the host itself,
// whose loopback addresses entering-BRIDGE masquerades, because the container could not answer them.
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
// of the message. separate, between: neighbours that may not meet still reach published ports of
// each other by the host; where the kernel passes bridged packets through the rules for routed ones
// (br_netfilter), such a packet goes from port to port, so that only the MAC it was sent to tells
// it from others. A router's advertisement or redirect would take over a neighbour's routes.
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

  chain from_container {
    type filter hook prerouting priority -300; policy accept;
    iifname @apart jump separate
    iifname @members goto sources
  }
  chain separate {
    ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 return
    iifname . ether daddr != @gateways drop
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
    ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 iifname @apart oifname @apart drop
  }
}
)";

constexpr char kUserTable[] = R"(
add table inet gantry-user
add chain inet gantry-user forward { type filter hook forward priority filter - 1; policy accept; }
)";

// libnftables, loaded with the first network: a daemon without networks neither needs it nor
// carries its memory.
struct Nftables {
  decltype(&nft_ctx_new) ctx_new;
  decltype(&nft_ctx_free) ctx_free;
  decltype(&nft_ctx_buffer_output) buffer_output;
  decltype(&nft_ctx_buffer_error) buffer_error;
  decltype(&nft_ctx_get_error_buffer) error_buffer;
  decltype(&nft_ctx_get_output_buffer) output_buffer;
  decltype(&nft_run_cmd_from_buffer) run;
};

template <typename Function>
bool Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// Never unloaded.
const absl::StatusOr<Nftables>& Library() {
  static const auto* const loaded = new absl::StatusOr<Nftables>([]() -> absl::StatusOr<Nftables> {
    void* const library = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
    Nftables nft;
    if (library != nullptr && Find(library, "nft_ctx_new", nft.ctx_new) &&
        Find(library, "nft_ctx_free", nft.ctx_free) &&
        Find(library, "nft_ctx_buffer_output", nft.buffer_output) &&
        Find(library, "nft_ctx_buffer_error", nft.buffer_error) &&
        Find(library, "nft_ctx_get_error_buffer", nft.error_buffer) &&
        Find(library, "nft_ctx_get_output_buffer", nft.output_buffer) &&
        Find(library, "nft_run_cmd_from_buffer", nft.run))
      return nft;
    const char* why = dlerror();
    return absl::UnimplementedError(
        absl::StrCat("networks need libnftables (Debian package libnftables1): ",
                     why == nullptr ? "a function is missing" : why));
  }());
  return *loaded;
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

absl::Status CheckNetwork(const FirewallNetwork& network) {
  for (const std::string& device : network.trusted) GANTRY_RETURN_IF_ERROR(CheckDevice(device));
  return CheckDevice(network.bridge);
}

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
  if (network.between) rules.push_back(absl::StrCat("iifname \"", network.bridge, "\" accept"));
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

// The chains of one network, for a block of the table, without the elements that lead to them.
std::string Chains(const FirewallNetwork& network) {
  const std::string& bridge = network.bridge;
  const std::string name = absl::StrCat("\"", bridge, "\"");
  std::string text;
  const auto chain = [&](absl::string_view which, const std::vector<std::string>& rules) {
    absl::StrAppend(&text, "  chain ", which, "-", bridge, " {\n    ",
                    absl::StrJoin(rules, "\n    "), "\n  }\n");
  };
  std::vector<std::string> home = {absl::StrCat("iifname ", name, " return")};
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

// Which map has the port, and by which key: no two ports have both.
std::string Place(const PublishedPort& port) { return ElementOf(port).Place(); }

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

// What the sets hold of one port of a bridge.
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

// Chains of other programs that drop what is forwarded unless a rule of theirs accepts it, as "ip
// filter FORWARD", of what `nft list chains` printed.
std::vector<std::string> DroppingChains(absl::string_view listed) {
  std::vector<std::string> found;
  std::string table;
  std::string chain;
  for (const absl::string_view line : absl::StrSplit(listed, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    if (words.size() >= 3 && words[0] == "table") {
      table = absl::StrCat(words[1], " ", words[2]);
    } else if (words.size() >= 2 && words[0] == "chain") {
      chain = std::string(words[1]);
    } else if (absl::StrContains(line, " hook forward ") &&
               absl::StrContains(line, "policy drop")) {
      found.push_back(absl::StrCat(table, " ", chain));
    }
  }
  return found;
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

absl::StatusOr<std::unique_ptr<Firewall>> Firewall::Open(absl::string_view table) {
  const absl::StatusOr<Nftables>& nft = Library();
  GANTRY_RETURN_IF_ERROR(nft.status());
  GANTRY_ASSIGN_OR_RETURN(RulesetGeneration generation, RulesetGeneration::Open());
  GANTRY_ASSIGN_OR_RETURN(ElementSocket elements, ElementSocket::Open());
  UniqueFd netns(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!netns.valid()) return ErrnoToStatus(errno, "cannot open the network namespace");
  nft_ctx* context = nft->ctx_new(NFT_CTX_DEFAULT);
  if (context == nullptr) {
    return absl::UnimplementedError(
        "nftables cannot be used; is the kernel built with CONFIG_NF_TABLES?");
  }
  nft->buffer_output(context);
  nft->buffer_error(context);
  return std::unique_ptr<Firewall>(
      new Firewall(context, std::move(generation), std::move(elements), std::move(netns), table));
}

absl::StatusOr<std::unique_ptr<Firewall>> Firewall::OpenIn(int netns, absl::string_view table) {
  absl::StatusOr<std::unique_ptr<Firewall>> made;
  GANTRY_RETURN_IF_ERROR(InNetns(netns, [&made, table] {
    made = Open(table);
    return made.status();
  }));
  return made;
}

Firewall::~Firewall() { Library()->ctx_free(context_); }

absl::StatusOr<RulesetEvents> Firewall::OpenEvents() {
  absl::StatusOr<RulesetEvents> events = absl::UnknownError("");
  GANTRY_RETURN_IF_ERROR(InNetns(netns_.get(), [&] {
    events = RulesetEvents::Open(table_);
    return events.status();
  }));
  return events;
}

bool Firewall::Made(uint32_t generation) {
  absl::MutexLock lock(&mu_);
  return std::find(made_.begin(), made_.end(), generation) != made_.end();
}

absl::Status Firewall::Transact(const std::function<absl::Status()>& transaction) {
  const absl::StatusOr<uint32_t> before = generation_.Get();
  GANTRY_RETURN_IF_ERROR(transaction());
  // If another program's transaction came between, it cannot be said which is whose; the guard then
  // writes the rules once too often.
  const absl::StatusOr<uint32_t> after = generation_.Get();
  if (before.ok() && after.ok() && *after == *before + 1) {
    made_.push_back(*after);
    if (made_.size() > kGenerations) made_.pop_front();
  }
  return absl::OkStatus();
}

absl::Status Firewall::Run(absl::string_view commands, absl::string_view what) {
  return Transact([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return RunCommands(commands, what); });
}

absl::Status Firewall::RunCommands(absl::string_view commands, absl::string_view what) {
  const Nftables& nft = *Library();
  const std::string text = absl::StrReplaceAll(commands, {{"$table", table_}});
  if (nft.run(context_, text.c_str()) == 0) return absl::OkStatus();
  // Several lines, of which the first says what is wrong and where.
  absl::string_view error = nft.error_buffer(context_);
  error = error.substr(0, error.find('\n'));
  const std::string said = absl::StrCat(what, ": nftables: ", error);
  // An element of a map that leads elsewhere is "busy".
  if (absl::StrContains(error, "File exists") ||
      absl::StrContains(error, "Device or resource busy"))
    return absl::AlreadyExistsError(said);
  if (absl::StrContains(error, "No such file or directory")) return absl::NotFoundError(said);
  if (absl::StrContains(error, "not supported")) return absl::UnimplementedError(said);
  if (absl::StrContains(error, "Operation not permitted")) return absl::PermissionDeniedError(said);
  return absl::InternalError(said);
}

std::string Firewall::Everything() const {
  std::string text = absl::StrCat(kUserTable, bridge_family_ ? kBridgeTable : "", kTable);
  std::string elements;
  for (const auto& [bridge, network] : networks_) {
    absl::StrAppend(&text, Chains(network));
    absl::StrAppend(&elements, Jumps("add", network));
  }
  absl::StrAppend(&text, "}\n", elements);
  for (const auto& [place, port] : ports_)
    absl::StrAppend(&text, ElementOf(port).Command("add", table_));
  for (const auto& [device, port] : bridge_ports_) {
    for (const SetElement& element : PortElements(port))
      absl::StrAppend(&text, element.Command("add", table_));
  }
  return text;
}

absl::Status Firewall::WriteEverything() {
  constexpr char kWhat[] = "writing the rules of all networks";
  absl::Status written = Run(Everything(), kWhat);
  if (!absl::IsUnimplemented(written) || !bridge_family_) return written;
  bridge_family_ = false;
  written = Run(Everything(), kWhat);
  LOG_IF(WARNING, written.ok())
      << "this kernel has no nftables rules for bridges (CONFIG_NF_TABLES_BRIDGE): containers can "
         "send with addresses that are not theirs, and enable_icc=false separates them only where "
         "net.bridge.bridge-nf-call-iptables is 1";
  return written;
}

absl::Status Firewall::Add(absl::string_view commands, absl::string_view what) {
  absl::Status added = Run(commands, what);
  return absl::IsNotFound(added) ? WriteEverything() : added;
}

std::vector<SetElement> Firewall::PortElements(const BridgePort& port) const {
  return bridge_family_ ? ElementsOf(port) : std::vector<SetElement>();
}

absl::Status Firewall::AddElements(const std::vector<SetElement>& elements) {
  if (elements.empty()) return absl::OkStatus();
  const absl::Status added = Transact(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return elements_.Add(table_, elements); });
  return absl::IsNotFound(added) ? WriteEverything() : added;
}

absl::Status Firewall::DeleteElements(const std::vector<SetElement>& elements) {
  if (elements.empty()) return absl::OkStatus();
  const absl::Status removed = Transact(
      [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return elements_.Delete(table_, elements); });
  // A part of it may be in the kernel yet.
  return absl::IsNotFound(removed) ? WriteEverything() : removed;
}

absl::Status Firewall::Replace(const std::vector<FirewallNetwork>& networks,
                               const std::vector<PublishedPort>& ports,
                               const std::vector<BridgePort>& bridge_ports) {
  for (const FirewallNetwork& network : networks) GANTRY_RETURN_IF_ERROR(CheckNetwork(network));
  for (const BridgePort& port : bridge_ports) GANTRY_RETURN_IF_ERROR(CheckDevice(port.device));
  GANTRY_RETURN_IF_ERROR(CheckPorts(ports));
  absl::MutexLock lock(&mu_);
  // Host rules that drop are respected: a packet passes only when every program lets it.
  std::vector<std::string> dropping;
  if (Run("list chains", "looking at the rules of others").ok()) {
    for (const std::string& chain : DroppingChains(Library()->output_buffer(context_)))
      dropping.push_back(absl::StrCat("nftables chain ", chain));
  }
  GANTRY_RETURN_IF_ERROR(InNetns(netns_.get(), [&dropping] {
    for (const std::string& program : LegacyProgramsThatDrop())
      dropping.push_back(absl::StrCat("chain FORWARD of ", program));
    return absl::OkStatus();
  }));
  static std::atomic<bool> said{false};
  if (!dropping.empty() && !said.exchange(true)) {
    LOG(WARNING) << absl::StrJoin(dropping, " and ")
                 << " drops what this host forwards: containers on networks reach out, and other "
                    "hosts reach their published ports, only as far as its rules accept it. To let "
                    "them, accept there what is established or related, what was translated (nft: "
                    "ct status dnat; iptables: --ctstate DNAT), and what comes from the networks' "
                    "bridges";
  }
  networks_.clear();
  ports_.clear();
  bridge_ports_.clear();
  for (const BridgePort& port : bridge_ports) bridge_ports_[port.device] = port;
  for (const FirewallNetwork& network : networks) networks_[network.bridge] = network;
  for (const PublishedPort& port : ports) ports_.emplace(Place(port), port);
  return WriteEverything();
}

absl::Status Firewall::Restore() {
  absl::MutexLock lock(&mu_);
  return WriteEverything();
}

absl::Status Firewall::AddNetwork(const FirewallNetwork& network) {
  GANTRY_RETURN_IF_ERROR(CheckNetwork(network));
  absl::MutexLock lock(&mu_);
  if (!networks_.emplace(network.bridge, network).second) {
    return absl::AlreadyExistsError(
        absl::StrCat("bridge ", network.bridge, " has the rules of a network already"));
  }
  const absl::Status added =
      Add(absl::StrCat("table inet $table {\n", Chains(network), "}\n", Jumps("create", network)),
          absl::StrCat("writing the rules of bridge ", network.bridge));
  if (!added.ok()) networks_.erase(network.bridge);
  return added;
}

absl::Status Firewall::RemoveNetwork(const FirewallNetwork& network) {
  GANTRY_RETURN_IF_ERROR(CheckDevice(network.bridge));
  absl::MutexLock lock(&mu_);
  const auto found = networks_.find(network.bridge);
  if (found == networks_.end())
    return absl::NotFoundError(absl::StrCat("bridge ", network.bridge, " has no rules"));
  std::string text = Jumps("delete", found->second);
  networks_.erase(found);
  for (const char* chain : {"home", "to", "from", "leaving", "entering"}) {
    absl::StrAppend(&text, "flush chain inet $table ", chain, "-", network.bridge,
                    "\ndelete chain inet $table ", chain, "-", network.bridge, "\n");
  }
  const absl::Status removed =
      Run(text, absl::StrCat("removing the rules of bridge ", network.bridge));
  // A part of it may be in the kernel yet.
  return absl::IsNotFound(removed) ? WriteEverything() : removed;
}

absl::Status Firewall::Note(const std::vector<PublishedPort>& ports,
                            std::vector<std::string>& places, std::vector<SetElement>& elements) {
  for (const PublishedPort& port : ports) {
    std::string place = Place(port);
    if (!ports_.emplace(place, port).second) {
      return absl::AlreadyExistsError(
          absl::StrCat("port ", port.host_port, "/", ProtocolName(port.protocol), " of ",
                       port.host.has_value() ? port.host->ToString() : "every address",
                       " is published already"));
    }
    places.push_back(std::move(place));
    elements.push_back(ElementOf(port));
  }
  return absl::OkStatus();
}

absl::Status Firewall::Publish(const std::vector<PublishedPort>& ports) {
  GANTRY_RETURN_IF_ERROR(CheckPorts(ports));
  if (ports.empty()) return absl::OkStatus();
  absl::MutexLock lock(&mu_);
  std::vector<SetElement> elements;
  std::vector<std::string> places;
  absl::Status added = Note(ports, places, elements);
  if (added.ok()) added = AddElements(elements);
  if (!added.ok()) {
    for (const std::string& place : places) ports_.erase(place);
  }
  return added;
}

absl::Status Firewall::Join(const BridgePort& port, const std::vector<PublishedPort>& published) {
  GANTRY_RETURN_IF_ERROR(CheckDevice(port.device));
  GANTRY_RETURN_IF_ERROR(CheckPorts(published));
  absl::MutexLock lock(&mu_);
  if (!bridge_ports_.emplace(port.device, port).second)
    return absl::AlreadyExistsError(absl::StrCat("device ", port.device, " has rules already"));
  std::vector<SetElement> elements = PortElements(port);
  std::vector<std::string> places;
  absl::Status added = Note(published, places, elements);
  if (added.ok()) added = AddElements(elements);
  if (!added.ok()) {
    for (const std::string& place : places) ports_.erase(place);
    bridge_ports_.erase(port.device);
  }
  return added;
}

absl::Status Firewall::Leave(absl::string_view device,
                             const std::vector<PublishedPort>& published) {
  GANTRY_RETURN_IF_ERROR(CheckPorts(published));
  absl::MutexLock lock(&mu_);
  std::vector<SetElement> elements;
  for (const PublishedPort& port : published) {
    const auto found = ports_.find(Place(port));
    // Another container may have it by now.
    if (found == ports_.end() || found->second.container != port.container ||
        found->second.container_port != port.container_port)
      continue;
    elements.push_back(ElementOf(port));
    ports_.erase(found);
  }
  if (const auto found = bridge_ports_.find(std::string(device)); found != bridge_ports_.end()) {
    for (SetElement& element : PortElements(found->second)) elements.push_back(std::move(element));
    bridge_ports_.erase(found);
  }
  return DeleteElements(elements);
}

absl::Status Firewall::Unpublish(const std::vector<PublishedPort>& ports) {
  GANTRY_RETURN_IF_ERROR(CheckPorts(ports));
  absl::MutexLock lock(&mu_);
  std::vector<SetElement> elements;
  bool missing = false;
  for (const PublishedPort& port : ports) {
    if (ports_.erase(Place(port)) == 0) {
      missing = true;
    } else {
      elements.push_back(ElementOf(port));
    }
  }
  GANTRY_RETURN_IF_ERROR(DeleteElements(elements));
  return missing ? absl::NotFoundError("removing published ports: some were not published")
                 : absl::OkStatus();
}

absl::StatusOr<bool> Firewall::Stands() {
  absl::MutexLock lock(&mu_);
  std::vector<absl::string_view> chains = {"inet $table forward"};
  if (bridge_family_) chains.push_back("bridge $table sources");
  for (const absl::string_view chain : chains) {
    const absl::Status listed = Run(absl::StrCat("list chain ", chain), "looking for our rules");
    if (absl::IsNotFound(listed)) return false;
    GANTRY_RETURN_IF_ERROR(listed);
  }
  return true;
}

absl::Status Firewall::Remove() {
  absl::MutexLock lock(&mu_);
  networks_.clear();
  ports_.clear();
  bridge_ports_.clear();
  return Run(
      absl::StrCat("add table inet $table\ndelete table inet $table\n",
                   bridge_family_ ? "add table bridge $table\ndelete table bridge $table" : ""),
      "removing the rules of all networks");
}

}  // namespace gantry::network
