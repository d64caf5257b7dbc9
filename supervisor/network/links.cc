#include "supervisor/network/links.h"

#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/ipvlan.h>
#include <netlink/route/link/macvlan.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/link/vlan.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

absl::Status NlStatus(int result, absl::string_view what) {
  if (result >= 0) return absl::OkStatus();
  const std::string text = absl::StrCat(what, ": ", nl_geterror(result));
  switch (-result) {
    case NLE_EXIST:
      return absl::AlreadyExistsError(text);
    case NLE_NODEV:
    case NLE_OBJ_NOTFOUND:
      return absl::NotFoundError(text);
    case NLE_PERM:
    case NLE_NOACCESS:
      return absl::PermissionDeniedError(text);
    case NLE_NOMEM:
      return absl::ResourceExhaustedError(text);
    case NLE_BUSY:
      return absl::FailedPreconditionError(text);
    case NLE_AGAIN:
    case NLE_DUMP_INTR:
      return absl::UnavailableError(text);
    case NLE_INVAL:
    case NLE_RANGE:
      return absl::InvalidArgumentError(text);
    case NLE_OPNOTSUPP:
    case NLE_AF_NOSUPPORT:
      return absl::UnimplementedError(text);
    default:
      return absl::InternalError(text);
  }
}

// libnl's objects are counted; these drop our count.
struct Put {
  void operator()(rtnl_link* link) const { rtnl_link_put(link); }
  void operator()(rtnl_addr* address) const { rtnl_addr_put(address); }
  void operator()(rtnl_route* route) const { rtnl_route_put(route); }
  void operator()(nl_addr* address) const { nl_addr_put(address); }
  void operator()(nl_cache* cache) const { nl_cache_free(cache); }
  void operator()(rtnl_neigh* neighbour) const { rtnl_neigh_put(neighbour); }
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using LinkPtr = std::unique_ptr<rtnl_link, Put>;
using AddressPtr = std::unique_ptr<rtnl_addr, Put>;
using RoutePtr = std::unique_ptr<rtnl_route, Put>;
using NlAddressPtr = std::unique_ptr<nl_addr, Put>;
using NeighbourPtr = std::unique_ptr<rtnl_neigh, Put>;
using MessagePtr = std::unique_ptr<nl_msg, Put>;
using CachePtr = std::unique_ptr<nl_cache, Put>;

absl::Status NoMemory() { return absl::ResourceExhaustedError("netlink: out of memory"); }

NlAddressPtr ToNl(const Address& address, int length) {
  const std::string bytes = address.Bytes();
  NlAddressPtr made(nl_addr_build(address.family() == Family::kIpv4 ? AF_INET : AF_INET6,
                                  bytes.data(), bytes.size()));
  if (made != nullptr) nl_addr_set_prefixlen(made.get(), length);
  return made;
}

NlAddressPtr ToNl(const MacAddress& mac) {
  return NlAddressPtr(nl_addr_build(AF_LLC, mac.bytes().data(), mac.bytes().size()));
}

std::optional<Address> FromNl(nl_addr* address) {
  if (address == nullptr) return std::nullopt;
  const int family = nl_addr_get_family(address);
  const size_t length = nl_addr_get_len(address);
  if ((family != AF_INET || length != 4) && (family != AF_INET6 || length != 16))
    return std::nullopt;
  return Address::FromBytes({static_cast<const char*>(nl_addr_get_binary_addr(address)), length});
}

LinkInfo InfoOf(rtnl_link* link) {
  LinkInfo info;
  info.index = rtnl_link_get_ifindex(link);
  info.name = rtnl_link_get_name(link);
  if (const char* kind = rtnl_link_get_type(link); kind != nullptr) info.kind = kind;
  if (const char* alias = rtnl_link_get_ifalias(link); alias != nullptr) info.alias = alias;
  info.master = rtnl_link_get_master(link);
  info.mtu = rtnl_link_get_mtu(link);
  info.up = (rtnl_link_get_flags(link) & IFF_UP) != 0;
  if (nl_addr* mac = rtnl_link_get_addr(link); mac != nullptr && nl_addr_get_len(mac) == 6) {
    MacAddress::Bytes bytes;
    std::copy_n(static_cast<const uint8_t*>(nl_addr_get_binary_addr(mac)), 6, bytes.begin());
    info.mac = MacAddress(bytes);
  }
  return info;
}

absl::Status CheckName(absl::string_view name) {
  if (!name.empty() && name.size() < IFNAMSIZ && name.find_first_of("/ :\t\n") == name.npos &&
      name.find('\0') == name.npos && name != "." && name != "..")
    return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", name, "\" cannot name a network device: 1 to 15 characters without / : and spaces"));
}

