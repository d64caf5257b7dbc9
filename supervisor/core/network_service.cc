#include "supervisor/core/network_service.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/core/event.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/filters.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/network/netns.h"
#include "supervisor/network/port_use.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;
using network::Address;
using network::Family;
using network::Prefix;

constexpr char kDefaultNetwork[] = "bridge";
constexpr char kDefaultDevice[] = "gantry0";
constexpr char kDeviceOption[] = "com.docker.network.bridge.name";
constexpr char kBetweenOption[] = "com.docker.network.bridge.enable_icc";
constexpr char kMasqueradeOption[] = "com.docker.network.bridge.enable_ip_masquerade";
// false: containers may send with addresses that are not theirs, as one that bridges or has a
// virtual address must.
constexpr char kCheckSourcesOption[] = "gantry.network.bridge.check_sources";
constexpr char kBindOption[] = "com.docker.network.bridge.host_binding_ipv4";
constexpr char kMtuOption[] = "com.docker.network.driver.mtu";

std::string RandomHex(size_t bytes) {
  std::string random(bytes, '\0');
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got = getrandom(random.data() + done, bytes - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
  return absl::BytesToHexString(random);
}

bool IsPredefined(absl::string_view name) {
  return name == "bridge" || name == "host" || name == "none" || name == "default";
}

bool IsTrue(const google::protobuf::Map<std::string, std::string>& options, const char* key,
            bool otherwise) {
  const auto it = options.find(key);
  return it == options.end() ? otherwise : it->second == "true" || it->second == "1";
}

absl::StatusOr<network::Pool> PoolOf(const v1::IpamPool& in) {
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

// What was recorded was checked before.
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

network::FirewallNetwork RulesOf(const StoredNetwork& network) {
  network::FirewallNetwork rules;
  rules.bridge = network.settings.device();
  for (const auto& pool : network.settings.pools()) rules.subnets.push_back(PoolOf(pool).subnet);
  rules.internal = network.settings.internal();
  rules.masquerade = IsTrue(network.record.options(), kMasqueradeOption, true);
  rules.between = IsTrue(network.record.options(), kBetweenOption, true);
  return rules;
}

struct EndpointAddress {
  Address address;
  int length;
};

std::vector<EndpointAddress> AddressesOf(const record::v1::NetworkEndpoint& endpoint) {
  std::vector<EndpointAddress> all;
  for (const std::string& text : endpoint.addresses()) {
    const std::vector<std::string> parts = absl::StrSplit(text, '/');
    const absl::StatusOr<Address> address = Address::Parse(parts[0]);
    int length = 0;
    if (address.ok() && parts.size() == 2 && absl::SimpleAtoi(parts[1], &length))
      all.push_back({*address, length});
  }
  return all;
}

network::Protocol ProtocolOf(absl::string_view name) {
  if (name == "udp") return network::Protocol::kUdp;
  return name == "sctp" ? network::Protocol::kSctp : network::Protocol::kTcp;
}

std::vector<network::PublishedPort> PortsOf(const record::v1::NetworkEndpoint& endpoint) {
  std::vector<network::PublishedPort> ports;
  for (const record::v1::NetworkPort& port : endpoint.ports()) {
    network::PublishedPort published;
    published.protocol = ProtocolOf(port.protocol());
    published.host_port = static_cast<uint16_t>(port.host_port());
    published.container_port = static_cast<uint16_t>(port.container_port());
    if (absl::StatusOr<Address> host = Address::Parse(port.host_address()); host.ok())
      published.host = *host;
    for (const EndpointAddress& one : AddressesOf(endpoint)) {
      if (published.host.has_value() && published.host->family() != one.address.family()) continue;
      published.container = one.address;
      ports.push_back(published);
    }
  }
  return ports;
}

// What the container's device may send into the bridge.
network::BridgePort BridgePortOf(network::Links& links, const StoredNetwork& network,
                                 const record::v1::NetworkEndpoint& endpoint) {
  network::BridgePort port;
  port.device = endpoint.host_device();
  port.mac = network::MacAddress::Parse(endpoint.mac_address()).value_or(network::MacAddress());
  for (const EndpointAddress& one : AddressesOf(endpoint)) port.addresses.push_back(one.address);
  port.check_sources = IsTrue(network.record.options(), kCheckSourcesOption, true);
  port.between = IsTrue(network.record.options(), kBetweenOption, true);
  if (!port.between) {
    const absl::StatusOr<network::LinkInfo> bridge = links.Find(network.settings.device());
    if (bridge.ok()) port.gateway = bridge->mac;
  }
  return port;
}

bool Collide(const record::v1::NetworkPort& a, const record::v1::NetworkPort& b) {
  return a.host_port() == b.host_port() && a.protocol() == b.protocol() &&
         (a.host_address().empty() || b.host_address().empty() ||
          a.host_address() == b.host_address());
}

// Whether a program of the host has the port.
bool HostHas(const record::v1::NetworkPort& port) {
  return network::PortInUse(port.host_address(), ProtocolOf(port.protocol()),
                            static_cast<uint16_t>(port.host_port()));
}

std::string PortText(const record::v1::NetworkPort& port) {
  return absl::StrCat(port.host_address().empty() ? "0.0.0.0" : port.host_address(), ":",
                      port.host_port(), "/", port.protocol());
}

// Host ports of one binding: "" and "0" any, "8080", or a range of which the first free one.
absl::StatusOr<record::v1::NetworkPort> ChoosePort(const v1::PortBinding& binding,
                                                   absl::string_view default_address,
                                                   const std::vector<StoredEndpoint>& all,
                                                   const record::v1::NetworkEndpoint& made) {
  record::v1::NetworkPort port;
  port.set_protocol(binding.protocol().empty() ? "tcp" : binding.protocol());
  port.set_container_port(binding.container_port());
  const std::string host =
      binding.host_ip().empty() ? std::string(default_address) : binding.host_ip();
  if (!host.empty()) {
    absl::StatusOr<Address> address = Address::Parse(host);
    if (!address.ok()) return FieldError("port_bindings", address.status().message());
    if (!address->is_unspecified()) port.set_host_address(address->ToString());
  }
  uint32_t first = 0;
  uint32_t last = 0;
  if (binding.host_port().empty() || binding.host_port() == "0") {
    // As the kernel's own ephemeral ports are by default.
    first = 32768;
    last = 60999;
  } else {
    const std::vector<std::string> ends = absl::StrSplit(binding.host_port(), '-');
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) ||
        !absl::SimpleAtoi(ends.back(), &last) || first == 0 || last > 65535 || first > last) {
      return FieldError("port_bindings",
                        absl::StrCat("\"", binding.host_port(), "\" is not a port or a range"));
    }
  }
  std::string holder;
  for (uint32_t number = first; number <= last; ++number) {
    port.set_host_port(number);
    holder.clear();
    for (const StoredEndpoint& other : all) {
      for (const record::v1::NetworkPort& one : other.record.ports()) {
        if (Collide(one, port)) holder = absl::StrCat("container ", other.record.container_name());
      }
    }
    for (const record::v1::NetworkPort& one : made.ports()) {
      if (Collide(one, port)) holder = "this container";
    }
    if (holder.empty() && HostHas(port)) holder = "a program of the host";
    if (holder.empty()) return port;
  }
  port.set_host_port(first);
  if (first != last) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ports from ", first, " to ", last, " are allocated"));
  }
  return absl::AlreadyExistsError(absl::StrCat(
      "Bind for ", PortText(port), " failed: port is already allocated; ", holder, " has it"));
}

