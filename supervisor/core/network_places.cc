#include "supervisor/core/network_places.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/event.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_records.h"
#include "supervisor/core/network_service.h"
#include "supervisor/core/port_choice.h"
#include "supervisor/core/port_forwards.h"
#include "supervisor/network/netns.h"
#include "supervisor/network/owned_netns.h"

namespace gantry::core {

using metadata::StoredEndpoint;
using metadata::StoredNetns;
using metadata::StoredNetwork;
using network::Address;
using network::Family;

namespace {

std::string UserNamespacePath(absl::string_view netns) { return absl::StrCat(netns, ".user"); }

// A mount keeps a namespace for as long as the container has it, whatever becomes of us.
absl::Status Keep(int ns, const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoToStatus(errno, path);
  const std::string source = absl::StrCat("/proc/self/fd/", ns);
  if (mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return ErrnoToStatus(errno, absl::StrCat("keeping the namespace ", path));
  return absl::OkStatus();
}

}  // namespace

std::string NetworkPlaces::NetnsPath(absl::string_view ns, absl::string_view container_id) const {
  return absl::StrCat(parts_.state_directory, "/netns/", ns, "/", container_id);
}

absl::Status NetworkPlaces::Making::Wait() {
  if (thread_.joinable()) thread_.join();
  return made_;
}

absl::StatusOr<NetworkPlaces::Entered> NetworkPlaces::Enter(const CallContext& context,
                                                            const NetworkClient& client,
                                                            absl::string_view network,
                                                            const v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(Entered entered, BeginToEnter(context, client, network, config));
  const absl::Status made = entered.making->Wait();
  if (made.ok()) return entered;
  const absl::Status undone = Leave(context, client.id);
  LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " id=" << client.id << " " << undone;
  return made;
}

absl::StatusOr<NetworkPlaces::Entered> NetworkPlaces::BeginToEnter(
    const CallContext& context, const NetworkClient& client, absl::string_view network,
    const v1::ContainerConfig& config) {
  GANTRY_RETURN_IF_ERROR(Leave(context, client.id));
  const std::vector<v1::NetworkAttachment> attachments = AttachmentsOf(network, config);
  // Before anything is recorded: a name that is not there is the usual error.
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork first,
                          parts_.networks->FindOrMakeDefault(context, network));
  record::v1::NetworkNamespace fresh;
  fresh.set_container_id(client.id);
  fresh.set_container_name(client.name);
  const std::vector<v1::PortBinding> wanted = WantedPorts(config);
  GANTRY_ASSIGN_OR_RETURN(const bool only_opened, OnlyOpensPorts(context, first, attachments));
  GANTRY_ASSIGN_OR_RETURN(
      StoredNetns netns,
      parts_.store->AddNetns(context.ns, std::move(fresh),
                             [&](const std::vector<StoredNetns>& all,
                                 record::v1::NetworkNamespace& made) -> absl::Status {
                               return ChoosePorts(wanted, DefaultAddress(first), only_opened, all,
                                                  made);
                             }));
  CrashPoint("netns.recorded");
  absl::Cleanup undo = [&] {
    const absl::Status undone = TakeAway(netns);
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " id=" << client.id << " " << undone;
  };
  const std::string path = NetnsPath(context.ns, client.id);
  const IdMaps ids = IdsOf(config);
  GANTRY_ASSIGN_OR_RETURN(OpenNetns open, MakeNetns(path, ids, client.user_namespace));
  CrashPoint("netns.kept");
  std::vector<PlaceInNetwork> places;
  for (const v1::NetworkAttachment& attachment : attachments) {
    GANTRY_ASSIGN_OR_RETURN(PlaceInNetwork place, Record(context, client, attachment, places));
    places.push_back(std::move(place));
  }
  CrashPoint("endpoint.recorded");
  GANTRY_ASSIGN_OR_RETURN(const Gateways gateways, ChooseGateways(netns, places));
  GANTRY_RETURN_IF_ERROR(CheckCarried(netns.record, RecordsOf(places)));
  GANTRY_RETURN_IF_ERROR(WriteResolver(context.ns, client.id, config, places));
  Entered entered = NamesIn(places, config);
  entered.netns = path;
  if (!ids.empty()) entered.user_namespace = UserNamespacePath(path);
  if (parts_.names != nullptr) entered.resolver = parts_.names->ResolverPath(context.ns, client.id);
  if (const std::string forwards = ForwardsText(ForwardsOf(netns.record, RecordsOf(places)));
      !forwards.empty())
    GANTRY_RETURN_IF_ERROR(WriteFileAtomic(ForwardsPath(entered.netns), forwards, 0600));
  entered.making = std::make_shared<Making>();
  auto work = [this, making = entered.making.get(), record = netns.record, gateways,
               places = std::move(places),
               open = std::make_shared<const OpenNetns>(std::move(open))] {
    making->made_ = MakePlaces(record, places, gateways, *open);
  };
  absl::StatusOr<std::thread> thread = NewThread(work);
  if (thread.ok()) {
    entered.making->thread_ = *std::move(thread);
  } else {
    work();
  }
  std::move(undo).Cancel();
  return entered;
}

absl::Status NetworkPlaces::MakePlaces(const record::v1::NetworkNamespace& netns,
                                       const std::vector<PlaceInNetwork>& places,
                                       const Gateways& gateways, const OpenNetns& open) {
  // With the first place in a bridge: the rules take both in one transaction.
  std::vector<network::PublishedPort> ports = PortsOf(netns, RecordsOf(places));
  for (const PlaceInNetwork& one : places) {
    const bool bridged = one.network.record.driver() == "bridge";
    GANTRY_RETURN_IF_ERROR(parts_.kernel->MakePlace(
        one.network, one.place, open,
        bridged ? std::exchange(ports, {}) : std::vector<network::PublishedPort>()));
    CrashPoint("veth.made");
    GANTRY_RETURN_IF_ERROR(NamesChanged(one.network));
    Publish(one.network, "connect", netns.container_id());
  }
  GANTRY_RETURN_IF_ERROR(NetworkKernel::SetGateway(open, Family::kIpv4, gateways.ipv4));
  return NetworkKernel::SetGateway(open, Family::kIpv6, gateways.ipv6);
}

absl::StatusOr<OpenNetns> NetworkPlaces::MakeNetns(const std::string& path, const IdMaps& ids,
                                                   const std::string& owner) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(path.substr(0, path.rfind('/')), 0700));
  OpenNetns made;
  const auto prepare = [&made]() -> absl::Status {
    // A device gets IPv6 with an address of the network's only.
    NetworkKernel::SetIpv6("default", false);
    GANTRY_ASSIGN_OR_RETURN(made.inside, network::Links::Open());
    return made.inside->SetUp("lo");
  };
  if (ids.empty()) {
    GANTRY_ASSIGN_OR_RETURN(made, parts_.kernel->TakeNetns());
  } else if (!owner.empty()) {
    const UniqueFd users(open(owner.c_str(), O_RDONLY | O_CLOEXEC));
    if (!users.valid()) return ErrnoToStatus(errno, owner);
    GANTRY_RETURN_IF_ERROR(Keep(users.get(), UserNamespacePath(path)));
    GANTRY_ASSIGN_OR_RETURN(made.fd, network::NewNetnsIn(users.get(), prepare));
  } else {
    GANTRY_ASSIGN_OR_RETURN(network::OwnedNetns owned, network::NewOwnedNetns(ids, prepare));
    GANTRY_RETURN_IF_ERROR(Keep(owned.user_namespace.get(), UserNamespacePath(path)));
    made.fd = std::move(owned.netns);
  }
  GANTRY_RETURN_IF_ERROR(Keep(made.fd.get(), path));
  return made;
}

