#include "supervisor/core/network_records.h"

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "supervisor/core/port_forwards.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;
using network::Address;
using network::Family;
using network::GatewayMode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Options = std::map<std::string, std::string>;

StoredNetwork Network(const Options& options, const std::string& driver = "bridge") {
  StoredNetwork network;
  network.record.set_id("n1");
  network.record.set_driver(driver);
  for (const auto& [key, value] : options) (*network.record.mutable_options())[key] = value;
  return network;
}

record::v1::NetworkPort Port(const std::string& host, uint32_t host_port,
                             uint32_t container_port = 80, const std::string& protocol = "tcp") {
  record::v1::NetworkPort port;
  port.set_host_address(host);
  port.set_host_port(host_port);
  port.set_container_port(container_port);
  port.set_protocol(protocol);
  return port;
}

// A container's places, and which its default routes go by.
class Reached {
 public:
  Reached& Place(const std::string& network, const std::vector<std::string>& addresses,
                 bool opens = false, bool routed = false) {
    StoredEndpoint& one = places_.emplace_back();
    one.network_id = network;
    for (const std::string& address : addresses) one.record.add_addresses(address);
    one.record.set_opens_ipv4(opens);
    one.record.set_opens_ipv6(opens);
    one.record.set_routed_ipv4(routed);
    one.record.set_routed_ipv6(routed);
    return *this;
  }
  Reached& By(const std::string& ipv4, const std::string& ipv6 = "") {
    netns_.set_gateway_network(ipv4);
    netns_.set_ipv6_gateway_network(ipv6);
    return *this;
  }
  // "PROTOCOL HOST:PORT -> ADDRESS:PORT", "open ADDRESS:PORT/PROTOCOL".
  std::vector<std::string> Rules(const std::vector<record::v1::NetworkPort>& ports) {
    SetPorts(ports);
    std::vector<std::string> all;
    for (const network::PublishedPort& one : PortsOf(netns_, places_)) {
      const std::string container = absl::StrCat(one.container.ToString(), ":", one.container_port);
      all.push_back(one.opened ? absl::StrCat("open ", container, "/", ProtocolName(one.protocol))
                               : absl::StrCat(ProtocolName(one.protocol), " ",
                                              one.host.has_value() ? one.host->ToString() : "*",
                                              ":", one.host_port, " -> ", container));
    }
    return all;
  }
  std::string Forwards(const std::vector<record::v1::NetworkPort>& ports) {
    SetPorts(ports);
    return ForwardsText(ForwardsOf(netns_, places_));
  }

 private:
  void SetPorts(const std::vector<record::v1::NetworkPort>& ports) {
    netns_.clear_ports();
    for (const record::v1::NetworkPort& port : ports) *netns_.add_ports() = port;
  }
  record::v1::NetworkNamespace netns_;
  std::vector<StoredEndpoint> places_;
};

TEST(NetworkOptionsTest, BooleansAsDockerWritesThem) {
  const StoredNetwork network =
      Network({{"a", "true"}, {"b", "1"}, {"c", "false"}, {"d", "0"}, {"e", ""}});
  const auto& options = network.record.options();
  EXPECT_TRUE(IsOn(options, "a", false));
  EXPECT_TRUE(IsOn(options, "b", false));
  for (const char* key : {"c", "d", "e"}) EXPECT_FALSE(IsOn(options, key, true)) << key;
  EXPECT_TRUE(IsOn(options, "missing", true));
  EXPECT_FALSE(IsOn(options, "missing", false));
  EXPECT_EQ(OptionOf(options, "missing"), "");
}

TEST(NetworkOptionsTest, MtuAndTrustedDevices) {
  EXPECT_EQ(MtuOf(Network({{kMtuOption, "1400"}})), 1400u);
  EXPECT_EQ(MtuOf(Network({})), 0u);
  EXPECT_EQ(MtuOf(Network({{kMtuOption, "large"}})), 0u);
  EXPECT_THAT(TrustedDevices(Network({{kTrustedOption, "tun0:wg0"}}).record.options()),
              ElementsAre("tun0", "wg0"));
  EXPECT_THAT(TrustedDevices(Network({}).record.options()), IsEmpty());
}

