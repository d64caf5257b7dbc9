// The part of NetworkPlaces that is about published ports.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_records.h"
#include "supervisor/core/network_service.h"
#include "supervisor/core/port_choice.h"
#include "supervisor/core/port_forwards.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetns;
using metadata::StoredNetwork;
using network::Family;
using network::PublishedPort;

bool HostHasIpv6() {
  const absl::StatusOr<std::string> addresses = ReadFile("/proc/thread-self/net/if_inet6", 1 << 20);
  return addresses.ok() && !addresses->empty();
}

bool Leads(const PublishedPort& a, const PublishedPort& b) {
  return a.opened == b.opened && a.host == b.host && a.protocol == b.protocol &&
         a.host_port == b.host_port && a.container == b.container &&
         a.container_port == b.container_port;
}

// Those of `all` that are not among `others`.
std::vector<PublishedPort> Without(const std::vector<PublishedPort>& all,
                                   const std::vector<PublishedPort>& others) {
  std::vector<PublishedPort> rest;
  for (const PublishedPort& one : all) {
    const bool there =
        std::any_of(others.begin(), others.end(),
                    [&one](const PublishedPort& other) { return Leads(one, other); });
    if (!there) rest.push_back(one);
  }
  return rest;
}

}  // namespace

std::string NetworkPlaces::DefaultAddress(const StoredNetwork& first) const {
  const std::string address = OptionOf(first.record.options(), kBindOption);
  return address.empty() ? parts_.default_bind : address;
}

absl::StatusOr<bool> NetworkPlaces::OnlyOpensPorts(
    const CallContext& context, const StoredNetwork& first,
    const std::vector<v1::NetworkAttachment>& attachments) {
  if (!IsRouted(first)) return false;
  for (const v1::NetworkAttachment& one : attachments) {
    GANTRY_ASSIGN_OR_RETURN(const StoredNetwork network,
                            parts_.networks->FindOrMakeDefault(context, one.network()));
    if (!IsRouted(network)) return false;
  }
  return true;
}

absl::Status NetworkPlaces::ChangePorts(const CallContext& context, const NetworkClient& client,
                                        absl::string_view network,
                                        const v1::ContainerConfig& config) {
  const absl::StatusOr<StoredNetns> held = parts_.store->FindNetns(context.ns, client.id);
  if (absl::IsNotFound(held.status())) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", client.name, " has no network namespace that ports can lead to"));
  }
  GANTRY_RETURN_IF_ERROR(held.status());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<PlaceInNetwork> places,
                          PlacesOf(context.ns, client.id));
  const std::vector<StoredEndpoint> records = RecordsOf(places);
  const std::vector<v1::PortBinding> wanted = WantedPorts(config);
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork first,
                          parts_.networks->FindOrMakeDefault(context, network));
  GANTRY_ASSIGN_OR_RETURN(const bool only_opened,
                          OnlyOpensPorts(context, first, AttachmentsOf(network, config)));
  // Ports that go stay this container's until they lead nowhere, so that whatever fails below can
  // be undone.
  GANTRY_ASSIGN_OR_RETURN(
      StoredNetns netns,
      parts_.store->ChangeNetns(context.ns, client.id,
                                [&](const std::vector<StoredNetns>& all,
                                    record::v1::NetworkNamespace& changed) -> absl::Status {
                                  GANTRY_RETURN_IF_ERROR(ChoosePorts(wanted, DefaultAddress(first),
                                                                     only_opened, all, changed));
                                  return CheckCarried(changed, records);
                                }));
  CrashPoint("ports.recorded");
  const std::vector<PublishedPort> before = PortsOf(held->record, records);
  const std::vector<PublishedPort> after = PortsOf(netns.record, records);
  const auto lead = [&](const StoredNetns& now, const std::vector<PublishedPort>& from,
                        const std::vector<PublishedPort>& to) -> absl::Status {
    GANTRY_RETURN_IF_ERROR(parts_.kernel->Unpublish(Without(from, to)));
    const absl::Status published = parts_.kernel->Publish(Without(to, from));
    // They are there already when all rules were written anew meanwhile.
    if (!published.ok() && !absl::IsAlreadyExists(published)) return published;
    return ForwardAgain(now, records);
  };
  const absl::Status led = lead(netns, before, after);
  if (!led.ok()) {
    absl::Status undone = parts_.store->UpdateNetns(*held);
    undone.Update(lead(*held, after, before));
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " id=" << client.id
                                << " its published ports as they were: " << undone;
    return led;
  }
  netns.record.clear_leaving_ports();
  return parts_.store->UpdateNetns(netns);
}