absl::StatusOr<OpenNetns> NetworkPlaces::OpenNetnsAt(const std::string& path) const {
  OpenNetns opened;
  opened.fd = UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened.fd.valid()) return ErrnoToStatus(errno, path);
  GANTRY_ASSIGN_OR_RETURN(opened.inside, network::Links::OpenIn(opened.fd.get()));
  return opened;
}

absl::StatusOr<PlaceInNetwork> NetworkPlaces::Record(const CallContext& context,
                                                     const NetworkClient& client,
                                                     const v1::NetworkAttachment& attachment,
                                                     const std::vector<PlaceInNetwork>& others) {
  PlaceInNetwork added;
  GANTRY_ASSIGN_OR_RETURN(added.network,
                          parts_.networks->FindOrMakeDefault(context, attachment.network()));
  const StoredNetwork& network = added.network;
  if (network.settings.configuration_only()) {
    return absl::FailedPreconditionError(
        absl::StrCat("network ", network.record.name(),
                     " holds settings for other networks; containers cannot be connected to it"));
  }
  GANTRY_ASSIGN_OR_RETURN(record::v1::NetworkEndpoint fresh,
                          NewPlace(network, client, attachment, others));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<Address> asked, AskedAddresses(attachment));
  added.place.ns = context.ns;
  added.place.network_id = network.record.id();
  GANTRY_ASSIGN_OR_RETURN(
      added.place.record,
      parts_.store->AddEndpoint(
          network, std::move(fresh),
          [&](const std::vector<StoredEndpoint>& all, record::v1::NetworkEndpoint& made) {
            return ChooseAddresses(network, all, asked, attachment.mac_address().empty(), made);
          }));
  return added;
}

