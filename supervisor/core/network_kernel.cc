#include "supervisor/core/network_kernel.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/core/network_records.h"
#include "supervisor/network/netns.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetns;
using metadata::StoredNetwork;
using network::Family;

// A walk through the connections takes milliseconds on a host that may have many.
constexpr absl::Duration kBetweenWalks = absl::Seconds(1);

absl::Status WriteSysctl(const std::string& name, absl::string_view value) {
  const std::string path = absl::StrCat("/proc/sys/net/", name);
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || write(fd.get(), value.data(), value.size()) < 0)
    return ErrnoToStatus(errno, absl::StrCat("setting net/", name));
  return absl::OkStatus();
}

// What the container's device may send into the bridge.
network::BridgePort BridgePortOf(network::Links& links, const StoredNetwork& network,
                                 const record::v1::NetworkEndpoint& place) {
  network::BridgePort port;
  port.device = place.host_device();
  port.mac = network::MacAddress::Parse(place.mac_address()).value_or(network::MacAddress());
  for (const network::InterfaceAddress& one : AddressesOf(place))
    port.addresses.push_back(one.address);
  for (const std::string& text : place.link_local_addresses()) {
    if (absl::StatusOr<network::Address> address = network::Address::Parse(text); address.ok())
      port.addresses.push_back(*address);
  }
  port.check_sources = IsOn(network.record.options(), kCheckSourcesOption, true);
  port.between = IsOn(network.record.options(), kBetweenOption, true);
  if (!port.between) {
    const absl::StatusOr<network::LinkInfo> bridge = links.Find(network.settings.device());
    if (bridge.ok()) port.gateway = bridge->mac;
  }
  return port;
}

// Follows from the network, so that containers remember the right one of a bridge that is made
// anew.
network::MacAddress BridgeMac(const StoredNetwork& network) {
  network::MacAddress::Bytes bytes = {0x06};  // locally administered
  const std::string id = absl::HexStringToBytes(network.record.id().substr(0, 10));
  std::copy_n(id.begin(), std::min<size_t>(id.size(), 5), bytes.begin() + 1);
  return network::MacAddress(bytes);
}

bool HasIpv6(const std::vector<network::InterfaceAddress>& addresses) {
  return std::any_of(addresses.begin(), addresses.end(), [](const network::InterfaceAddress& one) {
    return one.address.family() == Family::kIpv6;
  });
}

bool IsBridge(const StoredNetwork& network) {
  return network.record.driver() == "bridge" && !network.settings.configuration_only();
}

}  // namespace

NetworkKernel::NetworkKernel(metadata::NetworkStore* store, const std::string& state_directory,
                             Executor* later, int host_netns)
    : store_(store),
      table_(network::TableName(state_directory)),
      later_(later),
      host_netns_(host_netns) {
  if (later != nullptr) delayed_.emplace(Clock::Real(), *later);
}

absl::StatusOr<NetworkKernel::Sockets*> NetworkKernel::Open() {
  {
    absl::MutexLock lock(&mu_);
    if (sockets_ != nullptr) return sockets_.get();
  }
  // Once: a second Firewall would write rules that the first has changed meanwhile.
  absl::MutexLock opening(&opening_);
  {
    absl::MutexLock lock(&mu_);
    if (sockets_ != nullptr) return sockets_.get();
  }
  auto opened = std::make_unique<Sockets>();
  if (host_netns_ >= 0) {
    GANTRY_ASSIGN_OR_RETURN(opened->links, network::Links::OpenIn(host_netns_));
    GANTRY_ASSIGN_OR_RETURN(opened->removals, network::Links::OpenIn(host_netns_));
    GANTRY_ASSIGN_OR_RETURN(opened->firewall, network::Firewall::OpenIn(host_netns_, table_));
    GANTRY_ASSIGN_OR_RETURN(opened->announcer, network::Announcer::OpenIn(host_netns_));
    GANTRY_ASSIGN_OR_RETURN(opened->connections, network::Connections::OpenIn(host_netns_));
  } else {
    GANTRY_ASSIGN_OR_RETURN(opened->links, network::Links::Open());
    GANTRY_ASSIGN_OR_RETURN(opened->removals, network::Links::Open());
    GANTRY_ASSIGN_OR_RETURN(opened->firewall, network::Firewall::Open(table_));
    GANTRY_ASSIGN_OR_RETURN(opened->announcer, network::Announcer::Open());
    GANTRY_ASSIGN_OR_RETURN(opened->connections, network::Connections::Open());
  }
  GANTRY_RETURN_IF_ERROR(WriteRules(*opened));
  GANTRY_ASSIGN_OR_RETURN(opened->guard, network::RulesGuard::Start(*opened->firewall));
  const auto deleted = [this, raw = opened.get()](const std::string& device) {
    DeviceDeleted(*raw, device);
  };
  if (host_netns_ >= 0) {
    GANTRY_ASSIGN_OR_RETURN(opened->link_guard, network::LinkGuard::StartIn(host_netns_, deleted));
  } else {
    GANTRY_ASSIGN_OR_RETURN(opened->link_guard, network::LinkGuard::Start(deleted));
  }
  absl::MutexLock lock(&mu_);
  sockets_ = std::move(opened);
  return sockets_.get();
}