absl::Status WriteSysctl(const std::string& name, absl::string_view value) {
  const std::string path = absl::StrCat("/proc/sys/net/", name);
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || write(fd.get(), value.data(), value.size()) < 0)
    return ErrnoToStatus(errno, absl::StrCat("setting net/", name));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NetworkService::Kernel*> NetworkService::OpenKernel() {
  {
    absl::MutexLock lock(&mu_);
    if (kernel_ != nullptr) return kernel_.get();
  }
  // Once: a second Firewall would write rules that the first has changed meanwhile.
  absl::MutexLock opening(&opening_);
  {
    absl::MutexLock lock(&mu_);
    if (kernel_ != nullptr) return kernel_.get();
  }
  auto opened = std::make_unique<Kernel>();
  const std::string table = network::TableName(parts_.state_directory);
  if (parts_.host_netns >= 0) {
    GANTRY_ASSIGN_OR_RETURN(opened->links, network::Links::OpenIn(parts_.host_netns));
    GANTRY_ASSIGN_OR_RETURN(opened->firewall, network::Firewall::OpenIn(parts_.host_netns, table));
  } else {
    GANTRY_ASSIGN_OR_RETURN(opened->links, network::Links::Open());
    GANTRY_ASSIGN_OR_RETURN(opened->firewall, network::Firewall::Open(table));
  }
  GANTRY_RETURN_IF_ERROR(WriteRules(*opened));
  GANTRY_ASSIGN_OR_RETURN(opened->guard, network::RulesGuard::Start(*opened->firewall));
  absl::MutexLock lock(&mu_);
  kernel_ = std::move(opened);
  return kernel_.get();
}