// Null without memory.
RoutePtr DefaultRoute(Family family) {
  RoutePtr route(rtnl_route_alloc());
  const NlAddressPtr anywhere = ToNl(Address(family, 0), 0);
  if (route == nullptr || anywhere == nullptr) return nullptr;
  rtnl_route_set_family(route.get(), family == Family::kIpv4 ? AF_INET : AF_INET6);
  rtnl_route_set_table(route.get(), RT_TABLE_MAIN);
  rtnl_route_set_protocol(route.get(), RTPROT_STATIC);
  rtnl_route_set_dst(route.get(), anywhere.get());
  return route;
}

}  // namespace

absl::StatusOr<MacAddress> MacAddress::Parse(absl::string_view text) {
  const absl::Status refused =
      absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a MAC address of a device"));
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  if (parts.size() != 6) return refused;
  Bytes bytes;
  for (size_t i = 0; i < 6; ++i) {
    uint32_t byte = 0;
    if (parts[i].size() != 2 ||
        parts[i].find_first_not_of("0123456789abcdefABCDEF") != absl::string_view::npos ||
        !absl::SimpleHexAtoi(parts[i], &byte))
      return refused;
    bytes[i] = static_cast<uint8_t>(byte);
  }
  if ((bytes[0] & 1) != 0 || bytes == Bytes{}) return refused;
  return MacAddress(bytes);
}

MacAddress MacAddress::Random() {
  Bytes bytes;
  // Of six bytes the kernel's generator always gives all.
  (void)!getrandom(bytes.data(), bytes.size(), 0);
  bytes[0] = static_cast<uint8_t>((bytes[0] & ~1u) | 2u);
  return MacAddress(bytes);
}

std::string MacAddress::ToString() const {
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", bytes_[0], bytes_[1], bytes_[2],
                         bytes_[3], bytes_[4], bytes_[5]);
}

absl::StatusOr<std::unique_ptr<Links>> Links::Open() {
  nl_sock* socket = nl_socket_alloc();
  if (socket == nullptr) return NoMemory();
  const absl::Status connected = NlStatus(nl_connect(socket, NETLINK_ROUTE), "netlink: connect");
  if (!connected.ok()) {
    nl_socket_free(socket);
    return connected;
  }
  return std::unique_ptr<Links>(new Links(socket));
}

absl::StatusOr<std::unique_ptr<Links>> Links::OpenIn(int netns) {
  absl::StatusOr<std::unique_ptr<Links>> made;
  GANTRY_RETURN_IF_ERROR(InNetns(netns, [&made] {
    made = Open();
    return made.status();
  }));
  return made;
}

Links::~Links() { nl_socket_free(socket_); }

absl::StatusOr<LinkInfo> Links::Find(absl::string_view name) {
  absl::MutexLock lock(&mu_);
  return FindLocked(name);
}

absl::StatusOr<LinkInfo> Links::FindLocked(absl::string_view name) {
  GANTRY_RETURN_IF_ERROR(CheckName(name));
  rtnl_link* found = nullptr;
  GANTRY_RETURN_IF_ERROR(
      NlStatus(rtnl_link_get_kernel(socket_, 0, std::string(name).c_str(), &found),
               absl::StrCat("network device ", name)));
  const LinkPtr link(found);
  return InfoOf(link.get());
}

absl::StatusOr<std::vector<LinkInfo>> Links::List() {
  absl::MutexLock lock(&mu_);
  nl_cache* filled = nullptr;
  GANTRY_RETURN_IF_ERROR(
      NlStatus(rtnl_link_alloc_cache(socket_, AF_UNSPEC, &filled), "listing network devices"));
  const CachePtr cache(filled);
  std::vector<LinkInfo> all;
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object))
    all.push_back(InfoOf(reinterpret_cast<rtnl_link*>(object)));
  return all;
}

absl::StatusOr<std::vector<InterfaceAddress>> Links::Addresses(int index) {
  absl::MutexLock lock(&mu_);
  return AddressesLocked(index);
}