absl::StatusOr<NetworkPlaces::Gateways> NetworkPlaces::ChooseGateways(
    StoredNetns& netns, const std::vector<PlaceInNetwork>& places) {
  Gateways chosen = {ChooseGateway(places, Family::kIpv4), ChooseGateway(places, Family::kIpv6)};
  // Published ports go by what is recorded. No port of the host leads to a place on a wire.
  const auto recorded = [&places](const std::optional<Gateway>& gateway) {
    for (const PlaceInNetwork& one : places) {
      if (gateway.has_value() && one.network.record.driver() == "bridge" &&
          one.place.network_id == gateway->network_id)
        return gateway->network_id;
    }
    return std::string();
  };
  StoredNetns now = netns;
  now.record.set_gateway_network(recorded(chosen.ipv4));
  now.record.set_ipv6_gateway_network(recorded(chosen.ipv6));
  GANTRY_RETURN_IF_ERROR(parts_.store->UpdateNetns(now));
  netns = std::move(now);
  return chosen;
}

absl::Status NetworkPlaces::Reroute(StoredNetns& netns, const std::vector<PlaceInNetwork>& places,
                                    const OpenNetns& open) {
  const std::vector<StoredEndpoint> records = RecordsOf(places);
  GANTRY_RETURN_IF_ERROR(parts_.kernel->Unpublish(PortsOf(netns.record, records)));
  // The record before the kernel: rules that are written anew meanwhile are already the new ones.
  GANTRY_ASSIGN_OR_RETURN(const Gateways gateways, ChooseGateways(netns, places));
  GANTRY_RETURN_IF_ERROR(NetworkKernel::SetGateway(open, Family::kIpv4, gateways.ipv4));
  GANTRY_RETURN_IF_ERROR(NetworkKernel::SetGateway(open, Family::kIpv6, gateways.ipv6));
  const absl::Status published = parts_.kernel->Publish(PortsOf(netns.record, records));
  // They are there already when all rules were written anew meanwhile.
  if (!published.ok() && !absl::IsAlreadyExists(published)) return published;
  CrashPoint("ports.rerouted");
  return ForwardAgain(netns, records);
}

absl::StatusOr<std::vector<PlaceInNetwork>> NetworkPlaces::PlacesOf(
    absl::string_view ns, absl::string_view container_id) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<StoredEndpoint> records,
                          parts_.store->EndpointsOf(ns, container_id));
  std::vector<PlaceInNetwork> places;
  for (StoredEndpoint& record : records) {
    PlaceInNetwork place;
    GANTRY_ASSIGN_OR_RETURN(place.network,
                            parts_.store->Find({std::string(ns), ""}, record.network_id));
    place.place = std::move(record);
    places.push_back(std::move(place));
  }
  return places;
}

