#include "supervisor/core/network_records.h"

#include <openssl/sha.h>

#include <algorithm>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/field_error.h"
#include "base/status_macros.h"

namespace gantry::core {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;
using network::Address;
using network::Family;
using network::Prefix;

bool IsOn(const google::protobuf::Map<std::string, std::string>& options, const char* key,
          bool otherwise) {
  const auto it = options.find(key);
  return it == options.end() ? otherwise : it->second == "true" || it->second == "1";
}

std::string OptionOf(const google::protobuf::Map<std::string, std::string>& options,
                     const char* key) {
  const auto it = options.find(key);
  return it == options.end() ? std::string() : it->second;
}

uint32_t MtuOf(const StoredNetwork& network) {
  uint32_t mtu = 0;
  return absl::SimpleAtoi(OptionOf(network.record.options(), kMtuOption), &mtu) ? mtu : 0;
}

absl::StatusOr<network::GatewayMode> ParseGatewayMode(absl::string_view text) {
  if (text == "nat") return network::GatewayMode::kNat;
  if (text == "nat-unprotected") return network::GatewayMode::kNatUnprotected;
  if (text == "routed") return network::GatewayMode::kRouted;
  if (text == "isolated") return network::GatewayMode::kIsolated;
  return absl::InvalidArgumentError(absl::StrCat("unknown gateway mode ", absl::CHexEscape(text)));
}

network::GatewayMode ModeOf(const StoredNetwork& network, Family family) {
  return ParseGatewayMode(OptionOf(network.record.options(),
                                   family == Family::kIpv4 ? kIpv4ModeOption : kIpv6ModeOption))
      .value_or(network::GatewayMode::kNat);
}

std::vector<std::string> TrustedDevices(
    const google::protobuf::Map<std::string, std::string>& options) {
  return absl::StrSplit(OptionOf(options, kTrustedOption), ':', absl::SkipEmpty());
}

bool IsRouted(const StoredNetwork& network) {
  const auto routed = [&network](Family family) {
    return ModeOf(network, family) == network::GatewayMode::kRouted;
  };
  return network.record.driver() == "bridge" &&
         (network.settings.no_ipv4() || routed(Family::kIpv4)) &&
         (!network.settings.ipv6() || routed(Family::kIpv6));
}

network::Pool PoolOf(const record::v1::NetworkPool& in) {
  network::Pool pool;
  pool.subnet = Prefix::Parse(in.subnet()).value_or(Prefix());
  if (absl::StatusOr<Prefix> range = Prefix::Parse(in.ip_range()); range.ok()) pool.range = *range;
  if (absl::StatusOr<Address> gateway = Address::Parse(in.gateway()); gateway.ok())
    pool.gateway = *gateway;
  for (const auto& [name, text] : in.auxiliary_addresses()) {
    if (absl::StatusOr<Address> address = Address::Parse(text); address.ok())
      pool.auxiliary.emplace(name, *address);
  }
  return pool;
}

record::v1::NetworkPool RecordOf(const network::Pool& pool) {
  record::v1::NetworkPool out;
  out.set_subnet(pool.subnet.ToString());
  if (pool.range.has_value()) out.set_ip_range(pool.range->ToString());
  if (pool.gateway.has_value()) out.set_gateway(pool.gateway->ToString());
  for (const auto& [name, address] : pool.auxiliary)
    (*out.mutable_auxiliary_addresses())[name] = address.ToString();
  return out;
}

absl::StatusOr<std::vector<DeviceSetting>> SettingsOf(const record::v1::NetworkEndpoint& place) {
  std::vector<DeviceSetting> settings;
  const std::string option = OptionOf(place.options(), kSysctlsOption);
  for (absl::string_view one : absl::StrSplit(option, ',', absl::SkipEmpty())) {
    const std::vector<absl::string_view> sides = absl::StrSplit(one, absl::MaxSplits('=', 1));
    const std::vector<absl::string_view> parts = absl::StrSplit(sides[0], '.');
    const auto plain = [](absl::string_view word) {
      return !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
        return absl::ascii_isalnum(c) || c == '_';
      });
    };
    // Five words: nothing but the device can be meant.
    if (sides.size() != 2 || parts.size() != 5 || parts[0] != "net" ||
        (parts[1] != "ipv4" && parts[1] != "ipv6" && parts[1] != "mpls") ||
        (parts[2] != "conf" && parts[2] != "neigh") || parts[3] != "IFNAME" || !plain(parts[4])) {
      return FieldError("driver_options",
                        absl::StrCat(kSysctlsOption, ": \"", absl::CHexEscape(one),
                                     "\" is not net.FAMILY.conf.IFNAME.SETTING=VALUE"));
    }
    settings.push_back({absl::StrCat("net/", parts[1], "/", parts[2], "/", place.container_device(),
                                     "/", parts[4]),
                        std::string(sides[1])});
  }
  return settings;
}