TEST(NetworkOptionsTest, ModesOfGateways) {
  EXPECT_EQ(*ParseGatewayMode("nat"), GatewayMode::kNat);
  EXPECT_EQ(*ParseGatewayMode("nat-unprotected"), GatewayMode::kNatUnprotected);
  EXPECT_EQ(*ParseGatewayMode("routed"), GatewayMode::kRouted);
  EXPECT_EQ(*ParseGatewayMode("isolated"), GatewayMode::kIsolated);
  const absl::Status unknown = ParseGatewayMode("Nat\n").status();
  EXPECT_TRUE(absl::IsInvalidArgument(unknown));
  EXPECT_EQ(unknown.message(), "unknown gateway mode Nat\\n");
  const StoredNetwork network = Network({{kIpv6ModeOption, "routed"}});
  EXPECT_EQ(ModeOf(network, Family::kIpv4), GatewayMode::kNat);
  EXPECT_EQ(ModeOf(network, Family::kIpv6), GatewayMode::kRouted);
}

TEST(NetworkOptionsTest, RoutedIsANetworkAllOfWhoseFamiliesAre) {
  StoredNetwork both = Network({{kIpv4ModeOption, "routed"}, {kIpv6ModeOption, "routed"}});
  both.settings.set_ipv6(true);
  EXPECT_TRUE(IsRouted(both));
  StoredNetwork one = Network({{kIpv4ModeOption, "routed"}});
  EXPECT_TRUE(IsRouted(one));  // it has no IPv6
  one.settings.set_ipv6(true);
  EXPECT_FALSE(IsRouted(one));
  StoredNetwork six = Network({{kIpv6ModeOption, "routed"}});
  six.settings.set_ipv6(true);
  EXPECT_FALSE(IsRouted(six));
  six.settings.set_no_ipv4(true);
  EXPECT_TRUE(IsRouted(six));
  EXPECT_FALSE(IsRouted(Network({{kIpv4ModeOption, "routed"}}, "macvlan")));
}

TEST(NetworkPoolsTest, ARecordedPoolIsReadBackAsItWas) {
  record::v1::NetworkPool recorded;
  recorded.set_subnet("10.1.0.0/16");
  recorded.set_ip_range("10.1.4.0/24");
  recorded.set_gateway("10.1.0.1");
  (*recorded.mutable_auxiliary_addresses())["router"] = "10.1.0.254";
  const network::Pool pool = PoolOf(recorded);
  EXPECT_EQ(pool.subnet.ToString(), "10.1.0.0/16");
  EXPECT_EQ(pool.range->ToString(), "10.1.4.0/24");
  EXPECT_EQ(pool.gateway->ToString(), "10.1.0.1");
  EXPECT_EQ(pool.auxiliary.at("router").ToString(), "10.1.0.254");
  EXPECT_EQ(RecordOf(pool).SerializeAsString(), recorded.SerializeAsString());
}

TEST(NetworkPoolsTest, WhatDoesNotParseIsLeftOut) {
  record::v1::NetworkPool recorded;
  recorded.set_subnet("10.1.0.0/16");
  recorded.set_ip_range("10.1.4.1/24");
  recorded.set_gateway("router");
  (*recorded.mutable_auxiliary_addresses())["router"] = "?";
  const network::Pool pool = PoolOf(recorded);
  EXPECT_FALSE(pool.range.has_value());
  EXPECT_FALSE(pool.gateway.has_value());
  EXPECT_THAT(pool.auxiliary, IsEmpty());
}

TEST(PlaceSettingsTest, SettingsOfTheDevice) {
  record::v1::NetworkEndpoint place;
  place.set_container_device("eth1");
  EXPECT_THAT(*SettingsOf(place), IsEmpty());
  (*place.mutable_options())[kSysctlsOption] =
      "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2,"
      "net.ipv4.neigh.IFNAME.gc_stale_time=30";
  const std::vector<DeviceSetting> settings = *SettingsOf(place);
  ASSERT_EQ(settings.size(), 3u);
  EXPECT_EQ(settings[0].path, "net/ipv4/conf/eth1/log_martians");
  EXPECT_EQ(settings[0].value, "1");
  EXPECT_EQ(settings[1].path, "net/ipv6/conf/eth1/accept_ra");
  EXPECT_EQ(settings[2].path, "net/ipv4/neigh/eth1/gc_stale_time");
  EXPECT_TRUE(CheckPlaceOptions(place).ok());
}