absl::Status NetworkPlaces::Remove(const PlaceInNetwork& place, const OpenNetns& netns) {
  GANTRY_RETURN_IF_ERROR(parts_.kernel->RemovePlace(place.place, netns));
  CrashPoint("veth.gone");
  GANTRY_RETURN_IF_ERROR(parts_.store->RemoveEndpoint(place.place));
  Publish(place.network, "disconnect", place.place.record.container_id());
  return NamesChanged(place.network);
}

absl::Status NetworkPlaces::TakeAway(const StoredNetns& netns) {
  const std::string& id = netns.record.container_id();
  GANTRY_ASSIGN_OR_RETURN(const std::vector<PlaceInNetwork> places, PlacesOf(netns.ns, id));
  GANTRY_RETURN_IF_ERROR(parts_.kernel->Unpublish(PortsOf(netns.record, RecordsOf(places))));
  const std::string path = NetnsPath(netns.ns, id);
  const std::string forwards = ForwardsPath(path);
  for (const std::string& file : {forwards, ChangingForwardsPath(path)}) {
    if (unlink(file.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, file);
  }
  for (const std::string& kept : {path, UserNamespacePath(path)}) {
    if (umount2(kept.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT)
      return ErrnoToStatus(errno, absl::StrCat("unmounting ", kept));
    if (unlink(kept.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, kept);
  }
  CrashPoint("netns.gone");
  for (const PlaceInNetwork& one : places) {
    parts_.kernel->RemovePlaceSoon(one.place);
    GANTRY_RETURN_IF_ERROR(parts_.store->RemoveEndpoint(one.place));
    CrashPoint("endpoint.forgotten");
    Publish(one.network, "disconnect", id);
    GANTRY_RETURN_IF_ERROR(NamesChanged(one.network));
  }
  if (parts_.names != nullptr) GANTRY_RETURN_IF_ERROR(parts_.names->ContainerRemoved(netns.ns, id));
  return parts_.store->RemoveNetns(netns);
}

absl::Status NetworkPlaces::Leave(const CallContext& context, absl::string_view container_id) {
  const absl::StatusOr<StoredNetns> netns = parts_.store->FindNetns(context.ns, container_id);
  if (absl::IsNotFound(netns.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(netns.status());
  return TakeAway(*netns);
}

absl::Status NetworkPlaces::Connect(const CallContext& context, const NetworkClient& client,
                                    const v1::NetworkAttachment& attachment) {
  absl::StatusOr<StoredNetns> netns = parts_.store->FindNetns(context.ns, client.id);
  if (absl::IsNotFound(netns.status())) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", client.name, " has no network namespace that networks can be connected to"));
  }
  GANTRY_RETURN_IF_ERROR(netns.status());
  GANTRY_ASSIGN_OR_RETURN(const OpenNetns open, OpenNetnsAt(NetnsPath(context.ns, client.id)));
  GANTRY_ASSIGN_OR_RETURN(std::vector<PlaceInNetwork> places, PlacesOf(context.ns, client.id));
  const auto stale = std::find_if(places.begin(), places.end(), [&](const PlaceInNetwork& one) {
    return one.network.record.name() == attachment.network();
  });
  if (stale != places.end()) {
    const PlaceInNetwork left = *stale;
    places.erase(stale);
    GANTRY_RETURN_IF_ERROR(Remove(left, open));
    GANTRY_RETURN_IF_ERROR(Reroute(*netns, places, open));
  }
  GANTRY_ASSIGN_OR_RETURN(const PlaceInNetwork added, Record(context, client, attachment, places));
  CrashPoint("endpoint.recorded");
  absl::Status made = NamesChanged(added.network);
  if (made.ok()) made = parts_.kernel->MakePlace(added.network, added.place, open);
  if (!made.ok()) {
    made.Update(parts_.store->RemoveEndpoint(added.place));
    made.Update(NamesChanged(added.network));
    return made;
  }
  CrashPoint("veth.made");
  Publish(added.network, "connect", client.id);
  places.push_back(added);
  const absl::Status routed = Reroute(*netns, places, open);
  if (!routed.ok()) {
    places.pop_back();
    absl::Status undone = Remove(added, open);
    undone.Update(Reroute(*netns, places, open));
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " id=" << client.id << " " << undone;
  }
  return routed;
}

absl::Status NetworkPlaces::Disconnect(const CallContext& context, const NetworkClient& client,
                                       absl::string_view network) {
  absl::StatusOr<StoredNetns> netns = parts_.store->FindNetns(context.ns, client.id);
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork found, parts_.store->Find({context.ns, ""}, network));
  const absl::Status absent = absl::FailedPreconditionError(
      absl::StrCat("container ", client.id, " is not connected to network ", found.record.name()));
  if (absl::IsNotFound(netns.status())) return absent;
  GANTRY_RETURN_IF_ERROR(netns.status());
  GANTRY_ASSIGN_OR_RETURN(std::vector<PlaceInNetwork> places, PlacesOf(context.ns, client.id));
  const auto it = std::find_if(places.begin(), places.end(), [&](const PlaceInNetwork& one) {
    return one.network.record.id() == found.record.id();
  });
  if (it == places.end()) return absent;
  GANTRY_ASSIGN_OR_RETURN(const OpenNetns open, OpenNetnsAt(NetnsPath(context.ns, client.id)));
  const PlaceInNetwork leaving = *it;
  // Ports are closed while it is known by which place they go.
  GANTRY_RETURN_IF_ERROR(parts_.kernel->Unpublish(PortsOf(netns->record, RecordsOf(places))));
  places.erase(it);
  GANTRY_RETURN_IF_ERROR(Remove(leaving, open));
  return Reroute(*netns, places, open);
}

absl::Status NetworkPlaces::NamesChanged(const StoredNetwork& network) {
  return parts_.names == nullptr ? absl::OkStatus() : parts_.names->NetworkChanged(network);
}

NetworkPlaces::Entered NetworkPlaces::NamesIn(const std::vector<PlaceInNetwork>& places,
                                              const v1::ContainerConfig& config) const {
  Entered names;
  for (const PlaceInNetwork& one : places) {
    for (const network::InterfaceAddress& address : AddressesOf(one.place.record))
      names.addresses.push_back(address.address.ToString());
    names.has_names = names.has_names ||
                      (parts_.names != nullptr &&
                       (NetworkNames::HasNames(one.network) || NetworkNames::HasLinks(config)));
  }
  return names;
}

absl::Status NetworkPlaces::WriteResolver(absl::string_view ns, absl::string_view container_id,
                                          const v1::ContainerConfig& config,
                                          std::vector<PlaceInNetwork> places) {
  if (parts_.names == nullptr) return absl::OkStatus();
  // A name that several networks have is that of the one that gateways are chosen from first.
  std::sort(places.begin(), places.end(), [](const PlaceInNetwork& a, const PlaceInNetwork& b) {
    const auto rank = [](const PlaceInNetwork& one) {
      return std::make_tuple(-one.place.record.gateway_priority(), one.network.settings.internal(),
                             one.network.record.name());
    };
    return rank(a) < rank(b);
  });
  std::vector<StoredNetwork> networks;
  for (PlaceInNetwork& one : places) networks.push_back(std::move(one.network));
  return parts_.names->ContainerChanged(ns, container_id, config, networks);
}

absl::StatusOr<NetworkPlaces::Entered> NetworkPlaces::NamesOf(const CallContext& context,
                                                              absl::string_view container_id,
                                                              const v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<PlaceInNetwork> places,
                          PlacesOf(context.ns, container_id));
  return NamesIn(places, config);
}

absl::Status NetworkPlaces::ChangeNames(const CallContext& context, absl::string_view container_id,
                                        const v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<PlaceInNetwork> places,
                          PlacesOf(context.ns, container_id));
  return WriteResolver(context.ns, container_id, config, places);
}

absl::StatusOr<std::vector<std::string>> NetworkPlaces::HostGateways(const CallContext& context) {
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork network,
                          parts_.networks->FindOrMakeDefault(context, "bridge"));
  std::vector<std::string> gateways;
  for (const auto& pool : network.settings.pools()) {
    if (!pool.gateway().empty()) gateways.push_back(pool.gateway());
  }
  return gateways;
}