std::vector<std::string> NetworkKernel::ForwardDrops() {
  Sockets* sockets;
  {
    absl::MutexLock lock(&mu_);
    sockets = sockets_.get();  // stays once it is there
  }
  if (sockets == nullptr) return {};
  absl::StatusOr<std::vector<std::string>> drops = sockets->firewall->ForwardDrops();
  return drops.ok() ? *std::move(drops) : std::vector<std::string>();
}

absl::Status NetworkKernel::WriteRules() {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  return WriteRules(*sockets);
}

absl::Status NetworkKernel::WriteRules(Sockets& sockets) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> networks, store_->List(""));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> places, store_->AllEndpoints());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetns> namespaces, store_->AllNetns());
  std::vector<network::FirewallNetwork> rules;
  std::vector<network::BridgeLink> links;
  std::map<std::string, const StoredNetwork*> by_id;
  for (const StoredNetwork& one : networks) {
    if (!IsBridge(one)) continue;
    rules.push_back(RulesOf(one));
    by_id.emplace(one.record.id(), &one);
    if (IsOn(one.record.options(), kBetweenOption, true)) continue;
    std::vector<StoredEndpoint> its;
    for (const StoredEndpoint& place : places) {
      if (place.network_id == one.record.id()) its.push_back(place);
    }
    const absl::StatusOr<std::vector<network::BridgeLink>> among = LinksAmong(one, its, "");
    LOG_IF(ERROR, !among.ok()) << "network " << one.record.name() << ": " << among.status();
    if (among.ok()) links.insert(links.end(), among->begin(), among->end());
  }
  std::map<std::pair<std::string, std::string>, std::vector<StoredEndpoint>> by_container;
  std::vector<network::BridgePort> bridge_ports;
  for (const StoredEndpoint& one : places) {
    by_container[{one.ns, one.record.container_id()}].push_back(one);
    if (const auto network = by_id.find(one.network_id); network != by_id.end())
      bridge_ports.push_back(BridgePortOf(*sockets.links, *network->second, one.record));
  }
  std::vector<network::PublishedPort> ports;
  for (const StoredNetns& one : namespaces) {
    const std::vector<network::PublishedPort> its =
        PortsOf(one.record, by_container[{one.ns, one.record.container_id()}]);
    ports.insert(ports.end(), its.begin(), its.end());
  }
  return sockets.firewall->Replace(rules, ports, bridge_ports, links);
}

absl::StatusOr<std::vector<network::TakenBlock>> NetworkKernel::RoutedBlocks() {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  return sockets->links->RoutedBlocks();
}

absl::StatusOr<bool> NetworkKernel::HasDevice(absl::string_view name) {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  const absl::Status found = sockets->links->Find(name).status();
  if (absl::IsNotFound(found)) return false;
  GANTRY_RETURN_IF_ERROR(found);
  return true;
}