absl::StatusOr<std::vector<InterfaceAddress>> Links::AddressesLocked(int index) {
  nl_cache* filled = nullptr;
  GANTRY_RETURN_IF_ERROR(NlStatus(rtnl_addr_alloc_cache(socket_, &filled), "listing addresses"));
  const CachePtr cache(filled);
  std::vector<InterfaceAddress> all;
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object)) {
    auto* one = reinterpret_cast<rtnl_addr*>(object);
    if (rtnl_addr_get_ifindex(one) != index) continue;
    nl_addr* local = rtnl_addr_get_local(one);
    const std::optional<Address> address = FromNl(local);
    if (address.has_value()) {
      all.push_back({*address, static_cast<int>(nl_addr_get_prefixlen(local))});
    }
  }
  return all;
}

absl::Status Links::AddAddress(int index, const InterfaceAddress& one) {
  const AddressPtr address(rtnl_addr_alloc());
  const NlAddressPtr local = ToNl(one.address, one.length);
  if (address == nullptr || local == nullptr) return NoMemory();
  rtnl_addr_set_ifindex(address.get(), index);
  rtnl_addr_set_local(address.get(), local.get());
  if (one.address.family() == Family::kIpv4) {
    const NlAddressPtr broadcast = ToNl(Prefix::Around(one.address, one.length).last(), one.length);
    if (broadcast == nullptr) return NoMemory();
    if (one.length < 31) rtnl_addr_set_broadcast(address.get(), broadcast.get());
  } else {
    // We know that it is ours: without the second in which it may not be used.
    rtnl_addr_set_flags(address.get(), IFA_F_NODAD);
  }
  const absl::Status added =
      NlStatus(rtnl_addr_add(socket_, address.get(), 0),
               absl::StrCat("adding address ", one.address.ToString(), "/", one.length));
  return absl::IsAlreadyExists(added) ? absl::OkStatus() : added;
}

absl::Status Links::ChangeUp(int index, absl::string_view name) {
  const LinkPtr now(rtnl_link_alloc());
  const LinkPtr wanted(rtnl_link_alloc());
  if (now == nullptr || wanted == nullptr) return NoMemory();
  rtnl_link_set_ifindex(now.get(), index);
  rtnl_link_set_flags(wanted.get(), IFF_UP);
  return NlStatus(rtnl_link_change(socket_, now.get(), wanted.get(), 0),
                  absl::StrCat("bringing up network device ", name));
}

absl::Status Links::Adopt(int index, absl::string_view name, absl::string_view owner) {
  const LinkPtr now(rtnl_link_alloc());
  const LinkPtr wanted(rtnl_link_alloc());
  if (now == nullptr || wanted == nullptr) return NoMemory();
  rtnl_link_set_ifindex(now.get(), index);
  rtnl_link_set_ifalias(wanted.get(), absl::StrCat(kOurs, owner).c_str());
  rtnl_link_set_flags(wanted.get(), IFF_UP);
  return NlStatus(rtnl_link_change(socket_, now.get(), wanted.get(), 0),
                  absl::StrCat("bringing up ", name));
}