absl::Status NetworkPlaces::Rename(const CallContext& context, const NetworkClient& client) {
  absl::StatusOr<StoredNetns> netns = parts_.store->FindNetns(context.ns, client.id);
  if (absl::IsNotFound(netns.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(netns.status());
  netns->record.set_container_name(client.name);
  GANTRY_RETURN_IF_ERROR(parts_.store->UpdateNetns(*netns));
  GANTRY_ASSIGN_OR_RETURN(std::vector<PlaceInNetwork> places, PlacesOf(context.ns, client.id));
  for (PlaceInNetwork& one : places) {
    record::v1::NetworkEndpoint& record = one.place.record;
    // The container's name is the first, and may be an alias as well.
    std::vector<std::string> names = {client.name};
    for (const std::string& name : record.names()) {
      if (name != record.container_name() && name != client.name) names.push_back(name);
    }
    record.mutable_names()->Assign(names.begin(), names.end());
    record.set_container_name(client.name);
    GANTRY_RETURN_IF_ERROR(parts_.store->UpdateEndpoint(one.place));
    GANTRY_RETURN_IF_ERROR(NamesChanged(one.network));
  }
  return absl::OkStatus();
}

absl::StatusOr<NetworkPlaces::Held> NetworkPlaces::Holds(const CallContext& context,
                                                         absl::string_view container_id) {
  const absl::StatusOr<StoredNetns> netns = parts_.store->FindNetns(context.ns, container_id);
  if (absl::IsNotFound(netns.status())) return Held();
  GANTRY_RETURN_IF_ERROR(netns.status());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<PlaceInNetwork> places,
                          PlacesOf(context.ns, container_id));
  return HeldOf(*netns, places);
}

absl::StatusOr<absl::flat_hash_map<std::string, NetworkPlaces::Held>> NetworkPlaces::HoldAll(
    const CallContext& context) {
  absl::flat_hash_map<std::string, Held> held;
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetns> namespaces, parts_.store->AllNetns());
  if (namespaces.empty()) return held;
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> networks,
                          parts_.store->List(context.ns));
  // In order of the names of networks, as Holds() has them.
  absl::flat_hash_map<std::string, std::vector<PlaceInNetwork>> places;
  for (const StoredNetwork& network : networks) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<StoredEndpoint> endpoints,
                            parts_.store->Endpoints(network));
    for (StoredEndpoint& endpoint : endpoints) {
      const std::string id = endpoint.record.container_id();
      places[id].push_back({network, std::move(endpoint)});
    }
  }
  for (const StoredNetns& netns : namespaces) {
    if (netns.ns != context.ns) continue;
    const std::string& id = netns.record.container_id();
    held.emplace(id, HeldOf(netns, places[id]));
  }
  return held;
}