absl::Status NetworkKernel::MakeNetwork(const StoredNetwork& network) {
  if (network.settings.configuration_only()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  if (!IsBridge(network)) return MakeParent(*sockets, network);
  GANTRY_RETURN_IF_ERROR(MakeBridge(*sockets, network));
  const absl::Status ruled = sockets->firewall->AddNetwork(RulesOf(network));
  return absl::IsAlreadyExists(ruled) ? absl::OkStatus() : ruled;
}

absl::Status NetworkKernel::MakeBridge(Sockets& sockets, const StoredNetwork& network) {
  network::BridgeSpec bridge;
  bridge.name = network.settings.device();
  bridge.owner = absl::StrCat("network ", network.record.id());
  for (const auto& recorded : network.settings.pools()) {
    const network::Pool pool = PoolOf(recorded);
    if (!pool.gateway.has_value()) continue;
    // The address is then another router's, on a wire that is in the bridge as well.
    if (pool.subnet.family() == Family::kIpv4 &&
        IsOn(network.record.options(), kInhibitOption, false))
      continue;
    if (ModeOf(network, pool.subnet.family()) == network::GatewayMode::kIsolated) continue;
    bridge.addresses.push_back({*pool.gateway, pool.subnet.length()});
  }
  bridge.mtu = MtuOf(network);
  bridge.mac = BridgeMac(network);
  GANTRY_RETURN_IF_ERROR(sockets.links->EnsureBridge(bridge));
  const auto sysctls = [&]() -> absl::Status {
    if (ReadFile("/proc/sys/net/ipv4/ip_forward", 8).value_or("") != "1\n") {
      GANTRY_RETURN_IF_ERROR(WriteSysctl("ipv4/ip_forward", "1"));
      LOG(INFO) << "net.ipv4.ip_forward is 1 from now on, because of network "
                << network.record.name() << "; this host forwards for others what its rules let";
    }
    // A connection to the host's 127.0.0.1 goes on to a container.
    GANTRY_RETURN_IF_ERROR(
        WriteSysctl(absl::StrCat("ipv4/conf/", bridge.name, "/route_localnet"), "1"));
    // A host without IPv6 has no such files.
    (void)WriteSysctl(absl::StrCat("ipv6/conf/", bridge.name, "/accept_ra"), "0");
    // Not a link-local one either.
    if (ModeOf(network, Family::kIpv6) == network::GatewayMode::kIsolated)
      SetIpv6(bridge.name, false);
    return network.settings.ipv6() ? WriteSysctl("ipv6/conf/all/forwarding", "1")
                                   : absl::OkStatus();
  };
  return host_netns_ >= 0 ? network::InNetns(host_netns_, sysctls) : sysctls();
}

absl::Status NetworkKernel::MendBridge(Sockets& sockets, const StoredNetwork& network) {
  absl::MutexLock lock(&mending_);
  const std::string& device = network.settings.device();
  const absl::Status found = sockets.links->Find(device).status();
  if (!absl::IsNotFound(found)) return found;  // the other of the two was first
  GANTRY_RETURN_IF_ERROR(MakeBridge(sockets, network));
  // The network may have been removed, and its device looked for, before it was there again.
  if (absl::IsNotFound(store_->Find({network.ns, ""}, network.record.id()).status()))
    return sockets.links->Delete(device);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> places, store_->Endpoints(network));
  int back = 0;
  for (const StoredEndpoint& one : places) {
    const absl::Status enslaved =
        sockets.links->Enslave(one.record.host_device(), device, /*hairpin=*/true);
    if (enslaved.ok()) ++back;
    // One that is coming or going has no device at this moment.
    LOG_IF(ERROR, !enslaved.ok() && !absl::IsNotFound(enslaved))
        << "ns=" << one.ns << " id=" << one.record.container_id() << " " << enslaved;
  }
  LOG(WARNING) << "another program deleted bridge " << device << " of network "
               << network.record.name() << "; it was made anew, with " << back << " containers";
  // They name the bridge's own MAC address, where containers may not reach each other.
  return IsOn(network.record.options(), kBetweenOption, true) ? absl::OkStatus()
                                                              : WriteRules(sockets);
}

void NetworkKernel::DeviceDeleted(Sockets& sockets, const std::string& device) {
  // Containers', which come and go all the time.
  if (absl::StartsWith(device, "veth") && device.size() == 11) return;
  const absl::StatusOr<std::vector<StoredNetwork>> networks = store_->List("");
  if (!networks.ok()) {
    LOG(ERROR) << "device " << device << " was deleted: " << networks.status();
    return;
  }
  for (const StoredNetwork& one : *networks) {
    if (!IsBridge(one) || (!device.empty() && one.settings.device() != device)) continue;
    const absl::Status mended = MendBridge(sockets, one);
    LOG_IF(ERROR, !mended.ok()) << "bridge " << one.settings.device() << " of network "
                                << one.record.name() << " is not there: " << mended;
  }
}