absl::Status NetworkPlaces::ForwardAgain(const StoredNetns& netns,
                                         const std::vector<StoredEndpoint>& places) {
  const std::string& id = netns.record.container_id();
  const std::string kept = NetnsPath(netns.ns, id);
  const std::string path = ForwardsPath(kept);
  const std::string wanted = ForwardsText(ForwardsOf(netns.record, places));
  // There from before the change until the shim has been told of it.
  const std::string changing = ChangingForwardsPath(kept);
  if (ReadFile(path, 1 << 20).value_or("") != wanted) {
    GANTRY_RETURN_IF_ERROR(WriteFileAtomic(changing, "", 0600));
    if (!wanted.empty()) {
      GANTRY_RETURN_IF_ERROR(WriteFileAtomic(path, wanted, 0600));
    } else if (unlink(path.c_str()) != 0 && errno != ENOENT) {
      return ErrnoToStatus(errno, path);
    }
    CrashPoint("forwards.written");
  } else if (access(changing.c_str(), F_OK) != 0) {
    return absl::OkStatus();
  }
  if (parts_.ports_changed) {
    const absl::Status told = parts_.ports_changed(netns.ns, id);
    // One without a shim is about to end, and its ports with it.
    if (!told.ok() && !absl::IsNotFound(told)) return told;
  }
  if (unlink(changing.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, changing);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::PortWay>> NetworkPlaces::PortWays(const CallContext& context,
                                                                 absl::string_view container_id) {
  const absl::StatusOr<StoredNetns> netns = parts_.store->FindNetns(context.ns, container_id);
  if (absl::IsNotFound(netns.status())) return std::vector<v1::PortWay>();
  GANTRY_RETURN_IF_ERROR(netns.status());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<PlaceInNetwork> places,
                          PlacesOf(context.ns, container_id));
  return WaysOf(*netns, places);
}

std::vector<v1::PortWay> NetworkPlaces::WaysOf(const StoredNetns& netns,
                                               const std::vector<PlaceInNetwork>& places) const {
  std::vector<v1::PortWay> ways;
  const std::vector<StoredEndpoint> records = RecordsOf(places);
  const auto add = [&](const std::string& address, uint16_t port, network::Protocol protocol,
                       const network::Address& container, uint16_t container_port) -> v1::PortWay& {
    v1::PortWay& way = ways.emplace_back();
    way.set_container(netns.record.container_id());
    way.set_address(address);
    way.set_port(port);
    way.set_protocol(std::string(network::ProtocolName(protocol)));
    way.set_leads_to(container.ToString());
    way.set_container_port(container_port);
    return way;
  };
  const std::string table = network::TableName(parts_.state_directory);
  for (const network::PublishedPort& port : PortsOf(netns.record, records)) {
    const bool ipv4 = port.container.family() == Family::kIpv4;
    const std::string host = port.host.has_value() ? port.host->ToString()
                             : ipv4                ? "0.0.0.0"
                                                   : "::";
    v1::PortWay& way = add(port.opened ? port.container.ToString() : host,
                           port.opened ? port.container_port : port.host_port, port.protocol,
                           port.container, port.container_port);
    way.set_opened(port.opened);
    way.set_rule(network::RuleOf(port, table));
  }
  const std::vector<PortForward> forwards = ForwardsOf(netns.record, records);
  const bool host_has_ipv6 = !forwards.empty() && HostHasIpv6();
  for (const PortForward& forward : forwards) {
    // Shown above already: [::1] is one of "::".
    if (forward.if_possible && (!host_has_ipv6 || forward.host.is_loopback())) continue;
    add(forward.host.ToString(), forward.host_port, forward.protocol, forward.container,
        forward.container_port);
  }
  return ways;
}

}  // namespace gantry::core