absl::Status Links::EnsureBridge(const BridgeSpec& spec) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<LinkInfo> found = FindLocked(spec.name);
  if (absl::IsNotFound(found.status())) {
    const LinkPtr bridge(rtnl_link_bridge_alloc());
    if (bridge == nullptr) return NoMemory();
    rtnl_link_set_name(bridge.get(), spec.name.c_str());
    // A bridge without an address of its own takes a port's, and changes it with its ports.
    const NlAddressPtr mac = ToNl(spec.mac.value_or(MacAddress::Random()));
    if (mac == nullptr) return NoMemory();
    rtnl_link_set_addr(bridge.get(), mac.get());
    if (spec.mtu != 0) rtnl_link_set_mtu(bridge.get(), spec.mtu);
    GANTRY_RETURN_IF_ERROR(NlStatus(rtnl_link_add(socket_, bridge.get(), NLM_F_CREATE | NLM_F_EXCL),
                                    absl::StrCat("making bridge ", spec.name)));
    found = FindLocked(spec.name);
    GANTRY_RETURN_IF_ERROR(found.status());
    const LinkPtr now(rtnl_link_alloc());
    const LinkPtr wanted(rtnl_link_alloc());
    if (now == nullptr || wanted == nullptr) return NoMemory();
    rtnl_link_set_ifindex(now.get(), found->index);
    rtnl_link_set_ifalias(wanted.get(), absl::StrCat(kOurs, spec.owner).c_str());
    GANTRY_RETURN_IF_ERROR(NlStatus(rtnl_link_change(socket_, now.get(), wanted.get(), 0),
                                    absl::StrCat("marking bridge ", spec.name)));
  }
  GANTRY_RETURN_IF_ERROR(found.status());
  if (found->kind != "bridge") {
    return absl::FailedPreconditionError(absl::StrCat(
        "existing interface ", spec.name, " is not a bridge; give the network another device"));
  }
  if (spec.mtu != 0 && found->mtu != spec.mtu) {
    const LinkPtr now(rtnl_link_alloc());
    const LinkPtr wanted(rtnl_link_alloc());
    if (now == nullptr || wanted == nullptr) return NoMemory();
    rtnl_link_set_ifindex(now.get(), found->index);
    rtnl_link_set_mtu(wanted.get(), spec.mtu);
    GANTRY_RETURN_IF_ERROR(NlStatus(rtnl_link_change(socket_, now.get(), wanted.get(), 0),
                                    absl::StrCat("setting the MTU of bridge ", spec.name)));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<InterfaceAddress> present,
                          AddressesLocked(found->index));
  for (const InterfaceAddress& one : present) {
    // The kernel's own link-local address stays.
    if (one.address.family() == Family::kIpv6 && one.address.number() >> 118 == 0x3fa) continue;
    if (std::find(spec.addresses.begin(), spec.addresses.end(), one) != spec.addresses.end())
      continue;
    const AddressPtr stale(rtnl_addr_alloc());
    const NlAddressPtr local = ToNl(one.address, one.length);
    if (stale == nullptr || local == nullptr) return NoMemory();
    rtnl_addr_set_ifindex(stale.get(), found->index);
    rtnl_addr_set_local(stale.get(), local.get());
    GANTRY_RETURN_IF_ERROR(NlStatus(
        rtnl_addr_delete(socket_, stale.get(), 0),
        absl::StrCat("removing address ", one.address.ToString(), " of bridge ", spec.name)));
  }
  for (const InterfaceAddress& one : spec.addresses)
    GANTRY_RETURN_IF_ERROR(AddAddress(found->index, one));
  return ChangeUp(found->index, spec.name);
}

absl::Status Links::MakeVeth(const VethSpec& spec, int netns) {
  GANTRY_RETURN_IF_ERROR(CheckName(spec.host_name));
  GANTRY_RETURN_IF_ERROR(CheckName(spec.container_name));
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo bridge, FindLocked(spec.bridge));
  const LinkPtr near(rtnl_link_veth_alloc());
  const NlAddressPtr mac = ToNl(spec.mac);
  if (near == nullptr || mac == nullptr) return NoMemory();
  rtnl_link_set_name(near.get(), spec.host_name.c_str());
  rtnl_link_set_master(near.get(), bridge.index);
  const LinkPtr far(rtnl_link_veth_get_peer(near.get()));
  rtnl_link_set_name(far.get(), spec.container_name.c_str());
  rtnl_link_set_ns_fd(far.get(), netns);
  rtnl_link_set_addr(far.get(), mac.get());
  if (spec.mtu != 0) {
    rtnl_link_set_mtu(near.get(), spec.mtu);
    rtnl_link_set_mtu(far.get(), spec.mtu);
  }
  GANTRY_RETURN_IF_ERROR(NlStatus(
      rtnl_link_add(socket_, near.get(), NLM_F_CREATE | NLM_F_EXCL),
      absl::StrCat("making network devices ", spec.host_name, " and ", spec.container_name)));
  const absl::Status ready = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(const LinkInfo made, FindLocked(spec.host_name));
    GANTRY_RETURN_IF_ERROR(Adopt(made.index, spec.host_name, spec.owner));
    return spec.hairpin ? LetSendBack(made.index, spec.host_name) : absl::OkStatus();
  }();
  if (!ready.ok()) {
    // Takes the far end with it.
    rtnl_link_delete(socket_, near.get());
  }
  return ready;
}

