// Records of networks as values that the kernel's side takes, and back. Pure.
//
// What was recorded was checked before: a value that does not parse is left out.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_RECORDS_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_RECORDS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "proto/record/v1/network.pb.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/network/address.h"
#include "supervisor/network/firewall.h"
#include "supervisor/network/ipam.h"
#include "supervisor/network/links.h"

namespace gantry::core {

// Options of networks and of places, by docker's names.
inline constexpr char kDeviceOption[] = "com.docker.network.bridge.name";
inline constexpr char kBetweenOption[] = "com.docker.network.bridge.enable_icc";
inline constexpr char kMasqueradeOption[] = "com.docker.network.bridge.enable_ip_masquerade";
// false: containers may send with addresses that are not theirs, as one that bridges or has a
// virtual address must.
inline constexpr char kCheckSourcesOption[] = "gantry.network.bridge.check_sources";
inline constexpr char kBindOption[] = "com.docker.network.bridge.host_binding_ipv4";
inline constexpr char kMtuOption[] = "com.docker.network.driver.mtu";
inline constexpr char kPrefixOption[] = "com.docker.network.container_iface_prefix";
inline constexpr char kDeviceNameOption[] = "com.docker.network.endpoint.ifname";
inline constexpr char kSysctlsOption[] = "com.docker.network.endpoint.sysctls";
inline constexpr char kInhibitOption[] = "com.docker.network.bridge.inhibit_ipv4";
// How each family of a bridge network is reached: nat, nat-unprotected, routed, isolated.
inline constexpr char kIpv4ModeOption[] = "com.docker.network.bridge.gateway_mode_ipv4";
inline constexpr char kIpv6ModeOption[] = "com.docker.network.bridge.gateway_mode_ipv6";
inline constexpr char kTrustedOption[] = "com.docker.network.bridge.trusted_host_interfaces";
inline constexpr char kDefaultBridgeOption[] = "com.docker.network.bridge.default_bridge";
// The host's address that what leaves has.
inline constexpr char kIpv4SourceOption[] = "com.docker.network.host_ipv4";
inline constexpr char kIpv6SourceOption[] = "com.docker.network.host_ipv6";
inline constexpr char kAnnounceTimesOption[] = "com.docker.network.advertise_addr_nmsgs";
inline constexpr char kAnnounceMillisecondsOption[] = "com.docker.network.advertise_addr_ms";
inline constexpr char kParentOption[] = "parent";
inline constexpr char kMacvlanModeOption[] = "macvlan_mode";
inline constexpr char kIpvlanModeOption[] = "ipvlan_mode";
inline constexpr char kIpvlanFlagOption[] = "ipvlan_flag";

// Whether one of docker's Boolean options is on.
bool IsOn(const google::protobuf::Map<std::string, std::string>& options, const char* key,
          bool otherwise);
// "" where it is not set.
std::string OptionOf(const google::protobuf::Map<std::string, std::string>& options,
                     const char* key);
// 0 where it is not set: the kernel's.
uint32_t MtuOf(const metadata::StoredNetwork& network);

// kInvalidArgument: another word.
absl::StatusOr<network::GatewayMode> ParseGatewayMode(absl::string_view text);
network::GatewayMode ModeOf(const metadata::StoredNetwork& network, network::Family family);
// Names of devices, joined by colons.
std::vector<std::string> TrustedDevices(
    const google::protobuf::Map<std::string, std::string>& options);
// Whether published ports are reached at containers' own addresses only, in each of its families.
bool IsRouted(const metadata::StoredNetwork& network);

network::Pool PoolOf(const record::v1::NetworkPool& in);
record::v1::NetworkPool RecordOf(const network::Pool& pool);

// What a place's options want of its device: files below /proc/sys and their values. The option is
// "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2", with IFNAME for the
// device's name.
//   kInvalidArgument  another form, or settings of more than the device
struct DeviceSetting {
  std::string path;  // "net/ipv4/conf/eth0/log_martians"
  std::string value;
};
absl::StatusOr<std::vector<DeviceSetting>> SettingsOf(const record::v1::NetworkEndpoint& place);
// kInvalidArgument, of field driver_options: a key that has no effect, or a bad value.
absl::Status CheckPlaceOptions(const record::v1::NetworkEndpoint& place);

network::FirewallNetwork RulesOf(const metadata::StoredNetwork& network);

// The links among places of one bridge network that keeps containers apart, and only those with
// `container_id` at one end unless it is "". None in other networks.
//   kInvalidArgument  a container exposes more ports than the rules take
absl::StatusOr<std::vector<network::BridgeLink>> LinksAmong(
    const metadata::StoredNetwork& network, const std::vector<metadata::StoredEndpoint>& places,
    absl::string_view container_id);

// 64 hexadecimal digits that follow from a text.
std::string IdOf(absl::string_view text);

// A name of 64 hexadecimal digits for the place, as docker's clients expect one.
std::string EndpointId(const metadata::StoredEndpoint& place);

// Addresses of a place, with the lengths of their subnets.
std::vector<network::InterfaceAddress> AddressesOf(const record::v1::NetworkEndpoint& endpoint);
std::optional<network::Address> AddressOf(const record::v1::NetworkEndpoint& endpoint,
                                          network::Family family);

// The MAC address that a place with this address has unless a person chose one.
network::MacAddress MacOf(const network::Address& address);

network::Protocol ProtocolOf(absl::string_view name);

// What the rules hold for a namespace: each of its ports once per family that a default route of
// its has, and once per place that opens it at its own address. `places` are those of this
// container.
std::vector<network::PublishedPort> PortsOf(const record::v1::NetworkNamespace& netns,
                                            const std::vector<metadata::StoredEndpoint>& places);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_RECORDS_H_