absl::Status NetworkService::WriteRules(Kernel& kernel) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> networks, parts_.store->List(""));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints,
                          parts_.store->AllEndpoints());
  std::vector<network::FirewallNetwork> rules;
  std::map<std::string, const StoredNetwork*> by_id;
  for (const StoredNetwork& one : networks) {
    rules.push_back(RulesOf(one));
    by_id.emplace(one.record.id(), &one);
  }
  std::vector<network::PublishedPort> ports;
  std::vector<network::BridgePort> bridge_ports;
  for (const StoredEndpoint& one : endpoints) {
    const std::vector<network::PublishedPort> its = PortsOf(one.record);
    ports.insert(ports.end(), its.begin(), its.end());
    if (const auto network = by_id.find(one.network_id); network != by_id.end())
      bridge_ports.push_back(BridgePortOf(*kernel.links, *network->second, one.record));
  }
  return kernel.firewall->Replace(rules, ports, bridge_ports);
}

absl::Status NetworkService::MakeBridge(Kernel& kernel, const StoredNetwork& network) {
  network::BridgeSpec bridge;
  bridge.name = network.settings.device();
  bridge.owner = absl::StrCat("network ", network.record.id());
  for (const auto& recorded : network.settings.pools()) {
    const network::Pool pool = PoolOf(recorded);
    if (pool.gateway.has_value()) bridge.addresses.push_back({*pool.gateway, pool.subnet.length()});
  }
  if (const auto mtu = network.record.options().find(kMtuOption);
      mtu != network.record.options().end())
    (void)absl::SimpleAtoi(mtu->second, &bridge.mtu);
  GANTRY_RETURN_IF_ERROR(kernel.links->EnsureBridge(bridge));
  const auto sysctls = [&]() -> absl::Status {
    GANTRY_RETURN_IF_ERROR(WriteSysctl("ipv4/ip_forward", "1"));
    // A connection to the host's 127.0.0.1 goes on to a container.
    GANTRY_RETURN_IF_ERROR(
        WriteSysctl(absl::StrCat("ipv4/conf/", bridge.name, "/route_localnet"), "1"));
    // A host without IPv6 has no such files.
    (void)WriteSysctl(absl::StrCat("ipv6/conf/", bridge.name, "/accept_ra"), "0");
    return network.settings.ipv6() ? WriteSysctl("ipv6/conf/all/forwarding", "1")
                                   : absl::OkStatus();
  };
  return parts_.host_netns >= 0 ? network::InNetns(parts_.host_netns, sysctls) : sysctls();
}