TEST(PlaceSettingsTest, NothingButTheDeviceCanBeSet) {
  for (const char* bad :
       {"net.ipv4.ip_forward=1", "net.ipv4.conf.all.forwarding=1", "net.ipv4.conf.IFNAME.x",
        "net.ipv4.conf.IFNAME.a/b=1", "net.ipv4.conf.IFNAME.../../x=1", "kernel.shm.x.IFNAME.y=1",
        "net.core.conf.IFNAME.x=1", "net.ipv4.route.IFNAME.x=1", "net.ipv4.conf.IFNAME.=1",
        "net.ipv4.conf.IFNAME.x=1,net.ipv4.tcp_sack=0"}) {
    record::v1::NetworkEndpoint place;
    place.set_container_device("eth0");
    (*place.mutable_options())[kSysctlsOption] = bad;
    const absl::Status refused = CheckPlaceOptions(place);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << bad;
    EXPECT_EQ(FieldOf(refused), "driver_options") << bad;
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("is not net.FAMILY.conf.IFNAME.SETTING=VALUE"))
        << bad;
  }
}

TEST(PlaceSettingsTest, AnOptionWithoutEffectIsRefused) {
  record::v1::NetworkEndpoint place;
  (*place.mutable_options())["com.example.speed"] = "9";
  const absl::Status refused = CheckPlaceOptions(place);
  EXPECT_EQ(FieldOf(refused), "driver_options");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("\"com.example.speed\" has no effect"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr(kDeviceNameOption));
}

TEST(NetworkRulesTest, RulesFollowFromOptionsAndSettings) {
  StoredNetwork plain = Network({});
  plain.settings.set_device("br-1");
  plain.settings.add_pools()->set_subnet("10.1.0.0/24");
  plain.settings.add_pools()->set_subnet("fd01::/64");
  network::FirewallNetwork rules = RulesOf(plain);
  EXPECT_EQ(rules.bridge, "br-1");
  ASSERT_EQ(rules.subnets.size(), 2u);
  EXPECT_EQ(rules.subnets[1].ToString(), "fd01::/64");
  EXPECT_TRUE(rules.masquerade);
  EXPECT_TRUE(rules.between);
  EXPECT_FALSE(rules.internal);
  EXPECT_EQ(rules.ipv4_mode, GatewayMode::kNat);
  EXPECT_FALSE(rules.ipv4_source.has_value());

  StoredNetwork set = Network({{kMasqueradeOption, "false"},
                               {kBetweenOption, "0"},
                               {kIpv4ModeOption, "isolated"},
                               {kTrustedOption, "tun0"},
                               {kIpv4SourceOption, "192.0.2.7"},
                               {kIpv6SourceOption, "2001:db8::7"}});
  set.settings.set_internal(true);
  rules = RulesOf(set);
  EXPECT_FALSE(rules.masquerade);
  EXPECT_FALSE(rules.between);
  EXPECT_TRUE(rules.internal);
  EXPECT_EQ(rules.ipv4_mode, GatewayMode::kIsolated);
  EXPECT_THAT(rules.trusted, ElementsAre("tun0"));
  EXPECT_EQ(rules.ipv4_source->ToString(), "192.0.2.7");
  EXPECT_EQ(rules.ipv6_source->ToString(), "2001:db8::7");
}

