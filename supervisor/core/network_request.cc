#include "supervisor/core/network_request.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/network_records.h"

namespace gantry::core {
namespace {

using metadata::StoredNetwork;
using network::Address;
using network::Family;
using network::Prefix;

constexpr char kDefaultDevice[] = "gantry0";
constexpr char kIpv4Option[] = "com.docker.network.enable_ipv4";
constexpr char kIpv6Option[] = "com.docker.network.enable_ipv6";

absl::StatusOr<network::Pool> PoolOfRequest(const v1::IpamPool& in) {
  network::Pool pool;
  absl::StatusOr<Prefix> subnet = Prefix::Parse(in.subnet());
  if (!subnet.ok()) return FieldError("subnet", subnet.status().message());
  pool.subnet = *subnet;
  if (!in.ip_range().empty()) {
    absl::StatusOr<Prefix> range = Prefix::Parse(in.ip_range());
    if (!range.ok()) return FieldError("ip_range", range.status().message());
    pool.range = *range;
  }
  if (!in.gateway().empty()) {
    absl::StatusOr<Address> gateway = Address::Parse(in.gateway());
    if (!gateway.ok()) return FieldError("gateway", gateway.status().message());
    pool.gateway = *gateway;
  }
  for (const auto& [name, text] : in.auxiliary_addresses()) {
    absl::StatusOr<Address> address = Address::Parse(text);
    if (!address.ok()) return FieldError("aux_address", address.status().message());
    pool.auxiliary.emplace(name, *address);
  }
  return pool;
}

absl::Status CheckName(const std::string& name) {
  const bool plain =
      !name.empty() && name.size() <= 255 &&
      std::all_of(name.begin(), name.end(),
                  [](unsigned char c) { return isalnum(c) || c == '_' || c == '.' || c == '-'; }) &&
      isalnum(static_cast<unsigned char>(name.front()));
  if (plain) return absl::OkStatus();
  return FieldError("name", absl::StrCat("\"", absl::CHexEscape(name),
                                         "\" is not a network's name: letters, digits, _ . -, "
                                         "a letter or digit first"));
}

absl::StatusOr<std::string> DriverOf(const std::string& asked) {
  if (asked.empty() || asked == "bridge" || asked == "default") return std::string("bridge");
  if (asked == "macvlan" || asked == "ipvlan") return asked;
  if (asked == "host" || asked == "null" || asked == "none") {
    return absl::FailedPreconditionError(
        absl::StrCat("only one instance of \"", asked, "\" network is allowed"));
  }
  if (asked == "overlay") {
    return FieldError("driver",
                      "overlay networks span hosts, which this engine leaves to Kubernetes and its "
                      "CNI plugins; on one host use bridge");
  }
  return FieldError("driver", absl::StrCat("could not find plugin ", absl::CHexEscape(asked),
                                           "; drivers are bridge, macvlan and ipvlan"));
}

absl::Status BadValue(const std::string& key, const std::string& value, absl::string_view why) {
  return FieldError("options", absl::StrCat("failed to parse ", key,
                                            " value: ", absl::CHexEscape(value), " (", why, ")"));
}

absl::Status CheckOption(absl::string_view driver, const std::string& key,
                         const std::string& value) {
  static constexpr const char* kSwitches[] = {kIpv4Option, kIpv6Option};
  static constexpr const char* kBridgeSwitches[] = {
      kBetweenOption, kMasqueradeOption, kCheckSourcesOption, kInhibitOption, kDefaultBridgeOption};
  const auto among = [&key](const auto& list) {
    return std::find(std::begin(list), std::end(list), key) != std::end(list);
  };
  const bool bridge = driver == "bridge";
  if (among(kSwitches) || (bridge && among(kBridgeSwitches))) {
    bool parsed = false;
    if (!absl::SimpleAtob(value, &parsed)) return BadValue(key, value, "true or false");
    if (key != kDefaultBridgeOption || !parsed) return absl::OkStatus();
    return BadValue(key, value, "the default network is the one that is named bridge");
  }
  if (key == kAnnounceTimesOption || key == kAnnounceMillisecondsOption) {
    const bool times = key == kAnnounceTimesOption;
    uint32_t number = 0;
    if (absl::SimpleAtoi(value, &number) && (times ? number <= 3 : number >= 100 && number <= 2000))
      return absl::OkStatus();
    return BadValue(key, value, times ? "0 to 3 announcements" : "100 to 2000 milliseconds");
  }
  if (bridge && (key == kIpv4ModeOption || key == kIpv6ModeOption)) {
    const absl::Status known = ParseGatewayMode(value).status();
    return known.ok() ? known : BadValue(key, value, known.message());
  }
  if (bridge && (key == kIpv4SourceOption || key == kIpv6SourceOption)) {
    const Family family = key == kIpv4SourceOption ? Family::kIpv4 : Family::kIpv6;
    const absl::StatusOr<Address> address = Address::Parse(value);
    if (address.ok() && address->family() == family && !address->is_unspecified())
      return absl::OkStatus();
    return BadValue(
        key, value,
        family == Family::kIpv4 ? "an IPv4 address of the host" : "an IPv6 address of the host");
  }
  if (bridge && key == kTrustedOption) {
    const std::vector<std::string> devices = absl::StrSplit(value, ':');
    const bool plain = std::all_of(devices.begin(), devices.end(), [](const std::string& one) {
      return !one.empty() && one.size() <= 15 &&
             std::all_of(one.begin(), one.end(), [](unsigned char c) {
               return isalnum(c) || c == '-' || c == '_' || c == '.';
             });
    });
    return plain
               ? absl::OkStatus()
               : BadValue(key, value, "names of devices, joined by colons: letters, digits, - _ .");
  }
  if (key == kMtuOption) {
    uint32_t mtu = 0;
    if (absl::SimpleAtoi(value, &mtu) && (mtu == 0 || (mtu >= 68 && mtu <= 65535)))
      return absl::OkStatus();
    return BadValue(key, value, "an MTU is from 68 to 65535");
  }
  if (key == kPrefixOption) {
    // With its number the name has 15 characters at most.
    if (!value.empty() && value.size() <= 12 && value != "." &&
        value.find_first_of("/ :\t\n") == std::string::npos)
      return absl::OkStatus();
    return BadValue(key, value, "1 to 12 characters without / : and spaces");
  }
  if (bridge && key == kDeviceOption) return absl::OkStatus();  // the kernel's own rule
  if (bridge && key == kBindOption) {
    const absl::StatusOr<Address> address = Address::Parse(value);
    return address.ok() ? absl::OkStatus() : BadValue(key, value, address.status().message());
  }
  if (!bridge && key == kParentOption) return absl::OkStatus();
  const auto one_of = [&](std::initializer_list<absl::string_view> modes, absl::string_view usual) {
    if (std::find(modes.begin(), modes.end(), value) != modes.end()) return absl::OkStatus();
    return FieldError("options", absl::StrCat("requested ", driver, " mode '",
                                              absl::CHexEscape(value), "' is not valid, '", usual,
                                              "' mode is the ", driver, " driver default"));
  };
  if (driver == "macvlan" && key == kMacvlanModeOption)
    return one_of({"bridge", "private", "vepa", "passthru"}, "bridge");
  if (driver == "ipvlan" && key == kIpvlanModeOption) return one_of({"l2", "l3", "l3s"}, "l2");
  if (driver == "ipvlan" && key == kIpvlanFlagOption)
    return one_of({"bridge", "private", "vepa"}, "bridge");
  return FieldError("options", absl::StrCat("\"", absl::CHexEscape(key), "\" has no effect on a ",
                                            driver, " network"));
}

// The device that a network stands on, and whether it is made and removed with it.
absl::Status ChooseDevice(const v1::CreateNetworkRequest& request, StoredNetwork& made) {
  const std::string short_id = made.record.id().substr(0, 12);
  if (made.record.driver() == "bridge") {
    const std::string named = OptionOf(request.options(), kDeviceOption);
    made.settings.set_device(!named.empty() ? named
                             : made.record.name() == kDefaultNetwork
                                 ? kDefaultDevice
                                 : absl::StrCat("br-", short_id));
    made.settings.set_device_is_ours(true);
    return absl::OkStatus();
  }
  const std::string parent = OptionOf(request.options(), kParentOption);
  if (parent.empty()) {
    made.settings.set_device(
        absl::StrCat(made.record.driver() == "macvlan" ? "dm-" : "di-", short_id));
    made.settings.set_device_is_ours(true);
    made.settings.set_internal(true);
    return absl::OkStatus();
  }
  if (parent == "lo") {
    return FieldError("options", absl::StrCat("loopback interface is not a valid ",
                                              made.record.driver(), " parent link"));
  }
  made.settings.set_device(parent);
  // Of the form eth0.10 it may be a VLAN's, to be made if it is not there.
  const size_t dot = parent.rfind('.');
  if (dot == std::string::npos) return absl::OkStatus();
  int vlan = 0;
  if (dot == 0 || !absl::SimpleAtoi(parent.substr(dot + 1), &vlan) || vlan < 1 || vlan > 4094) {
    return FieldError("options", absl::StrCat("invalid subinterface vlan name ", parent,
                                              ", example formatting is eth0.10"));
  }
  return absl::OkStatus();
}

// "0.0.0.0/28" and "::/80": any free block of this size.
bool IsAnyBlock(const network::Pool& pool) {
  return pool.subnet.first().is_unspecified() && pool.subnet.length() > 0;
}

absl::Status CompletePool(const StoredNetwork& network, network::Pool& pool) {
  // Where the host has no address of its own in the network, none is kept free for it.
  const bool bridge = network.record.driver() == "bridge" &&
                      ModeOf(network, pool.subnet.family()) != network::GatewayMode::kIsolated;
  if (bridge || pool.gateway.has_value()) {
    const absl::Status complete = network::CompletePool(pool);
    return complete.ok() ? complete : FieldError("subnet", complete.message());
  }
  // Without a router that a person names, a shared wire has none that we know of.
  const std::vector<std::string> problems = network::PoolProblems(pool);
  if (problems.empty()) return absl::OkStatus();
  return FieldError("subnet",
                    absl::StrCat("invalid network config:\n", absl::StrJoin(problems, "\n")));
}

}  // namespace

bool IsPredefinedNetwork(absl::string_view name) {
  return name == kDefaultNetwork || name == "host" || name == "none" || name == "default";
}

absl::StatusOr<StoredNetwork> NetworkOfRequest(const v1::CreateNetworkRequest& request,
                                               absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(CheckName(request.name()));
  StoredNetwork made;
  made.record.set_id(std::string(id));
  made.record.set_name(request.name());
  GANTRY_ASSIGN_OR_RETURN(*made.record.mutable_driver(), DriverOf(request.driver()));
  const std::string& driver = made.record.driver();
  for (const auto& [key, value] : request.options())
    GANTRY_RETURN_IF_ERROR(CheckOption(driver, key, value));
  *made.record.mutable_labels() = request.labels();
  *made.record.mutable_options() = request.options();
  made.settings.set_internal(request.internal());
  made.settings.set_attachable(request.attachable());
  made.settings.set_ipv6(IsOn(request.options(), kIpv6Option, request.ipv6()));
  made.settings.set_no_ipv4(!IsOn(request.options(), kIpv4Option, !request.no_ipv4()));
  made.settings.set_configuration_only(request.configuration_only());
  if (made.settings.no_ipv4() && !made.settings.ipv6())
    return FieldError("ipv4", "IPv4 or IPv6 must be enabled");
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    if (ModeOf(made, family) == network::GatewayMode::kIsolated && !request.internal() &&
        !request.configuration_only()) {
      return FieldError("options",
                        "gateway mode 'isolated' can only be used for an internal network");
    }
  }
  if (request.configuration_only()) return made;
  GANTRY_RETURN_IF_ERROR(ChooseDevice(request, made));
  return made;
}