absl::Status NetworkKernel::MakeParent(Sockets& sockets, const StoredNetwork& network) {
  const std::string& device = network.settings.device();
  const std::string owner = absl::StrCat("network ", network.record.id());
  if (!network.settings.device_is_ours()) return sockets.links->Find(device).status();
  const std::string parent = OptionOf(network.record.options(), kParentOption);
  if (parent.empty()) {
    // Without a device of the host below it the network is a wire of its own.
    return sockets.links->EnsureWire(device, absl::StrCat("dp-", network.record.id().substr(0, 12)),
                                     owner);
  }
  const size_t dot = parent.rfind('.');
  int vlan = 0;
  if (dot == std::string::npos || !absl::SimpleAtoi(parent.substr(dot + 1), &vlan))
    return absl::InternalError(absl::StrCat("parent ", parent, " is not a VLAN's"));
  return sockets.links->EnsureVlan(device, parent.substr(0, dot), vlan, owner);
}

absl::Status NetworkKernel::RemoveNetwork(const StoredNetwork& network) {
  if (network.settings.configuration_only()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  absl::Status gone;
  if (IsBridge(network)) {
    gone = sockets->firewall->RemoveNetwork(RulesOf(network));
    if (absl::IsNotFound(gone)) gone = absl::OkStatus();
  }
  if (network.settings.device_is_ours())
    gone.Update(sockets->links->Delete(network.settings.device()));
  return gone;
}

absl::Status NetworkKernel::MakePlace(const StoredNetwork& network, const StoredEndpoint& place,
                                      const OpenNetns& netns,
                                      const std::vector<network::PublishedPort>& ports) {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  const record::v1::NetworkEndpoint& record = place.record;
  std::optional<network::MacAddress> mac;
  if (!record.mac_address().empty()) {
    GANTRY_ASSIGN_OR_RETURN(mac, network::MacAddress::Parse(record.mac_address()));
  }
  if (IsBridge(network)) {
    network::VethSpec veth;
    veth.host_name = record.host_device();
    veth.owner = absl::StrCat("endpoint ", record.container_id());
    veth.bridge = network.settings.device();
    veth.container_name = record.container_device();
    veth.mac = mac.value_or(network::MacAddress());
    veth.hairpin = true;
    veth.mtu = MtuOf(network);
    std::vector<network::BridgeLink> links;
    if (!IsOn(network.record.options(), kBetweenOption, true)) {
      GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> all, store_->Endpoints(network));
      GANTRY_ASSIGN_OR_RETURN(links, LinksAmong(network, all, record.container_id()));
    }
    // The rules come before the device: none is without them.
    GANTRY_RETURN_IF_ERROR(
        sockets->firewall->Join(BridgePortOf(*sockets->links, network, record), ports, links));
    absl::Status made = sockets->links->MakeVeth(veth, netns.fd.get());
    if (absl::IsNotFound(made)) {
      made = MendBridge(*sockets, network);
      if (made.ok()) made = sockets->links->MakeVeth(veth, netns.fd.get());
    }
    if (!made.ok()) {
      const absl::Status undone = sockets->firewall->Leave(record.host_device(), {});
      LOG_IF(ERROR, !undone.ok()) << "ns=" << place.ns << " id=" << record.container_id() << " "
                                  << undone;
      return made;
    }
  } else {
    network::StackedSpec stacked;
    const bool macvlan = network.record.driver() == "macvlan";
    stacked.kind =
        macvlan ? network::StackedSpec::Kind::kMacvlan : network::StackedSpec::Kind::kIpvlan;
    stacked.mode =
        OptionOf(network.record.options(), macvlan ? kMacvlanModeOption : kIpvlanModeOption);
    if (stacked.mode.empty()) stacked.mode = macvlan ? "bridge" : "l2";
    stacked.parent = network.settings.device();
    stacked.container_name = record.container_device();
    stacked.mac = mac;
    stacked.mtu = MtuOf(network);
    GANTRY_RETURN_IF_ERROR(sockets->links->MakeStacked(stacked, netns.fd.get()));
  }
  const absl::Status ready = [&]() -> absl::Status {
    std::vector<network::InterfaceAddress> addresses = AddressesOf(record);
    for (const std::string& text : record.link_local_addresses()) {
      GANTRY_ASSIGN_OR_RETURN(const network::Address address, network::Address::Parse(text));
      addresses.push_back({address, address.family() == Family::kIpv4 ? 16 : 64});
    }
    GANTRY_ASSIGN_OR_RETURN(const std::vector<DeviceSetting> settings, SettingsOf(record));
    if (HasIpv6(addresses) || !settings.empty()) {
      GANTRY_RETURN_IF_ERROR(network::InNetns(netns.fd.get(), [&]() -> absl::Status {
        if (HasIpv6(addresses)) SetIpv6(record.container_device(), true);
        for (const DeviceSetting& one : settings) {
          absl::string_view name = one.path;
          absl::ConsumePrefix(&name, "net/");
          GANTRY_RETURN_IF_ERROR(WriteSysctl(std::string(name), one.value));
        }
        return absl::OkStatus();
      }));
    }
    GANTRY_RETURN_IF_ERROR(netns.inside->Configure(record.container_device(), addresses));
    const std::string flag = OptionOf(network.record.options(), kIpvlanFlagOption);
    return flag.empty() ? absl::OkStatus()
                        : netns.inside->SetIpvlanFlag(record.container_device(), flag);
  }();
  if (!ready.ok()) {
    const absl::Status undone = RemovePlace(place, netns);
    LOG_IF(ERROR, !undone.ok()) << "ns=" << place.ns << " id=" << record.container_id() << " "
                                << undone;
    return ready;
  }
  ForgetConnectionsSoon(ports, {});
  if (const absl::Status announced = Announce(*sockets, network, place, netns); !announced.ok())
    LOG(WARNING) << "ns=" << place.ns << " id=" << record.container_id() << " " << announced;
  return ready;
}