TEST(NetworkNamesTest, IdsFollowFromWhatTheyName) {
  // SHA-256 of "abc".
  EXPECT_EQ(IdOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  StoredEndpoint one;
  one.network_id = "n1";
  one.record.set_container_id("c1");
  StoredEndpoint other = one;
  EXPECT_EQ(EndpointId(one), EndpointId(other));
  EXPECT_EQ(EndpointId(one).size(), 64u);
  other.network_id = "n2";
  EXPECT_NE(EndpointId(one), EndpointId(other));
}

TEST(NetworkNamesTest, AddressesAndMacOfAPlace) {
  record::v1::NetworkEndpoint place;
  for (const char* text : {"10.1.0.2/24", "damaged", "10.1.0.3", "fd01::2/64", "x/24"})
    place.add_addresses(text);
  ASSERT_EQ(AddressesOf(place).size(), 2u);
  EXPECT_EQ(AddressesOf(place)[1].length, 64);
  EXPECT_EQ(AddressOf(place, Family::kIpv4)->ToString(), "10.1.0.2");
  EXPECT_EQ(AddressOf(place, Family::kIpv6)->ToString(), "fd01::2");
  EXPECT_FALSE(AddressOf({}, Family::kIpv4).has_value());
  EXPECT_EQ(MacOf(Address::Parse("172.17.0.2").value()).ToString(), "02:42:ac:11:00:02");
  EXPECT_EQ(MacOf(Address::Parse("fd01::a:b").value()).ToString(), "02:42:00:0a:00:0b");
}

TEST(PublishedPortsTest, PortsLeadToTheAddressesOfTheDefaultRoutes) {
  Reached reached;
  reached.Place("a", {"10.1.0.2/24", "fd01::2/64"}).Place("b", {"10.2.0.2/24"}).By("b", "a");
  EXPECT_THAT(reached.Rules({Port("", 8080)}),
              ElementsAre("tcp *:8080 -> 10.2.0.2:80", "tcp *:8080 -> fd01::2:80"));
  EXPECT_THAT(reached.Rules({Port("192.0.2.1", 53, 53, "udp"), Port("2001:db8::1", 7, 7, "sctp")}),
              ElementsAre("udp 192.0.2.1:53 -> 10.2.0.2:53", "sctp 2001:db8::1:7 -> fd01::2:7"));
}

TEST(PublishedPortsTest, WithoutADefaultRouteNothingIsPublished) {
  Reached reached;
  reached.Place("a", {"10.1.0.2/24"}).By("");
  EXPECT_THAT(reached.Rules({Port("", 8080)}), IsEmpty());
  EXPECT_EQ(reached.Forwards({Port("", 8080)}), "");
}

TEST(PublishedPortsTest, AnOpenNetworkIsReachedAtItsOwnAddressToo) {
  Reached reached;
  reached.Place("a", {"10.1.0.2/24"}, /*opens=*/true).By("a");
  EXPECT_THAT(reached.Rules({Port("", 8080)}),
              ElementsAre("open 10.1.0.2:80/tcp", "tcp *:8080 -> 10.1.0.2:80"));
  // Two ports of the host, one of the container: it is opened once.
  EXPECT_THAT(reached.Rules({Port("", 8080), Port("", 8081)}),
              ElementsAre("open 10.1.0.2:80/tcp", "tcp *:8080 -> 10.1.0.2:80",
                          "tcp *:8081 -> 10.1.0.2:80"));
  // What is published for the host only is opened to nobody else.
  EXPECT_THAT(reached.Rules({Port("127.0.0.1", 8080)}),
              ElementsAre("tcp 127.0.0.1:8080 -> 10.1.0.2:80"));
}

TEST(PublishedPortsTest, ARoutedNetworkIsReachedThereOnly) {
  Reached reached;
  reached.Place("a", {"10.1.0.2/24", "fd01::2/64"}, /*opens=*/true, /*routed=*/true).By("a", "a");
  EXPECT_THAT(reached.Rules({Port("", 0)}),
              ElementsAre("open 10.1.0.2:80/tcp", "open fd01::2:80/tcp"));
  EXPECT_EQ(reached.Forwards({Port("", 8080)}), "");
}

TEST(PortForwardsTest, WhatTheKernelCannotCarry) {
  Reached ipv4;
  ipv4.Place("a", {"10.1.0.2/24"}).By("a");
  // Every address of the host: the IPv6 ones are the shim's, as far as the host has any.
  EXPECT_EQ(ipv4.Forwards({Port("", 8080)}), "tcp :: 8080 10.1.0.2 80 if-possible\n");
  EXPECT_EQ(ipv4.Forwards({Port("::", 8080)}), "tcp :: 8080 10.1.0.2 80 required\n");
  EXPECT_EQ(ipv4.Forwards({Port("2001:db8::1", 53, 53, "udp")}),
            "udp 2001:db8::1 53 10.1.0.2 53 required\n");
  EXPECT_EQ(ipv4.Forwards({Port("0.0.0.0", 8080), Port("127.0.0.1", 8081)}), "");
  Reached both;
  both.Place("a", {"10.1.0.2/24", "fd01::2/64"}).By("a", "a");
  EXPECT_EQ(both.Forwards({Port("", 8080)}), "tcp ::1 8080 fd01::2 80 if-possible\n");
  EXPECT_EQ(both.Forwards({Port("::1", 8080)}), "tcp ::1 8080 fd01::2 80 required\n");
  EXPECT_EQ(both.Forwards({Port("2001:db8::1", 8080)}), "");
}

TEST(PortForwardsTest, SctpAndPortsWithoutAHostPortAreNotForwarded) {
  Reached ipv4;
  ipv4.Place("a", {"10.1.0.2/24"}).By("a");
  EXPECT_EQ(ipv4.Forwards({Port("", 8080, 80, "sctp"), Port("", 0)}), "");
}

}  // namespace
}  // namespace gantry::core
