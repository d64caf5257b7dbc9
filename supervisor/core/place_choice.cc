#include "supervisor/core/place_choice.h"

#include <sys/random.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/network_names.h"
#include "supervisor/core/network_records.h"
#include "supervisor/network/ipam.h"
#include "supervisor/network/links.h"

namespace gantry::core {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;
using network::Address;
using network::Family;

namespace {

std::string HostDeviceName() {
  unsigned char random[4] = {};
  // Of four bytes the kernel's generator always gives all.
  (void)!getrandom(random, sizeof random, 0);
  const std::string hex =
      absl::BytesToHexString({reinterpret_cast<const char*>(random), sizeof random});
  return absl::StrCat("veth", hex.substr(0, 7));
}

// "eth" and the lowest number that none of the container's devices has, unless options say more.
std::string DeviceName(const StoredNetwork& network, const v1::NetworkAttachment& attachment,
                       const std::vector<PlaceInNetwork>& others) {
  const std::string whole = OptionOf(attachment.driver_options(), kDeviceNameOption);
  if (!whole.empty()) return whole;
  std::string prefix = OptionOf(network.record.options(), kPrefixOption);
  if (prefix.empty()) prefix = "eth";
  for (int number = 0;; ++number) {
    std::string name = absl::StrCat(prefix, number);
    const bool taken = std::any_of(others.begin(), others.end(), [&](const PlaceInNetwork& one) {
      return one.place.record.container_device() == name;
    });
    if (!taken) return name;
  }
}

// The asked address of the pool's family, taken out of `asked`; without one the lowest free.
absl::StatusOr<Address> AddressIn(const network::Pool& pool, const std::set<Address>& taken,
                                  std::vector<Address>& asked, const StoredNetwork& network) {
  const auto mine = std::find_if(asked.begin(), asked.end(), [&pool](const Address& one) {
    return one.family() == pool.subnet.family() && pool.subnet.Contains(one);
  });
  if (mine == asked.end()) {
    absl::StatusOr<Address> free = network::ChooseAddress(pool, taken);
    if (absl::IsResourceExhausted(free.status())) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no available ", pool.subnet.family() == Family::kIpv4 ? "IPv4" : "IPv6",
                       " addresses on this network's address pools: ", network.record.name(), " (",
                       network.record.id(), ")"));
    }
    return free;
  }
  const Address address = *mine;
  asked.erase(mine);
  const absl::Status possible = network::CheckAddress(pool, taken, address);
  if (absl::IsInvalidArgument(possible)) return FieldError("ip_address", possible.message());
  GANTRY_RETURN_IF_ERROR(possible);
  return address;
}

}  // namespace

NetworkClient ClientOf(const std::string& id, const std::string& shown_name,
                       const v1::ContainerConfig& config) {
  NetworkClient client = {id, shown_name, config.hostname()};
  for (const std::string& link : config.links()) client.links.push_back(LinkTarget(link));
  std::set<std::string> exposed;
  for (const std::string& text : config.exposed_ports())
    exposed.insert(absl::StrContains(text, "/") ? text : absl::StrCat(text, "/tcp"));
  // What is published is exposed as well.
  for (const v1::PortBinding& binding : config.port_bindings()) {
    exposed.insert(absl::StrCat(binding.container_port(), "/",
                                binding.protocol().empty() ? "tcp" : binding.protocol()));
  }
  client.exposed_ports.assign(exposed.begin(), exposed.end());
  return client;
}