absl::Status CheckPlaceOptions(const record::v1::NetworkEndpoint& place) {
  for (const auto& [key, value] : place.options()) {
    if (key == kDeviceNameOption || key == kSysctlsOption) continue;
    return FieldError("driver_options", absl::StrCat("\"", absl::CHexEscape(key),
                                                     "\" has no effect on a place in a "
                                                     "network; known are ",
                                                     kDeviceNameOption, " and ", kSysctlsOption));
  }
  return SettingsOf(place).status();
}

network::FirewallNetwork RulesOf(const StoredNetwork& network) {
  network::FirewallNetwork rules;
  rules.bridge = network.settings.device();
  for (const auto& pool : network.settings.pools()) rules.subnets.push_back(PoolOf(pool).subnet);
  rules.internal = network.settings.internal();
  rules.masquerade = IsOn(network.record.options(), kMasqueradeOption, true);
  rules.between = IsOn(network.record.options(), kBetweenOption, true);
  rules.ipv4_mode = ModeOf(network, Family::kIpv4);
  rules.ipv6_mode = ModeOf(network, Family::kIpv6);
  rules.trusted = TrustedDevices(network.record.options());
  for (const char* option : {kIpv4SourceOption, kIpv6SourceOption}) {
    const absl::StatusOr<Address> source =
        Address::Parse(OptionOf(network.record.options(), option));
    if (!source.ok()) continue;
    (source->family() == Family::kIpv4 ? rules.ipv4_source : rules.ipv6_source) = *source;
  }
  return rules;
}

std::string IdOf(absl::string_view text) {
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash);
  return absl::BytesToHexString({reinterpret_cast<const char*>(hash), sizeof hash});
}

std::string EndpointId(const StoredEndpoint& place) {
  return IdOf(absl::StrCat(place.network_id, "/", place.record.container_id()));
}

std::vector<network::InterfaceAddress> AddressesOf(const record::v1::NetworkEndpoint& endpoint) {
  std::vector<network::InterfaceAddress> all;
  for (const std::string& text : endpoint.addresses()) {
    const std::vector<std::string> parts = absl::StrSplit(text, '/');
    const absl::StatusOr<Address> address = Address::Parse(parts[0]);
    int length = 0;
    if (address.ok() && parts.size() == 2 && absl::SimpleAtoi(parts[1], &length))
      all.push_back({*address, length});
  }
  return all;
}

std::optional<Address> AddressOf(const record::v1::NetworkEndpoint& endpoint, Family family) {
  for (const network::InterfaceAddress& one : AddressesOf(endpoint)) {
    if (one.address.family() == family) return one.address;
  }
  return std::nullopt;
}

network::MacAddress MacOf(const Address& address) {
  // 02:42 begins a locally administered one.
  const std::string bytes = address.Bytes();
  network::MacAddress::Bytes mac = {0x02, 0x42};
  for (size_t i = 0; i < 4; ++i) mac[2 + i] = static_cast<uint8_t>(bytes[bytes.size() - 4 + i]);
  return network::MacAddress(mac);
}

namespace {

// Of a container that another one is linked to. Each is a few elements of the rules.
constexpr size_t kMostLinkedPorts = 1024;

// What an image exposes need not be a port; such words are passed over.
absl::StatusOr<std::vector<std::pair<network::Protocol, uint16_t>>> ExposedPorts(
    const record::v1::NetworkEndpoint& place) {
  std::vector<std::pair<network::Protocol, uint16_t>> ports;
  for (const std::string& text : place.exposed_ports()) {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('/', 1));
    const std::vector<std::string> ends = absl::StrSplit(parts[0], '-');
    uint32_t first = 0;
    uint32_t last = 0;
    if (parts.size() != 2 || ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) ||
        !absl::SimpleAtoi(ends.back(), &last) || first == 0 || last > 65535)
      continue;
    for (uint32_t port = first; port <= last; ++port) {
      if (ports.size() == kMostLinkedPorts) {
        return absl::InvalidArgumentError(absl::StrCat(
            "container ", place.container_name(), " exposes more than ", kMostLinkedPorts,
            " ports: they cannot be opened to a container that is linked to it; expose fewer, or "
            "use a network without enable_icc=false"));
      }
      ports.emplace_back(ProtocolOf(parts[1]), static_cast<uint16_t>(port));
    }
  }
  return ports;
}