absl::Status Links::LetSendBack(int index, absl::string_view name) {
  const LinkPtr port(rtnl_link_bridge_alloc());
  if (port == nullptr) return NoMemory();
  rtnl_link_set_ifindex(port.get(), index);
  rtnl_link_set_family(port.get(), AF_BRIDGE);
  rtnl_link_bridge_set_flags(port.get(), RTNL_BRIDGE_HAIRPIN_MODE);
  return NlStatus(rtnl_link_change(socket_, port.get(), port.get(), 0),
                  absl::StrCat("letting ", name, " send back"));
}

absl::Status Links::Enslave(absl::string_view name, absl::string_view bridge, bool hairpin) {
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo master, FindLocked(bridge));
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo device, FindLocked(name));
  if (device.master != master.index) {
    GANTRY_RETURN_IF_ERROR(NlStatus(rtnl_link_enslave_ifindex(socket_, master.index, device.index),
                                    absl::StrCat("putting ", name, " into bridge ", bridge)));
  }
  return hairpin ? LetSendBack(device.index, name) : absl::OkStatus();
}

absl::Status Links::MakeStacked(const StackedSpec& spec, int netns) {
  GANTRY_RETURN_IF_ERROR(CheckName(spec.container_name));
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo parent, FindLocked(spec.parent));
  const bool macvlan = spec.kind == StackedSpec::Kind::kMacvlan;
  const LinkPtr link(macvlan ? rtnl_link_macvlan_alloc() : rtnl_link_ipvlan_alloc());
  if (link == nullptr) return NoMemory();
  const int mode = macvlan ? rtnl_link_macvlan_str2mode(spec.mode.c_str())
                           : rtnl_link_ipvlan_str2mode(spec.mode.c_str());
  if (mode < 0) {
    return absl::InvalidArgumentError(absl::StrCat("requested ", macvlan ? "macvlan" : "ipvlan",
                                                   " mode '", spec.mode, "' is not valid"));
  }
  rtnl_link_set_name(link.get(), spec.container_name.c_str());
  rtnl_link_set_link(link.get(), parent.index);
  rtnl_link_set_ns_fd(link.get(), netns);
  if (spec.mtu != 0) rtnl_link_set_mtu(link.get(), spec.mtu);
  if (spec.mac.has_value()) {
    const NlAddressPtr mac = ToNl(*spec.mac);
    if (mac == nullptr) return NoMemory();
    rtnl_link_set_addr(link.get(), mac.get());
  }
  GANTRY_RETURN_IF_ERROR(
      NlStatus(macvlan ? rtnl_link_macvlan_set_mode(link.get(), mode)
                       : rtnl_link_ipvlan_set_mode(link.get(), static_cast<uint16_t>(mode)),
               "setting the mode of a stacked device"));
  return NlStatus(rtnl_link_add(socket_, link.get(), NLM_F_CREATE | NLM_F_EXCL),
                  absl::StrCat("making network device ", spec.container_name, " on ", spec.parent));
}

absl::Status Links::EnsureWire(absl::string_view name, absl::string_view far_name,
                               absl::string_view owner) {
  GANTRY_RETURN_IF_ERROR(CheckName(name));
  GANTRY_RETURN_IF_ERROR(CheckName(far_name));
  absl::MutexLock lock(&mu_);
  absl::StatusOr<LinkInfo> near = FindLocked(name);
  if (absl::IsNotFound(near.status())) {
    const LinkPtr pair(rtnl_link_veth_alloc());
    if (pair == nullptr) return NoMemory();
    rtnl_link_set_name(pair.get(), std::string(name).c_str());
    const LinkPtr peer(rtnl_link_veth_get_peer(pair.get()));
    rtnl_link_set_name(peer.get(), std::string(far_name).c_str());
    GANTRY_RETURN_IF_ERROR(NlStatus(rtnl_link_add(socket_, pair.get(), NLM_F_CREATE | NLM_F_EXCL),
                                    absl::StrCat("making network device ", name)));
    near = FindLocked(name);
  }
  GANTRY_RETURN_IF_ERROR(near.status());
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo far, FindLocked(far_name));
  GANTRY_RETURN_IF_ERROR(Adopt(far.index, far_name, owner));
  return Adopt(near->index, name, owner);
}