absl::StatusOr<record::v1::NetworkEndpoint> NewPlace(const StoredNetwork& network,
                                                     const NetworkClient& client,
                                                     const v1::NetworkAttachment& attachment,
                                                     const std::vector<PlaceInNetwork>& others) {
  record::v1::NetworkEndpoint fresh;
  fresh.set_container_id(client.id);
  fresh.set_container_name(client.name);
  fresh.set_container_device(DeviceName(network, attachment, others));
  if (network.record.driver() == "bridge") fresh.set_host_device(HostDeviceName());
  if (!attachment.mac_address().empty()) {
    absl::StatusOr<network::MacAddress> mac = network::MacAddress::Parse(attachment.mac_address());
    if (!mac.ok()) return FieldError("mac_address", mac.status().message());
    fresh.set_mac_address(mac->ToString());
  }
  fresh.add_names(client.name);
  const auto also = [&fresh](const std::string& name) {
    const auto& names = fresh.names();
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end())
      fresh.add_names(name);
  };
  for (const std::string& alias : attachment.aliases()) also(alias);
  also(client.hostname);
  fresh.set_gateway_priority(attachment.gateway_priority());
  if (network.record.driver() == "bridge" && !network.settings.internal()) {
    const bool trusted = !TrustedDevices(network.record.options()).empty();
    fresh.set_routed_ipv4(ModeOf(network, Family::kIpv4) == network::GatewayMode::kRouted);
    fresh.set_routed_ipv6(ModeOf(network, Family::kIpv6) == network::GatewayMode::kRouted);
    fresh.set_opens_ipv4(trusted || fresh.routed_ipv4());
    fresh.set_opens_ipv6(trusted || fresh.routed_ipv6());
  }
  *fresh.mutable_options() = attachment.driver_options();
  GANTRY_RETURN_IF_ERROR(CheckPlaceOptions(fresh));
  *fresh.mutable_link_local_addresses() = attachment.link_local_addresses();
  if (!IsOn(network.record.options(), kBetweenOption, true)) {
    fresh.mutable_links()->Assign(client.links.begin(), client.links.end());
    fresh.mutable_exposed_ports()->Assign(client.exposed_ports.begin(), client.exposed_ports.end());
  }
  return fresh;
}

absl::StatusOr<std::vector<Address>> AskedAddresses(const v1::NetworkAttachment& attachment) {
  std::vector<Address> asked;
  for (const std::string& text : {attachment.ipv4_address(), attachment.ipv6_address()}) {
    if (text.empty()) continue;
    absl::StatusOr<Address> address = Address::Parse(text);
    if (!address.ok()) return FieldError("ip_address", address.status().message());
    asked.push_back(*address);
  }
  return asked;
}

absl::Status ChooseAddresses(const StoredNetwork& network, const std::vector<StoredEndpoint>& all,
                             std::vector<Address> asked, bool mac_follows,
                             record::v1::NetworkEndpoint& made) {
  if (mac_follows) made.clear_mac_address();
  std::set<Address> taken;
  for (const StoredEndpoint& one : all) {
    for (const network::InterfaceAddress& address : AddressesOf(one.record))
      taken.insert(address.address);
    if (!made.mac_address().empty() && one.record.mac_address() == made.mac_address()) {
      return absl::AlreadyExistsError(absl::StrCat("MAC address ", made.mac_address(),
                                                   " is already in use by container ",
                                                   one.record.container_name()));
    }
  }
  made.clear_addresses();
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    absl::StatusOr<Address> chosen;
    const network::Pool* of = nullptr;
    std::vector<network::Pool> pools;
    for (const auto& recorded : network.settings.pools()) pools.push_back(PoolOf(recorded));
    // The subnet that holds the asked address comes before the others of its family.
    std::stable_sort(pools.begin(), pools.end(), [&](const auto& a, const auto& b) {
      const auto holds = [&](const network::Pool& pool) {
        return std::any_of(asked.begin(), asked.end(),
                           [&](const Address& one) { return pool.subnet.Contains(one); });
      };
      return holds(a) && !holds(b);
    });
    for (const network::Pool& pool : pools) {
      if (pool.subnet.family() != family) continue;
      chosen = AddressIn(pool, taken, asked, network);
      of = &pool;
      if (!absl::IsResourceExhausted(chosen.status())) break;
    }
    if (of == nullptr) continue;
    GANTRY_RETURN_IF_ERROR(chosen.status());
    made.add_addresses(absl::StrCat(chosen->ToString(), "/", of->subnet.length()));
  }
  if (!asked.empty()) {
    return FieldError("ip_address",
                      absl::StrCat("invalid endpoint settings:\nno configured subnet contains "
                                   "IP address ",
                                   asked.front().ToString()));
  }
  const std::vector<network::InterfaceAddress> addresses = AddressesOf(made);
  if (mac_follows && !addresses.empty() && network.record.driver() != "ipvlan")
    made.set_mac_address(MacOf(addresses.front().address).ToString());
  return absl::OkStatus();
}

}  // namespace gantry::core