absl::Status NetworkKernel::Announce(Sockets& sockets, const StoredNetwork& network,
                                     const StoredEndpoint& place, const OpenNetns& netns) {
  const auto& options = network.record.options();
  const std::vector<network::InterfaceAddress> addresses = AddressesOf(place.record);
  const std::string mode = OptionOf(options, kIpvlanModeOption);
  if (addresses.empty() || mode == "l3" || mode == "l3s") return absl::OkStatus();
  network::Announcement announcement;
  if (place.record.mac_address().empty()) {
    GANTRY_ASSIGN_OR_RETURN(const network::LinkInfo link,
                            netns.inside->Find(place.record.container_device()));
    announcement.mac = link.mac;
  } else {
    GANTRY_ASSIGN_OR_RETURN(announcement.mac,
                            network::MacAddress::Parse(place.record.mac_address()));
  }
  const std::string times = OptionOf(options, kAnnounceTimesOption);
  // Neighbours that remember a MAC address which follows from the address remember the right one.
  if (times.empty() && announcement.mac == MacOf(addresses.front().address))
    return absl::OkStatus();
  int64_t milliseconds = 0;
  (void)absl::SimpleAtoi(times, &announcement.times);  // checked when the network was made
  if (absl::SimpleAtoi(OptionOf(options, kAnnounceMillisecondsOption), &milliseconds))
    announcement.interval = absl::Milliseconds(milliseconds);
  GANTRY_ASSIGN_OR_RETURN(const network::LinkInfo device,
                          sockets.links->Find(network.settings.device()));
  announcement.device = device.index;
  for (const network::InterfaceAddress& one : addresses) {
    announcement.addresses.push_back(one.address);
    if (!IsBridge(network)) continue;
    GANTRY_RETURN_IF_ERROR(
        sockets.links->SetNeighbour(device.index, one.address, announcement.mac));
  }
  return sockets.announcer->Announce(EndpointId(place), std::move(announcement));
}

absl::Status NetworkKernel::RemovePlace(const StoredEndpoint& place, const OpenNetns& netns) {
  GANTRY_RETURN_IF_ERROR(ForgetAnnouncement(place));
  if (!place.record.host_device().empty()) return RemovePair(place.record.host_device());
  return netns.inside->Delete(place.record.container_device());
}

absl::Status NetworkKernel::ForgetAnnouncement(const StoredEndpoint& place) {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  sockets->announcer->Forget(EndpointId(place));
  return absl::OkStatus();
}

void NetworkKernel::RemovePlaceSoon(const StoredEndpoint& place) {
  if (const absl::Status forgotten = ForgetAnnouncement(place); !forgotten.ok())
    LOG(ERROR) << "ns=" << place.ns << " id=" << place.record.container_id() << " " << forgotten;
  if (place.record.host_device().empty()) return;
  const auto work = [this, device = place.record.host_device(), ns = place.ns,
                     id = place.record.container_id()] {
    const absl::Status gone = RemovePair(device);
    LOG_IF(ERROR, !gone.ok()) << "ns=" << ns << " id=" << id << " removing " << device << ": "
                              << gone;
  };
  if (later_ == nullptr || !later_->Schedule(work)) work();
}