absl::Status Links::EnsureVlan(absl::string_view name, absl::string_view parent, int vlan,
                               absl::string_view owner) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<LinkInfo> found = FindLocked(name);
  if (absl::IsNotFound(found.status())) {
    GANTRY_ASSIGN_OR_RETURN(const LinkInfo below, FindLocked(parent));
    const LinkPtr link(rtnl_link_vlan_alloc());
    if (link == nullptr) return NoMemory();
    rtnl_link_set_name(link.get(), std::string(name).c_str());
    rtnl_link_set_link(link.get(), below.index);
    GANTRY_RETURN_IF_ERROR(
        NlStatus(rtnl_link_vlan_set_id(link.get(), static_cast<uint16_t>(vlan)), "VLAN's number"));
    GANTRY_RETURN_IF_ERROR(NlStatus(rtnl_link_add(socket_, link.get(), NLM_F_CREATE | NLM_F_EXCL),
                                    absl::StrCat("making network device ", name)));
    found = FindLocked(name);
  }
  GANTRY_RETURN_IF_ERROR(found.status());
  return Adopt(found->index, name, owner);
}

absl::Status Links::Configure(absl::string_view name,
                              const std::vector<InterfaceAddress>& addresses) {
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo link, FindLocked(name));
  for (const InterfaceAddress& one : addresses) GANTRY_RETURN_IF_ERROR(AddAddress(link.index, one));
  return ChangeUp(link.index, name);
}

absl::Status Links::SetUp(absl::string_view name) {
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo link, FindLocked(name));
  return ChangeUp(link.index, name);
}

absl::Status Links::SetDefaultRoute(const Address& gateway) {
  const RoutePtr route = DefaultRoute(gateway.family());
  const NlAddressPtr via = ToNl(gateway, gateway.bits());
  rtnl_nexthop* hop = rtnl_route_nh_alloc();
  if (route == nullptr || via == nullptr || hop == nullptr) return NoMemory();
  rtnl_route_nh_set_gateway(hop, via.get());
  rtnl_route_add_nexthop(route.get(), hop);  // the route's from here on
  // IPv6 would put a second route beside the one that is there.
  if (gateway.family() == Family::kIpv6) {
    GANTRY_RETURN_IF_ERROR(RemoveDefaultRoute(gateway.family()));
  }
  absl::MutexLock lock(&mu_);
  return NlStatus(rtnl_route_add(socket_, route.get(), NLM_F_REPLACE),
                  absl::StrCat("default route by ", gateway.ToString()));
}

absl::Status Links::SetDefaultRouteBy(absl::string_view device, Family family) {
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo link, Find(device));
  const RoutePtr route = DefaultRoute(family);
  rtnl_nexthop* hop = rtnl_route_nh_alloc();
  if (route == nullptr || hop == nullptr) return NoMemory();
  rtnl_route_set_scope(route.get(), RT_SCOPE_LINK);
  rtnl_route_nh_set_ifindex(hop, link.index);
  rtnl_route_add_nexthop(route.get(), hop);
  if (family == Family::kIpv6) GANTRY_RETURN_IF_ERROR(RemoveDefaultRoute(family));
  absl::MutexLock lock(&mu_);
  return NlStatus(rtnl_route_add(socket_, route.get(), NLM_F_REPLACE),
                  absl::StrCat("default route by ", device));
}

absl::Status Links::RemoveDefaultRoute(Family family) {
  const RoutePtr route = DefaultRoute(family);
  if (route == nullptr) return NoMemory();
  // Any scope and any router.
  rtnl_route_set_scope(route.get(), RT_SCOPE_NOWHERE);
  absl::MutexLock lock(&mu_);
  const int result = rtnl_route_delete(socket_, route.get(), 0);
  if (result == -NLE_OBJ_NOTFOUND || result == -NLE_SEQ_MISMATCH) return absl::OkStatus();
  // ESRCH, for which libnl has no number of its own: there is no such route.
  if (result == -NLE_FAILURE || result == -NLE_NODEV) return absl::OkStatus();
  return NlStatus(result, "removing the default route");
}