network::BridgeLink::End EndOf(const record::v1::NetworkEndpoint& place) {
  network::BridgeLink::End end;
  end.device = place.host_device();
  end.mac = network::MacAddress::Parse(place.mac_address()).value_or(network::MacAddress());
  for (const network::InterfaceAddress& one : AddressesOf(place))
    end.addresses.push_back(one.address);
  return end;
}

bool IsNamed(const record::v1::NetworkEndpoint& place, const std::string& text) {
  return text == place.container_name() ||
         (text.size() >= 12 && absl::StartsWith(place.container_id(), text));
}

}  // namespace

absl::StatusOr<std::vector<network::BridgeLink>> LinksAmong(
    const StoredNetwork& network, const std::vector<StoredEndpoint>& places,
    absl::string_view container_id) {
  std::vector<network::BridgeLink> links;
  if (network.record.driver() != "bridge" || IsOn(network.record.options(), kBetweenOption, true))
    return links;
  for (const StoredEndpoint& from : places) {
    for (const std::string& target : from.record.links()) {
      for (const StoredEndpoint& to : places) {
        const std::string& id = to.record.container_id();
        if (!IsNamed(to.record, target) || id == from.record.container_id()) continue;
        if (!container_id.empty() && container_id != id &&
            container_id != from.record.container_id())
          continue;
        network::BridgeLink& link = links.emplace_back();
        link.from = EndOf(from.record);
        link.to = EndOf(to.record);
        GANTRY_ASSIGN_OR_RETURN(link.ports, ExposedPorts(to.record));
      }
    }
  }
  return links;
}

network::Protocol ProtocolOf(absl::string_view name) {
  if (name == "udp") return network::Protocol::kUdp;
  return name == "sctp" ? network::Protocol::kSctp : network::Protocol::kTcp;
}

namespace {

// A container's address in the network that its default route of a family goes by, if the host's
// ports lead there.
std::optional<Address> PublishedBy(const record::v1::NetworkNamespace& netns,
                                   const std::vector<StoredEndpoint>& places, Family family) {
  const std::string& by =
      family == Family::kIpv4 ? netns.gateway_network() : netns.ipv6_gateway_network();
  const auto place = std::find_if(places.begin(), places.end(), [&by](const StoredEndpoint& one) {
    return one.network_id == by;
  });
  if (place == places.end() ||
      (family == Family::kIpv4 ? place->record.routed_ipv4() : place->record.routed_ipv6()))
    return std::nullopt;
  return AddressOf(place->record, family);
}

// The places' own addresses at which the container's published ports are reached.
std::vector<Address> OpenedAt(const std::vector<StoredEndpoint>& places, Family family) {
  std::vector<Address> addresses;
  for (const StoredEndpoint& one : places) {
    if (!(family == Family::kIpv4 ? one.record.opens_ipv4() : one.record.opens_ipv6())) continue;
    if (const std::optional<Address> address = AddressOf(one.record, family); address.has_value())
      addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace

std::vector<network::PublishedPort> PortsOf(const record::v1::NetworkNamespace& netns,
                                            const std::vector<StoredEndpoint>& places) {
  std::vector<network::PublishedPort> ports;
  for (const record::v1::NetworkPort& port : netns.ports()) {
    const absl::StatusOr<Address> host = Address::Parse(port.host_address());
    for (const Family family : {Family::kIpv4, Family::kIpv6}) {
      if (host.ok() && host->family() != family) continue;
      // The kernel does not let [::1] out of the host: the container's shim forwards it.
      if (host.ok() && family == Family::kIpv6 && host->is_loopback()) continue;
      network::PublishedPort published;
      published.protocol = ProtocolOf(port.protocol());
      published.container_port = static_cast<uint16_t>(port.container_port());
      // What is for the host itself is opened to nobody else.
      if (!host.ok() || !host->is_loopback()) {
        for (const Address& own : OpenedAt(places, family)) {
          const bool there = std::any_of(ports.begin(), ports.end(), [&](const auto& one) {
            return one.opened && one.protocol == published.protocol && one.container == own &&
                   one.container_port == published.container_port;
          });
          if (there) continue;
          network::PublishedPort& opened = ports.emplace_back(published);
          opened.opened = true;
          opened.container = own;
        }
      }
      const std::optional<Address> address = PublishedBy(netns, places, family);
      if (!address.has_value() || port.host_port() == 0) continue;
      if (host.ok() && !host->is_unspecified()) published.host = *host;
      published.host_port = static_cast<uint16_t>(port.host_port());
      published.container = *address;
      ports.push_back(published);
    }
  }
  return ports;
}

}  // namespace gantry::core
