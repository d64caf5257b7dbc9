#include "supervisor/core/network_records.h"

#include <openssl/sha.h>

#include <algorithm>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/field_error.h"

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

network::Protocol ProtocolOf(absl::string_view name) {
  if (name == "udp") return network::Protocol::kUdp;
  return name == "sctp" ? network::Protocol::kSctp : network::Protocol::kTcp;
}

namespace {

// A container's address in the network that its default route of a family goes by.
std::optional<Address> PublishedBy(const record::v1::NetworkNamespace& netns,
                                   const std::vector<StoredEndpoint>& places, Family family) {
  const std::string& by =
      family == Family::kIpv4 ? netns.gateway_network() : netns.ipv6_gateway_network();
  const auto place = std::find_if(places.begin(), places.end(), [&by](const StoredEndpoint& one) {
    return one.network_id == by;
  });
  return place == places.end() ? std::nullopt : AddressOf(place->record, family);
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
      const std::optional<Address> address = PublishedBy(netns, places, family);
      if (!address.has_value()) continue;
      network::PublishedPort published;
      if (host.ok() && !host->is_unspecified()) published.host = *host;
      published.protocol = ProtocolOf(port.protocol());
      published.host_port = static_cast<uint16_t>(port.host_port());
      published.container = *address;
      published.container_port = static_cast<uint16_t>(port.container_port());
      ports.push_back(published);
    }
  }
  return ports;
}

}  // namespace gantry::core