absl::Status NetworkKernel::RemovePair(const std::string& host_device) {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  // The near end takes the far end with it. It goes before its rules: none is without them.
  GANTRY_RETURN_IF_ERROR(sockets->removals->Delete(host_device));
  return sockets->firewall->Leave(host_device, {});
}

void NetworkKernel::SetIpv6(absl::string_view device, bool on) {
  // A kernel without IPv6 has no such file, and is as it should be.
  (void)WriteSysctl(absl::StrCat("ipv6/conf/", device, "/disable_ipv6"), on ? "0" : "1");
}

absl::Status NetworkKernel::SetGateway(const OpenNetns& netns, Family family,
                                       const std::optional<Gateway>& gateway) {
  if (!gateway.has_value()) return netns.inside->RemoveDefaultRoute(family);
  if (gateway->address.has_value()) return netns.inside->SetDefaultRoute(*gateway->address);
  return netns.inside->SetDefaultRouteBy(gateway->device, family);
}

absl::Status NetworkKernel::Publish(const std::vector<network::PublishedPort>& ports) {
  if (ports.empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  GANTRY_RETURN_IF_ERROR(sockets->firewall->Publish(ports));
  ForgetConnectionsSoon(ports, {});
  return absl::OkStatus();
}

void NetworkKernel::ForgetConnectionsSoon(const std::vector<network::PublishedPort>& opened,
                                          const std::vector<network::PublishedPort>& closed) {
  absl::Duration delay;
  {
    absl::MutexLock lock(&mu_);
    const bool due = !opened_.empty() || !closed_.empty();
    for (const network::PublishedPort& port : opened) {
      // A client of TCP that was refused begins anew by itself.
      if (port.protocol != network::Protocol::kTcp && !port.opened) opened_.push_back(port);
    }
    for (const network::PublishedPort& port : closed) {
      if (!port.opened) closed_.push_back(port);
    }
    if (due || (opened_.empty() && closed_.empty())) return;
    delay = std::max(walked_ + kBetweenWalks - Clock::Real().Monotonic(), absl::ZeroDuration());
  }
  const auto work = [this] {
    const absl::Status forgotten = ForgetConnections();
    LOG_IF(WARNING, !forgotten.ok()) << "connections over ports that were closed: " << forgotten;
  };
  if (delayed_.has_value()) {
    delayed_->At(delay, work);
  } else {
    work();
  }
}

absl::Status NetworkKernel::ForgetConnections() {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  std::vector<network::PublishedPort> opened;
  std::vector<network::PublishedPort> closed;
  {
    absl::MutexLock lock(&mu_);
    opened.swap(opened_);
    closed.swap(closed_);
    walked_ = Clock::Real().Monotonic();
  }
  return sockets->connections
      ->Forget([&](const network::Connection& one) {
        return std::any_of(opened.begin(), opened.end(),
                           [&one](const auto& port) { return GoesAstray(one, port); }) ||
               std::any_of(closed.begin(), closed.end(),
                           [&one](const auto& port) { return GoesThrough(one, port); });
      })
      .status();
}

absl::Status NetworkKernel::Unpublish(const std::vector<network::PublishedPort>& ports) {
  if (ports.empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  // One transaction when all are there, as they are but after a crash.
  const absl::Cleanup forget = [&] { ForgetConnectionsSoon({}, ports); };
  const absl::Status together = sockets->firewall->Unpublish(ports);
  if (!absl::IsNotFound(together)) return together;
  for (const network::PublishedPort& port : ports) {
    const absl::Status closed = sockets->firewall->Unpublish({port});
    if (!closed.ok() && !absl::IsNotFound(closed)) return closed;
  }
  return absl::OkStatus();
}

absl::Status NetworkKernel::RemoveStrays(const std::vector<std::string>& kept) {
  GANTRY_ASSIGN_OR_RETURN(Sockets* const sockets, Open());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<network::LinkInfo> links, sockets->links->List());
  for (const network::LinkInfo& link : links) {
    if (!absl::StartsWith(link.alias, absl::StrCat(network::kOurs, "endpoint ")) ||
        std::find(kept.begin(), kept.end(), link.name) != kept.end())
      continue;
    const absl::Status gone = sockets->links->Delete(link.name);
    LOG(INFO) << "network device " << link.name << " of a container that is not there: " << gone;
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