absl::StatusOr<StoredNetwork> NetworkService::MakeNetwork(const CallContext& context,
                                                          const v1::CreateNetworkRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(Kernel* const kernel, OpenKernel());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<network::TakenBlock> routed,
                          kernel->links->RoutedBlocks());
  StoredNetwork fresh;
  fresh.record.set_id(RandomHex(32));
  fresh.record.set_name(request.name());
  fresh.record.set_driver("bridge");
  *fresh.record.mutable_labels() = request.labels();
  *fresh.record.mutable_options() = request.options();
  SetTimestamp(parts_.clock->Now(), fresh.record.mutable_created_at());
  fresh.settings.set_internal(request.internal());
  fresh.settings.set_ipv6(request.ipv6());
  fresh.settings.set_attachable(request.attachable());
  fresh.settings.set_device_is_ours(true);
  const auto named = request.options().find(kDeviceOption);
  fresh.settings.set_device(named != request.options().end()
                                ? named->second
                                : absl::StrCat("br-", fresh.record.id().substr(0, 12)));

  const auto decide = [&](const std::vector<StoredNetwork>& all,
                          StoredNetwork& made) -> absl::Status {
    std::vector<network::TakenBlock> taken;
    for (const StoredNetwork& one : all) {
      if (one.settings.device() == made.settings.device()) {
        if (made.record.name() == kDefaultNetwork) {
          // Another namespace has the device of that name.
          made.settings.set_device(absl::StrCat("br-", made.record.id().substr(0, 12)));
        } else {
          return absl::AlreadyExistsError(absl::StrCat("bridge device ", made.settings.device(),
                                                       " belongs to network ", one.record.name()));
        }
      }
      for (const auto& pool : one.settings.pools())
        taken.push_back({PoolOf(pool).subnet, absl::StrCat("network ", one.record.name())});
    }
    made.settings.clear_pools();
    std::set<Family> families;
    for (const v1::IpamPool& asked : request.pools()) {
      GANTRY_ASSIGN_OR_RETURN(network::Pool pool, PoolOf(asked));
      if (!families.insert(pool.subnet.family()).second) {
        return FieldError("subnet", "bridge driver doesn't support multiple subnets of one family");
      }
      if (absl::Status complete = network::CompletePool(pool); !complete.ok())
        return FieldError("subnet", complete.message());
      for (const network::TakenBlock& other : taken) {
        if (!other.block.Overlaps(pool.subnet)) continue;
        return absl::AlreadyExistsError(absl::StrCat(
            "invalid pool request: Pool overlaps with other one on this address space: ",
            pool.subnet.ToString(), " and ", other.block.ToString(), " of ", other.owner));
      }
      *made.settings.add_pools() = RecordOf(pool);
    }
    std::vector<network::TakenBlock> in_use = taken;
    in_use.insert(in_use.end(), routed.begin(), routed.end());
    std::vector<network::PoolSource> sources = parts_.pools;
    sources.push_back(network::UniqueLocalPool(parts_.host_id));
    for (const Family family : {Family::kIpv4, Family::kIpv6}) {
      if (families.count(family) > 0 || (family == Family::kIpv6 && !request.ipv6())) continue;
      network::Pool pool;
      GANTRY_ASSIGN_OR_RETURN(pool.subnet, network::ChooseSubnet(sources, family, in_use));
      GANTRY_RETURN_IF_ERROR(network::CompletePool(pool));
      *made.settings.add_pools() = RecordOf(pool);
    }
    return absl::OkStatus();
  };
  GANTRY_ASSIGN_OR_RETURN(StoredNetwork made,
                          parts_.store->Create({context.ns, ""}, std::move(fresh), decide));
  CrashPoint("network.recorded");
  absl::Status ready = MakeBridge(*kernel, made);
  if (ready.ok()) ready = kernel->firewall->AddNetwork(RulesOf(made));
  if (ready.ok()) {
    Publish(made, action::kCreate);
    return made;
  }
  // A device that is not ours was left alone; ours goes.
  if (!absl::IsFailedPrecondition(ready)) (void)kernel->links->Delete(made.settings.device());
  const absl::Status undone = parts_.store->Delete({context.ns, ""}, made);
  LOG_IF(ERROR, !undone.ok()) << "network " << made.record.name() << ": " << undone;
  return ready;
}

absl::StatusOr<v1::CreateNetworkResponse> NetworkService::Create(
    const CallContext& context, const v1::CreateNetworkRequest& request) {
  const std::string& name = request.name();
  const bool plain =
      !name.empty() && name.size() <= 255 &&
      std::all_of(name.begin(), name.end(),
                  [](unsigned char c) { return isalnum(c) || c == '_' || c == '.' || c == '-'; }) &&
      isalnum(static_cast<unsigned char>(name.front()));
  if (!plain) {
    return FieldError("name", absl::StrCat("\"", absl::CHexEscape(name),
                                           "\" is not a network's name: letters, digits, _ . -, "
                                           "a letter or digit first"));
  }
  if (IsPredefined(name)) {
    return absl::FailedPreconditionError(
        absl::StrCat("operation is not permitted on predefined ", name, " network"));
  }
  if (!request.driver().empty() && request.driver() != "bridge" && request.driver() != "default") {
    return FieldError("driver", absl::StrCat("could not find plugin ", request.driver(),
                                             ": this version makes bridge networks only"));
  }
  static constexpr const char* kKnown[] = {kDeviceOption,       kBetweenOption, kMasqueradeOption,
                                           kCheckSourcesOption, kBindOption,    kMtuOption};
  for (const auto& [key, value] : request.options()) {
    if (std::find(std::begin(kKnown), std::end(kKnown), key) == std::end(kKnown)) {
      return FieldError("options", absl::StrCat("\"", absl::CHexEscape(key),
                                                "\" has no effect on a bridge network"));
    }
  }
  if (const auto bind = request.options().find(kBindOption); bind != request.options().end()) {
    if (absl::StatusOr<Address> address = Address::Parse(bind->second); !address.ok())
      return FieldError("options", address.status().message());
  }
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork made, MakeNetwork(context, request));
  v1::CreateNetworkResponse response;
  response.set_id(made.record.id());
  return response;
}

absl::StatusOr<StoredNetwork> NetworkService::FindOrMakeDefault(const CallContext& context,
                                                                absl::string_view text) {
  absl::StatusOr<StoredNetwork> found = parts_.store->Find({context.ns, ""}, text);
  if (!absl::IsNotFound(found.status()) || text != kDefaultNetwork) return found;
  v1::CreateNetworkRequest request;
  request.set_name(kDefaultNetwork);
  (*request.mutable_options())[kDeviceOption] = kDefaultDevice;
  found = MakeNetwork(context, request);
  // Another call has made it just now.
  if (absl::IsAlreadyExists(found.status())) return parts_.store->Find({context.ns, ""}, text);
  return found;
}