absl::Status ChooseSubnets(const v1::CreateNetworkRequest& request, const SubnetSources& sources,
                           const std::vector<StoredNetwork>& all, StoredNetwork& made) {
  const bool bridge = made.record.driver() == "bridge";
  std::vector<network::TakenBlock> taken;
  for (const StoredNetwork& one : all) {
    if (one.settings.configuration_only()) continue;
    if (!made.settings.configuration_only() && one.settings.device() == made.settings.device()) {
      if (bridge && made.record.name() == kDefaultNetwork) {
        // Another namespace has the device of that name.
        made.settings.set_device(absl::StrCat("br-", made.record.id().substr(0, 12)));
      } else if (bridge || one.record.driver() == "bridge") {
        return absl::AlreadyExistsError(absl::StrCat("bridge device ", made.settings.device(),
                                                     " belongs to network ", one.record.name()));
      } else if (made.record.driver() == "ipvlan" || one.record.driver() == "ipvlan" ||
                 OptionOf(made.record.options(), kMacvlanModeOption) == "passthru" ||
                 OptionOf(one.record.options(), kMacvlanModeOption) == "passthru") {
        return absl::AlreadyExistsError(absl::StrCat("network ", one.record.name(),
                                                     " is already using parent interface ",
                                                     made.settings.device()));
      }
    }
    for (const auto& pool : one.settings.pools())
      taken.push_back({PoolOf(pool).subnet, absl::StrCat("network ", one.record.name())});
  }
  std::vector<network::TakenBlock> in_use = taken;
  in_use.insert(in_use.end(), sources.in_use.begin(), sources.in_use.end());
  made.settings.clear_pools();
  made.settings.set_gateway_was_given(false);
  // The default network is made with its first container. Its subnet is kept free until then, so
  // that it does not depend on which network was first.
  const bool has_default = std::any_of(all.begin(), all.end(), [](const StoredNetwork& one) {
    return one.record.name() == kDefaultNetwork;
  });
  if (!has_default && made.record.name() != kDefaultNetwork) {
    const absl::StatusOr<Prefix> kept = network::ChooseSubnet(sources.pools, Family::kIpv4, in_use);
    if (kept.ok()) in_use.push_back({*kept, absl::StrCat("network ", kDefaultNetwork)});
  }
  std::set<Family> families;
  for (const v1::IpamPool& asked : request.pools()) {
    GANTRY_ASSIGN_OR_RETURN(network::Pool pool, PoolOfRequest(asked));
    const Family family = pool.subnet.family();
    if (family == Family::kIpv6) made.settings.set_ipv6(true);
    if (family == Family::kIpv4 && made.settings.no_ipv4()) {
      return FieldError(
          "subnet", absl::StrCat(pool.subnet.ToString(), " needs IPv4 enabled for the network"));
    }
    if (!families.insert(family).second && bridge) {
      return FieldError("subnet", "bridge driver doesn't support multiple subnets of one family");
    }
    if (IsAnyBlock(pool)) {
      std::vector<network::PoolSource> sized = sources.pools;
      for (network::PoolSource& one : sized) {
        if (one.base.family() == family)
          one.length = std::max(pool.subnet.length(), one.base.length());
      }
      GANTRY_ASSIGN_OR_RETURN(pool.subnet, network::ChooseSubnet(sized, family, in_use));
    }
    if (pool.gateway.has_value()) made.settings.set_gateway_was_given(true);
    if (!made.settings.configuration_only()) GANTRY_RETURN_IF_ERROR(CompletePool(made, pool));
    for (const network::TakenBlock& other : taken) {
      if (made.settings.configuration_only() || !other.block.Overlaps(pool.subnet)) continue;
      return absl::AlreadyExistsError(absl::StrCat(
          "invalid pool request: Pool overlaps with other one on this address space: ",
          pool.subnet.ToString(), " and ", other.block.ToString(), " of ", other.owner));
    }
    in_use.push_back({pool.subnet, "this network"});
    *made.settings.add_pools() = RecordOf(pool);
  }
  if (made.settings.configuration_only()) return absl::OkStatus();
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const bool wanted = family == Family::kIpv4 ? !made.settings.no_ipv4() : made.settings.ipv6();
    if (families.count(family) > 0 || !wanted) continue;
    network::Pool pool;
    GANTRY_ASSIGN_OR_RETURN(pool.subnet, network::ChooseSubnet(sources.pools, family, in_use));
    GANTRY_RETURN_IF_ERROR(CompletePool(made, pool));
    *made.settings.add_pools() = RecordOf(pool);
  }
  return absl::OkStatus();
}

std::vector<network::TakenBlock> NameServersIn(absl::string_view resolv_conf) {
  std::vector<network::TakenBlock> servers;
  for (absl::string_view line : absl::StrSplit(resolv_conf, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.size() < 2 || words[0] != "nameserver") continue;
    const absl::StatusOr<Address> address = Address::Parse(words[1].substr(0, words[1].find('%')));
    if (address.ok()) servers.push_back({Prefix::Around(*address, address->bits()), "name server"});
  }
  return servers;
}

}  // namespace gantry::core