NetworkPlaces::Held NetworkPlaces::HeldOf(const StoredNetns& netns,
                                          const std::vector<PlaceInNetwork>& places) const {
  Held held;
  for (const auto& [network, place] : places) {
    v1::NetworkEndpoint endpoint;
    endpoint.set_network(network.record.name());
    endpoint.set_network_id(network.record.id());
    endpoint.set_endpoint_id(EndpointId(place));
    endpoint.set_mac_address(place.record.mac_address());
    for (const network::InterfaceAddress& one : AddressesOf(place.record)) {
      if (one.address.family() == Family::kIpv4) {
        endpoint.set_ip_address(one.address.ToString());
        endpoint.set_ip_prefix_len(one.length);
      } else {
        endpoint.set_global_ipv6_address(one.address.ToString());
        endpoint.set_global_ipv6_prefix_len(one.length);
      }
    }
    for (const auto& pool : network.settings.pools()) {
      if (absl::StrContains(pool.gateway(), ':')) {
        endpoint.set_ipv6_gateway(pool.gateway());
      } else {
        endpoint.set_gateway(pool.gateway());
      }
    }
    *endpoint.mutable_driver_options() = place.record.options();
    for (const std::string& name : place.record.names()) {
      endpoint.add_dns_names(name);
      if (name != place.record.container_name()) endpoint.add_aliases(name);
    }
    endpoint.add_dns_names(place.record.container_id().substr(0, 12));
    held.endpoints.push_back(std::move(endpoint));
  }
  for (const v1::PortWay& way : WaysOf(netns, places)) {
    if (way.opened()) continue;  // no port of the host leads to it
    v1::PublishedPort& shown = held.ports.emplace_back();
    shown.set_ip(way.address());
    shown.set_private_port(way.container_port());
    shown.set_public_port(way.port());
    shown.set_protocol(way.protocol());
  }
  return held;
}