namespace {

v1::Network ViewOf(const StoredNetwork& network) {
  v1::Network view;
  view.set_id(network.record.id());
  view.set_name(network.record.name());
  view.set_driver(network.record.driver());
  for (const auto& recorded : network.settings.pools()) {
    v1::IpamPool* pool = view.add_pools();
    pool->set_subnet(recorded.subnet());
    pool->set_ip_range(recorded.ip_range());
    pool->set_gateway(recorded.gateway());
    *pool->mutable_auxiliary_addresses() = recorded.auxiliary_addresses();
  }
  view.set_internal(network.settings.internal());
  view.set_ipv6(network.settings.ipv6());
  view.set_attachable(network.settings.attachable());
  *view.mutable_labels() = network.record.labels();
  *view.mutable_options() = network.record.options();
  *view.mutable_created_at() = network.record.created_at();
  view.set_device(network.settings.device());
  return view;
}

// The networks that are always there and have no record.
v1::Network Predefined(absl::string_view name) {
  v1::Network view;
  view.set_name(std::string(name));
  view.set_driver(name == "none" ? "null" : std::string(name));
  return view;
}

}  // namespace

absl::StatusOr<v1::ListNetworksResponse> NetworkService::List(
    const CallContext& context, const v1::ListNetworksRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(
      const Filters filters,
      Filters::Parse(request.filters(), {"driver", "id", "name", "type", "dangling", "scope"}));
  for (const std::string& value : filters.Values("type")) {
    if (value != "custom" && value != "builtin")
      return FieldError("filters", absl::StrCat("invalid filter: 'type'='", value, "'"));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> stored, parts_.store->List(context.ns));
  std::vector<v1::Network> all;
  for (const StoredNetwork& one : stored) all.push_back(ViewOf(one));
  for (const char* name : {"bridge", "host", "none"}) {
    const bool there = std::any_of(all.begin(), all.end(),
                                   [name](const v1::Network& one) { return one.name() == name; });
    if (!there) all.push_back(Predefined(name));
  }
  std::sort(all.begin(), all.end(),
            [](const v1::Network& a, const v1::Network& b) { return a.name() < b.name(); });
  std::set<std::string> used;
  if (filters.Has("dangling")) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints,
                            parts_.store->AllEndpoints());
    for (const StoredEndpoint& one : endpoints) used.insert(one.network_id);
  }
  v1::ListNetworksResponse response;
  for (v1::Network& one : all) {
    const bool builtin = IsPredefined(one.name());
    const bool fits =
        filters.Any("driver", [&](const std::string& v) { return v == one.driver(); }) &&
        filters.Any("id", [&](const std::string& v) { return absl::StartsWith(one.id(), v); }) &&
        filters.Any("name",
                    [&](const std::string& v) { return absl::StrContains(one.name(), v); }) &&
        filters.Any("scope", [](const std::string& v) { return v == "local"; }) &&
        filters.Any("type", [&](const std::string& v) { return (v == "builtin") == builtin; }) &&
        filters.Any("dangling",
                    [&](const std::string& v) {
                      const bool dangling = !builtin && used.count(one.id()) == 0;
                      return (v == "true" || v == "1") == dangling;
                    }) &&
        filters.LabelsMatch(one.labels());
    if (fits) *response.add_networks() = std::move(one);
  }
  return response;
}

absl::StatusOr<v1::Network> NetworkService::Inspect(const CallContext& context,
                                                    absl::string_view text) {
  const absl::StatusOr<StoredNetwork> found = parts_.store->Find({context.ns, ""}, text);
  if (absl::IsNotFound(found.status()) && IsPredefined(text) && text != "default")
    return Predefined(text);
  GANTRY_RETURN_IF_ERROR(found.status());
  v1::Network view = ViewOf(*found);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints,
                          parts_.store->Endpoints(*found));
  for (const StoredEndpoint& one : endpoints) {
    v1::ConnectedContainer* endpoint = view.add_endpoints();
    endpoint->set_container_id(one.record.container_id());
    endpoint->set_container_name(one.record.container_name());
    endpoint->set_mac_address(one.record.mac_address());
    *endpoint->mutable_addresses() = one.record.addresses();
  }
  return view;
}