absl::Status Links::SetNeighbour(int index, const Address& address, const MacAddress& mac) {
  const NeighbourPtr entry(rtnl_neigh_alloc());
  const NlAddressPtr to = ToNl(address, address.bits());
  const NlAddressPtr at = ToNl(mac);
  if (entry == nullptr || to == nullptr || at == nullptr) return NoMemory();
  rtnl_neigh_set_ifindex(entry.get(), index);
  rtnl_neigh_set_dst(entry.get(), to.get());
  rtnl_neigh_set_lladdr(entry.get(), at.get());
  rtnl_neigh_set_state(entry.get(), NUD_STALE);
  absl::MutexLock lock(&mu_);
  // Without NLM_F_CREATE: an entry that is not there need not be made.
  const absl::Status set = NlStatus(rtnl_neigh_add(socket_, entry.get(), NLM_F_REPLACE),
                                    absl::StrCat("neighbour entry of ", address.ToString()));
  return absl::IsNotFound(set) ? absl::OkStatus() : set;
}

absl::Status Links::SetIpvlanFlag(absl::string_view name, absl::string_view flag) {
  uint16_t bits = 0;
  if (flag == "private") {
    bits = IPVLAN_F_PRIVATE;
  } else if (flag == "vepa") {
    bits = IPVLAN_F_VEPA;
  } else if (flag != "bridge") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", flag, "\" is not bridge, private or vepa"));
  }
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(const LinkInfo link, FindLocked(name));
  // libnl has no call for it.
  const MessagePtr message(nlmsg_alloc_simple(RTM_NEWLINK, 0));
  if (message == nullptr) return NoMemory();
  ifinfomsg head = {};
  head.ifi_index = link.index;
  if (nlmsg_append(message.get(), &head, sizeof head, NLMSG_ALIGNTO) != 0) return NoMemory();
  nlattr* const info = nla_nest_start(message.get(), IFLA_LINKINFO);
  if (info == nullptr || nla_put_string(message.get(), IFLA_INFO_KIND, "ipvlan") != 0)
    return NoMemory();
  nlattr* const data = nla_nest_start(message.get(), IFLA_INFO_DATA);
  if (data == nullptr || nla_put_u16(message.get(), IFLA_IPVLAN_FLAGS, bits) != 0)
    return NoMemory();
  nla_nest_end(message.get(), data);
  nla_nest_end(message.get(), info);
  nl_complete_msg(socket_, message.get());
  int result = nl_send(socket_, message.get());
  if (result >= 0) result = nl_wait_for_ack(socket_);
  return NlStatus(result, absl::StrCat("setting ipvlan_flag ", flag, " of ", name));
}

absl::Status Links::Delete(absl::string_view name) {
  absl::MutexLock lock(&mu_);
  const LinkPtr link(rtnl_link_alloc());
  if (link == nullptr) return NoMemory();
  rtnl_link_set_name(link.get(), std::string(name).c_str());
  const absl::Status deleted = NlStatus(rtnl_link_delete(socket_, link.get()),
                                        absl::StrCat("removing network device ", name));
  return absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
}

absl::StatusOr<std::vector<TakenBlock>> Links::RoutedBlocks() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<LinkInfo> links, List());
  absl::MutexLock lock(&mu_);
  nl_cache* filled = nullptr;
  GANTRY_RETURN_IF_ERROR(
      NlStatus(rtnl_route_alloc_cache(socket_, AF_UNSPEC, 0, &filled), "listing routes"));
  const CachePtr cache(filled);
  std::vector<TakenBlock> blocks;
  for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr;
       object = nl_cache_get_next(object)) {
    auto* route = reinterpret_cast<rtnl_route*>(object);
    if (rtnl_route_get_table(route) != RT_TABLE_MAIN || rtnl_route_get_nnexthops(route) == 0)
      continue;
    rtnl_nexthop* hop = rtnl_route_nexthop_n(route, 0);
    if (rtnl_route_nh_get_gateway(hop) != nullptr) continue;
    nl_addr* to = rtnl_route_get_dst(route);
    const std::optional<Address> first = FromNl(to);
    if (!first.has_value() || nl_addr_get_prefixlen(to) == 0) continue;
    const int index = rtnl_route_nh_get_ifindex(hop);
    const auto link = std::find_if(links.begin(), links.end(),
                                   [index](const LinkInfo& one) { return one.index == index; });
    blocks.push_back({Prefix::Around(*first, static_cast<int>(nl_addr_get_prefixlen(to))),
                      absl::StrCat("route by ", link == links.end() ? "a device" : link->name)});
  }
  return blocks;
}

}  // namespace gantry::network