absl::Status NetworkPlaces::Reconcile(
    const std::function<bool(absl::string_view ns, absl::string_view container_id)>& runs) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> networks, parts_.store->List(""));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetns> namespaces, parts_.store->AllNetns());
  if (networks.empty() && namespaces.empty()) return absl::OkStatus();
  for (const StoredNetwork& one : networks) {
    const absl::Status made = parts_.kernel->MakeNetwork(one);
    LOG_IF(ERROR, !made.ok()) << "network " << one.record.name() << ": " << made;
  }
  std::set<std::pair<std::string, std::string>> staying;
  for (const StoredNetns& one : namespaces) {
    if (runs(one.ns, one.record.container_id())) {
      staying.insert({one.ns, one.record.container_id()});
      continue;
    }
    const absl::Status gone = TakeAway(one);
    // One container's trouble keeps none of the others, nor the daemon, from starting.
    LOG_IF(ERROR, !gone.ok()) << "ns=" << one.ns << " id=" << one.record.container_id() << " "
                              << gone;
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> places, parts_.store->AllEndpoints());
  std::vector<std::string> kept;
  for (const StoredEndpoint& one : places) {
    if (staying.count({one.ns, one.record.container_id()}) > 0) {
      kept.push_back(one.record.host_device());
    } else if (const absl::Status gone = parts_.store->RemoveEndpoint(one); !gone.ok()) {
      LOG(ERROR) << "ns=" << one.ns << " id=" << one.record.container_id() << " " << gone;
    }
  }
  for (const StoredNetns& one : namespaces) {
    const std::string& id = one.record.container_id();
    if (one.record.ports().empty() || staying.count({one.ns, id}) == 0) continue;
    absl::StatusOr<std::vector<StoredEndpoint>> its = parts_.store->EndpointsOf(one.ns, id);
    const absl::Status forwarded = its.ok() ? ForwardAgain(one, *its) : its.status();
    LOG_IF(ERROR, !forwarded.ok()) << "ns=" << one.ns << " id=" << id << " " << forwarded;
  }
  if (parts_.names != nullptr) {
    const absl::Status named = parts_.names->Reconcile();
    LOG_IF(ERROR, !named.ok()) << "names inside networks: " << named;
  }
  GANTRY_RETURN_IF_ERROR(parts_.kernel->RemoveStrays(kept));
  // Last: what has no record any more has no rule either.
  return parts_.kernel->WriteRules();
}

void NetworkPlaces::Publish(const StoredNetwork& network, absl::string_view action,
                            absl::string_view container_id) const {
  if (parts_.events == nullptr) return;
  parts_.events->Publish(network.ns,
                         Event(EventKind::kNetwork, action, network.record.id(),
                               Event::Attributes{{"container", std::string(container_id)},
                                                 {"name", network.record.name()},
                                                 {"type", network.record.driver()}}));
}

}  // namespace gantry::core