absl::StatusOr<v1::RemoveNetworkResponse> NetworkService::Remove(const CallContext& context,
                                                                 absl::string_view text) {
  if (IsPredefined(text)) {
    return absl::FailedPreconditionError(
        absl::StrCat(text, " is a pre-defined network and cannot be removed"));
  }
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork found, parts_.store->Find({context.ns, ""}, text));
  GANTRY_RETURN_IF_ERROR(parts_.store->Delete({context.ns, ""}, found));
  CrashPoint("network.forgotten");
  // What stays after a failure has no record: the next start takes it away.
  GANTRY_ASSIGN_OR_RETURN(Kernel* const kernel, OpenKernel());
  absl::Status gone = kernel->firewall->RemoveNetwork(RulesOf(found));
  if (absl::IsNotFound(gone)) gone = absl::OkStatus();
  if (found.settings.device_is_ours()) gone.Update(kernel->links->Delete(found.settings.device()));
  LOG_IF(WARNING, !gone.ok()) << "network " << found.record.name() << ": " << gone;
  Publish(found, action::kDestroy);
  v1::RemoveNetworkResponse response;
  response.set_name(found.record.name());
  return response;
}

absl::StatusOr<v1::PruneNetworksResponse> NetworkService::Prune(
    const CallContext& context, const v1::PruneNetworksRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const Filters filters, Filters::Parse(request.filters(), {"until"}));
  std::optional<absl::Time> until;
  for (const std::string& value : filters.Values("until")) {
    GANTRY_ASSIGN_OR_RETURN(until, ParseMoment("until", value, parts_.clock->Now()));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> all, parts_.store->List(context.ns));
  v1::PruneNetworksResponse response;
  for (const StoredNetwork& one : all) {
    const absl::Time created = absl::FromUnixSeconds(one.record.created_at().seconds()) +
                               absl::Nanoseconds(one.record.created_at().nanos());
    if (IsPredefined(one.record.name()) || !filters.LabelsMatch(one.record.labels()) ||
        (until.has_value() && created > *until))
      continue;
    absl::StatusOr<v1::RemoveNetworkResponse> removed = Remove(context, one.record.id());
    if (removed.ok()) {
      response.add_names(one.record.name());
    } else if (!absl::IsFailedPrecondition(removed.status()) &&
               !absl::IsNotFound(removed.status())) {
      return removed.status();
    }
  }
  return response;
}

std::string NetworkService::NetnsPath(absl::string_view ns, absl::string_view container_id) const {
  return absl::StrCat(parts_.state_directory, "/netns/", ns, "/", container_id);
}

absl::StatusOr<NetworkService::Place> NetworkService::Connect(const CallContext& context,
                                                              absl::string_view network,
                                                              absl::string_view container_id,
                                                              absl::string_view container_name,
                                                              const v1::ContainerConfig& config) {
  GANTRY_RETURN_IF_ERROR(Disconnect(context, container_id));
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork found, FindOrMakeDefault(context, network));
  GANTRY_ASSIGN_OR_RETURN(Kernel* const kernel, OpenKernel());

  record::v1::NetworkEndpoint fresh;
  fresh.set_container_id(std::string(container_id));
  fresh.set_container_name(std::string(container_name));
  fresh.set_container_device("eth0");
  fresh.set_host_device(absl::StrCat("veth", RandomHex(4).substr(0, 7)));
  if (config.mac_address().empty()) {
    fresh.set_mac_address(network::MacAddress::Random().ToString());
  } else {
    absl::StatusOr<network::MacAddress> mac = network::MacAddress::Parse(config.mac_address());
    if (!mac.ok()) return FieldError("mac_address", mac.status().message());
    fresh.set_mac_address(mac->ToString());
  }
  std::vector<std::string> wanted;
  for (const v1::NetworkAttachment& attachment : config.networks()) {
    if (attachment.network() != network) continue;
    if (!attachment.ipv4_address().empty()) wanted.push_back(attachment.ipv4_address());
    if (!attachment.ipv6_address().empty()) wanted.push_back(attachment.ipv6_address());
  }
  const auto bind = found.record.options().find(kBindOption);
  const std::string default_address =
      bind == found.record.options().end() ? std::string() : bind->second;

  const auto decide = [&](const std::vector<StoredEndpoint>& all,
                          record::v1::NetworkEndpoint& made) -> absl::Status {
    std::set<Address> taken;
    for (const StoredEndpoint& one : all) {
      if (one.network_id != found.record.id()) continue;
      for (const EndpointAddress& address : AddressesOf(one.record)) taken.insert(address.address);
    }
    made.clear_addresses();
    made.clear_ports();
    std::vector<Address> asked;
    for (const std::string& text : wanted) {
      absl::StatusOr<Address> address = Address::Parse(text);
      if (!address.ok()) return FieldError("ip_address", address.status().message());
      asked.push_back(*address);
    }
    for (const auto& recorded : found.settings.pools()) {
      const network::Pool pool = PoolOf(recorded);
      const auto mine = std::find_if(asked.begin(), asked.end(), [&pool](const Address& one) {
        return one.family() == pool.subnet.family();
      });
      Address address;
      if (mine != asked.end()) {
        address = *mine;
        asked.erase(mine);
        const absl::Status possible = network::CheckAddress(pool, taken, address);
        if (absl::IsInvalidArgument(possible)) return FieldError("ip_address", possible.message());
        GANTRY_RETURN_IF_ERROR(possible);
      } else {
        GANTRY_ASSIGN_OR_RETURN(address, network::ChooseAddress(pool, taken));
      }
      made.add_addresses(absl::StrCat(address.ToString(), "/", pool.subnet.length()));
    }
    if (!asked.empty()) {
      return FieldError("ip_address",
                        absl::StrCat("invalid endpoint settings:\nno configured subnet contains "
                                     "IP address ",
                                     asked.front().ToString()));
    }
    if (found.settings.internal()) return absl::OkStatus();
    for (const v1::PortBinding& binding : config.port_bindings()) {
      GANTRY_ASSIGN_OR_RETURN(*made.add_ports(), ChoosePort(binding, default_address, all, made));
    }
    return absl::OkStatus();
  };
  StoredEndpoint endpoint;
  endpoint.ns = context.ns;
  endpoint.network_id = found.record.id();
  GANTRY_ASSIGN_OR_RETURN(endpoint.record,
                          parts_.store->AddEndpoint(found, std::move(fresh), decide));
  CrashPoint("endpoint.recorded");
  if (absl::Status made = MakePlace(*kernel, found, endpoint); !made.ok()) {
    const absl::Status undone = TakePlaceAway(endpoint);
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " id=" << container_id << " " << undone;
    return made;
  }
  Publish(found, "connect", container_id);
  Place place;
  place.netns = NetnsPath(context.ns, container_id);
  for (const EndpointAddress& one : AddressesOf(endpoint.record))
    place.addresses.push_back(one.address.ToString());
  return place;
}

