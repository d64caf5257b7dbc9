#include "supervisor/core/network_request.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/networks.pb.h"

namespace gantry::core {
namespace {

using metadata::StoredNetwork;
using testing::HasSubstr;

constexpr char kId[] = "0123456789abcdef0123456789abcdef";

v1::CreateNetworkRequest Named(const std::string& name, const std::string& driver = "") {
  v1::CreateNetworkRequest request;
  request.set_name(name);
  request.set_driver(driver);
  return request;
}

std::string Refusal(const v1::CreateNetworkRequest& request) {
  return std::string(NetworkOfRequest(request, kId).status().message());
}

TEST(NetworkRequestTest, NamesOfNetworks) {
  EXPECT_EQ(NetworkOfRequest(Named("web"), kId).value().settings.device(), "br-0123456789ab");
  for (const std::string& name : {std::string(), std::string("-web"), std::string("a b"),
                                  std::string("a\0b", 3), std::string(256, 'a')})
    EXPECT_FALSE(NetworkOfRequest(Named(name), kId).ok()) << name;
  EXPECT_TRUE(IsPredefinedNetwork("bridge"));
  EXPECT_FALSE(IsPredefinedNetwork("web"));
}

TEST(NetworkRequestTest, DriversAndWhatTheyAreRefusedWith) {
  EXPECT_THAT(Refusal(Named("a", "host")), HasSubstr("only one instance of \"host\" network"));
  EXPECT_THAT(Refusal(Named("a", "overlay")), HasSubstr("CNI"));
  EXPECT_THAT(Refusal(Named("a", "weave")), HasSubstr("could not find plugin weave"));
  EXPECT_EQ(NetworkOfRequest(Named("a", "macvlan"), kId).value().settings.device(),
            "dm-0123456789ab");
  EXPECT_TRUE(NetworkOfRequest(Named("a", "ipvlan"), kId).value().settings.internal());
}

TEST(NetworkRequestTest, OptionsAreCheckedPerDriver) {
  const auto refused = [](const std::string& driver, const std::string& key,
                          const std::string& value) {
    v1::CreateNetworkRequest request = Named("a", driver);
    (*request.mutable_options())[key] = value;
    return Refusal(request);
  };
  EXPECT_EQ(refused("", "com.docker.network.bridge.enable_icc", "false"), "");
  EXPECT_THAT(refused("", "com.docker.network.bridge.enable_icc", "maybe"),
              HasSubstr("failed to parse com.docker.network.bridge.enable_icc value: maybe"));
  EXPECT_EQ(refused("", "com.docker.network.driver.mtu", "1400"), "");
  EXPECT_NE(refused("", "com.docker.network.driver.mtu", "12"), "");
  EXPECT_NE(refused("", "com.docker.network.bridge.host_binding_ipv4", "here"), "");
  EXPECT_NE(refused("", "com.docker.network.container_iface_prefix", "a/b"), "");
  EXPECT_EQ(refused("", "com.docker.network.bridge.gateway_mode_ipv4", "routed"), "");
  EXPECT_EQ(refused("", "com.docker.network.bridge.gateway_mode_ipv6", "nat-unprotected"), "");
  EXPECT_THAT(refused("", "com.docker.network.bridge.gateway_mode_ipv4", "open"),
              HasSubstr("failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: open "
                        "(unknown gateway mode open)"));
  EXPECT_THAT(refused("", "com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
              HasSubstr("gateway mode 'isolated' can only be used for an internal network"));
  EXPECT_EQ(refused("", "com.docker.network.bridge.trusted_host_interfaces", "eth0:br-a.1"), "");
  EXPECT_NE(refused("", "com.docker.network.bridge.trusted_host_interfaces", "eth0::x"), "");
  EXPECT_NE(refused("", "com.docker.network.bridge.trusted_host_interfaces", "a\" drop"), "");
  EXPECT_EQ(refused("", "com.docker.network.host_ipv4", "192.0.2.1"), "");
  EXPECT_NE(refused("", "com.docker.network.host_ipv4", "fd00::1"), "");
  EXPECT_EQ(refused("", "com.docker.network.host_ipv6", "fd00::1"), "");
  EXPECT_NE(refused("", "com.docker.network.host_ipv6", "::"), "");
  EXPECT_EQ(refused("macvlan", "com.docker.network.advertise_addr_nmsgs", "0"), "");
  EXPECT_NE(refused("", "com.docker.network.advertise_addr_nmsgs", "4"), "");
  EXPECT_EQ(refused("", "com.docker.network.advertise_addr_ms", "100"), "");
  EXPECT_NE(refused("", "com.docker.network.advertise_addr_ms", "99"), "");
  EXPECT_EQ(refused("", "com.docker.network.bridge.default_bridge", "false"), "");
  EXPECT_NE(refused("", "com.docker.network.bridge.default_bridge", "true"), "");
  EXPECT_EQ(refused("ipvlan", "ipvlan_flag", "vepa"), "");
  EXPECT_NE(refused("ipvlan", "ipvlan_flag", "passthru"), "");
  EXPECT_NE(refused("", "parent", "eth0"), "");
  EXPECT_NE(refused("macvlan", "com.docker.network.bridge.enable_icc", "false"), "");
  EXPECT_EQ(refused("macvlan", "parent", "eth0.10"), "");
  EXPECT_THAT(refused("macvlan", "parent", "eth0.4095"), HasSubstr("example formatting"));
  EXPECT_THAT(refused("ipvlan", "parent", "lo"), HasSubstr("not a valid ipvlan parent link"));
  EXPECT_THAT(refused("macvlan", "macvlan_mode", "sideways"),
              HasSubstr("requested macvlan mode 'sideways' is not valid"));
}

StoredNetwork Other(const std::string& name, const std::string& device, const std::string& subnet,
                    const std::string& driver = "bridge") {
  StoredNetwork one;
  one.record.set_name(name);
  one.record.set_driver(driver);
  one.settings.set_device(device);
  if (!subnet.empty()) one.settings.add_pools()->set_subnet(subnet);
  return one;
}

absl::StatusOr<StoredNetwork> Choose(const v1::CreateNetworkRequest& request,
                                     const std::vector<StoredNetwork>& all) {
  absl::StatusOr<StoredNetwork> made = NetworkOfRequest(request, kId);
  if (!made.ok()) return made;
  SubnetSources sources;
  sources.pools = network::DefaultPools();
  sources.pools.push_back(network::UniqueLocalPool("host"));
  const absl::Status chosen = ChooseSubnets(request, sources, all, *made);
  if (!chosen.ok()) return chosen;
  return made;
}

TEST(NetworkRequestTest, DevicesAndParentsThatAreTaken) {
  v1::CreateNetworkRequest request = Named("a");
  (*request.mutable_options())["com.docker.network.bridge.name"] = "br0";
  EXPECT_EQ(Choose(request, {Other("b", "br0", "")}).status().code(),
            absl::StatusCode::kAlreadyExists);
  v1::CreateNetworkRequest stacked = Named("a", "macvlan");
  (*stacked.mutable_options())["parent"] = "eth0";
  EXPECT_TRUE(Choose(stacked, {Other("b", "eth0", "", "macvlan")}).ok());
  EXPECT_THAT(std::string(Choose(stacked, {Other("b", "eth0", "", "ipvlan")}).status().message()),
              HasSubstr("network b is already using parent interface eth0"));
}

TEST(NetworkRequestTest, SubnetsPerFamilyAndDriver) {
  v1::CreateNetworkRequest request = Named("a");
  request.add_pools()->set_subnet("10.1.0.0/24");
  request.add_pools()->set_subnet("10.2.0.0/24");
  EXPECT_EQ(Choose(request, {}).status().code(), absl::StatusCode::kInvalidArgument);
  request.set_driver("macvlan");
  const StoredNetwork lan = Choose(request, {}).value();
  EXPECT_EQ(lan.settings.pools_size(), 2);
  EXPECT_EQ(lan.settings.pools(0).gateway(), "");
  request.set_driver("");
  request.mutable_pools(1)->set_subnet("fd00:7::/64");
  const StoredNetwork both = Choose(request, {}).value();
  EXPECT_TRUE(both.settings.ipv6());
  EXPECT_EQ(both.settings.pools(1).gateway(), "fd00:7::1");
  request.mutable_pools(0)->set_gateway("10.9.0.1");
  EXPECT_THAT(std::string(Choose(request, {}).status().message()),
              HasSubstr("invalid gateway 10.9.0.1"));
}

TEST(NetworkRequestTest, NameServersAreBlocksOfOneAddress) {
  const auto servers = NameServersIn(
      "# nameserver 1.1.1.1\nnameserver 10.0.0.53\noptions x\n"
      "nameserver\tfd00::53\nnameserver nonsense\nnameserver\n");
  ASSERT_EQ(servers.size(), 2u);
  EXPECT_EQ(servers[0].block.ToString(), "10.0.0.53/32");
  EXPECT_EQ(servers[1].block.ToString(), "fd00::53/128");
}

}  // namespace
}  // namespace gantry::core