absl::Status NetworkService::MakePlace(Kernel& kernel, const StoredNetwork& network,
                                       const StoredEndpoint& endpoint) {
  const std::string path = NetnsPath(endpoint.ns, endpoint.record.container_id());
  GANTRY_RETURN_IF_ERROR(MakeDirectories(path.substr(0, path.rfind('/')), 0700));
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return ErrnoToStatus(errno, path);
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd netns, network::NewNetns());
  // The mount keeps it for as long as the container has its place, whatever becomes of us.
  const std::string source = absl::StrCat("/proc/self/fd/", netns.get());
  if (mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return ErrnoToStatus(errno, absl::StrCat("keeping the network namespace ", path));
  CrashPoint("netns.kept");

  network::VethSpec veth;
  veth.host_name = endpoint.record.host_device();
  veth.owner = absl::StrCat("endpoint ", endpoint.record.container_id());
  veth.bridge = network.settings.device();
  veth.container_name = endpoint.record.container_device();
  GANTRY_ASSIGN_OR_RETURN(veth.mac, network::MacAddress::Parse(endpoint.record.mac_address()));
  veth.hairpin = true;
  if (const auto mtu = network.record.options().find(kMtuOption);
      mtu != network.record.options().end())
    (void)absl::SimpleAtoi(mtu->second, &veth.mtu);
  GANTRY_RETURN_IF_ERROR(kernel.firewall->Join(
      BridgePortOf(*kernel.links, network, endpoint.record), PortsOf(endpoint.record)));
  GANTRY_RETURN_IF_ERROR(kernel.links->MakeVeth(veth, netns.get()));
  CrashPoint("veth.made");

  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<network::Links> inside,
                          network::Links::OpenIn(netns.get()));
  GANTRY_RETURN_IF_ERROR(inside->SetUp("lo"));
  std::vector<network::InterfaceAddress> addresses;
  for (const EndpointAddress& one : AddressesOf(endpoint.record))
    addresses.push_back({one.address, one.length});
  GANTRY_RETURN_IF_ERROR(inside->Configure(veth.container_name, addresses));
  if (!network.settings.internal()) {
    for (const auto& recorded : network.settings.pools()) {
      const network::Pool pool = PoolOf(recorded);
      if (pool.gateway.has_value()) GANTRY_RETURN_IF_ERROR(inside->SetDefaultRoute(*pool.gateway));
    }
  }
  return absl::OkStatus();
}

absl::Status NetworkService::TakePlaceAway(const StoredEndpoint& endpoint) {
  GANTRY_ASSIGN_OR_RETURN(Kernel* const kernel, OpenKernel());
  // The device goes first: none is without its rules.
  GANTRY_RETURN_IF_ERROR(kernel->links->Delete(endpoint.record.host_device()));
  GANTRY_RETURN_IF_ERROR(
      kernel->firewall->Leave(endpoint.record.host_device(), PortsOf(endpoint.record)));
  const std::string path = NetnsPath(endpoint.ns, endpoint.record.container_id());
  if (umount2(path.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT)
    return ErrnoToStatus(errno, absl::StrCat("unmounting ", path));
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoToStatus(errno, path);
  CrashPoint("netns.gone");
  GANTRY_RETURN_IF_ERROR(parts_.store->RemoveEndpoint(endpoint));
  const absl::StatusOr<StoredNetwork> network =
      parts_.store->Find({endpoint.ns, ""}, endpoint.network_id);
  if (network.ok()) Publish(*network, "disconnect", endpoint.record.container_id());
  return absl::OkStatus();
}

void NetworkService::Publish(const StoredNetwork& network, absl::string_view action,
                             absl::string_view container_id) const {
  if (parts_.events == nullptr) return;
  Event::Attributes attributes = {{"name", network.record.name()},
                                  {"type", network.record.driver()}};
  if (!container_id.empty()) attributes.emplace("container", container_id);
  parts_.events->Publish(
      network.ns, Event(EventKind::kNetwork, action, network.record.id(), std::move(attributes)));
}

absl::Status NetworkService::Disconnect(const CallContext& context,
                                        absl::string_view container_id) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> places,
                          parts_.store->EndpointsOf(context.ns, container_id));
  absl::Status first;
  for (const StoredEndpoint& place : places) first.Update(TakePlaceAway(place));
  return first;
}

absl::StatusOr<NetworkService::Held> NetworkService::Holds(const CallContext& context,
                                                           absl::string_view container_id) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> places,
                          parts_.store->EndpointsOf(context.ns, container_id));
  Held held;
  for (const StoredEndpoint& place : places) {
    GANTRY_ASSIGN_OR_RETURN(const StoredNetwork network,
                            parts_.store->Find({context.ns, ""}, place.network_id));
    v1::NetworkEndpoint endpoint;
    endpoint.set_network(network.record.name());
    endpoint.set_network_id(network.record.id());
    endpoint.set_endpoint_id(place.record.container_id());
    endpoint.set_mac_address(place.record.mac_address());
    for (const EndpointAddress& one : AddressesOf(place.record)) {
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
    held.endpoints.push_back(std::move(endpoint));
    for (const network::PublishedPort& port : PortsOf(place.record)) {
      v1::PublishedPort shown;
      const bool ipv4 = port.container.family() == Family::kIpv4;
      shown.set_ip(port.host.has_value() ? port.host->ToString() : ipv4 ? "0.0.0.0" : "::");
      shown.set_private_port(port.container_port);
      shown.set_public_port(port.host_port);
      shown.set_protocol(std::string(network::ProtocolName(port.protocol)));
      held.ports.push_back(std::move(shown));
    }
  }
  return held;
}

absl::Status NetworkService::Reconcile(
    const std::function<bool(absl::string_view ns, absl::string_view container_id)>& runs) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> networks, parts_.store->List(""));
  if (networks.empty()) return absl::OkStatus();
  // Writes the rules, and thereby closes the ports of those that have gone once their records are.
  GANTRY_ASSIGN_OR_RETURN(Kernel* const kernel, OpenKernel());
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints,
                          parts_.store->AllEndpoints());
  std::set<std::string> kept;
  for (const StoredEndpoint& one : endpoints) {
    if (runs(one.ns, one.record.container_id())) {
      kept.insert(one.record.host_device());
      continue;
    }
    const absl::Status gone = TakePlaceAway(one);
    // One container's trouble keeps none of the others, nor the daemon, from starting.
    LOG_IF(ERROR, !gone.ok()) << "ns=" << one.ns << " id=" << one.record.container_id() << " "
                              << gone;
  }
  for (const StoredNetwork& one : networks) {
    kept.insert(one.settings.device());
    const absl::Status made = MakeBridge(*kernel, one);
    LOG_IF(ERROR, !made.ok()) << "network " << one.record.name() << ": " << made;
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<network::LinkInfo> links, kernel->links->List());
  for (const network::LinkInfo& link : links) {
    if (!absl::StartsWith(link.alias, absl::StrCat(network::kOurs, "endpoint ")) ||
        kept.count(link.name) > 0)
      continue;
    const absl::Status gone = kernel->links->Delete(link.name);
    LOG(INFO) << "network device " << link.name << " of a container that is not there: " << gone;
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
