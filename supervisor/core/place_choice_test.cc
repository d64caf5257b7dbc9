#include "supervisor/core/place_choice.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/network_records.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;
using network::Address;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;

using Options = std::map<std::string, std::string>;

StoredNetwork Network(const std::vector<std::string>& subnets, const Options& options = {},
                      const std::string& driver = "bridge") {
  StoredNetwork network;
  network.ns = "default";
  network.record.set_id("n1");
  network.record.set_name("blue");
  network.record.set_driver(driver);
  for (const auto& [key, value] : options) (*network.record.mutable_options())[key] = value;
  for (const std::string& subnet : subnets) {
    auto* pool = network.settings.add_pools();
    pool->set_subnet(subnet);
    // The bridge has the first address of each subnet.
    const network::Prefix block = network::Prefix::Parse(subnet).value();
    pool->set_gateway(Address(block.family(), block.first().number() + 1).ToString());
  }
  return network;
}

StoredEndpoint Holding(const std::string& container, const std::vector<std::string>& addresses,
                       const std::string& mac = "") {
  StoredEndpoint one;
  one.network_id = "n1";
  one.record.set_container_name(container);
  one.record.set_mac_address(mac);
  for (const std::string& address : addresses) one.record.add_addresses(address);
  return one;
}

absl::StatusOr<record::v1::NetworkEndpoint> Placed(const v1::NetworkAttachment& attachment = {},
                                                   const StoredNetwork& network = Network({}),
                                                   const std::vector<PlaceInNetwork>& others = {},
                                                   const std::string& hostname = "") {
  return NewPlace(network, {"0123456789abcdef", "web", hostname}, attachment, others);
}

class Choice {
 public:
  explicit Choice(StoredNetwork network) : network_(std::move(network)) {}
  Choice& Others(std::vector<StoredEndpoint> others) {
    others_ = std::move(others);
    return *this;
  }
  Choice& Mac(const std::string& mac) {
    made_.set_mac_address(mac);
    return *this;
  }
  // What the place gets; `asked` are addresses that a person named.
  absl::Status Make(const std::vector<std::string>& asked = {}, bool mac_follows = true) {
    std::vector<Address> parsed;
    for (const std::string& text : asked) parsed.push_back(Address::Parse(text).value());
    return ChooseAddresses(network_, others_, parsed, mac_follows, made_);
  }
  std::vector<std::string> addresses() const {
    return {made_.addresses().begin(), made_.addresses().end()};
  }
  const record::v1::NetworkEndpoint& made() const { return made_; }

 private:
  const StoredNetwork network_;
  std::vector<StoredEndpoint> others_;
  record::v1::NetworkEndpoint made_;
};

TEST(NewPlaceTest, DevicesAreCountedOverAllNetworksOfTheContainer) {
  EXPECT_EQ(Placed()->container_device(), "eth0");
  PlaceInNetwork first;
  first.place.record.set_container_device("eth0");
  PlaceInNetwork third;
  third.place.record.set_container_device("eth2");
  EXPECT_EQ(Placed({}, Network({}), {third, first})->container_device(), "eth1");
}

TEST(NewPlaceTest, NamesOfDevicesThatPeopleChose) {
  const StoredNetwork network = Network({}, {{kPrefixOption, "lan"}});
  EXPECT_EQ(Placed({}, network)->container_device(), "lan0");
  v1::NetworkAttachment attachment;
  (*attachment.mutable_driver_options())[kDeviceNameOption] = "uplink";
  EXPECT_EQ(Placed(attachment, network)->container_device(), "uplink");
}

TEST(NewPlaceTest, OnlyABridgeHasADeviceOnTheHost) {
  const std::string device = Placed()->host_device();
  EXPECT_THAT(device, MatchesRegex("veth[0-9a-f]{7}"));
  EXPECT_NE(Placed()->host_device(), device);
  EXPECT_EQ(Placed({}, Network({}, {}, "macvlan"))->host_device(), "");
}

TEST(NewPlaceTest, NamesInTheNetworkEachOnce) {
  v1::NetworkAttachment attachment;
  for (const char* alias : {"db", "web", "db", "cache"}) attachment.add_aliases(alias);
  const record::v1::NetworkEndpoint place = *Placed(attachment, Network({}), {}, "cache");
  EXPECT_THAT(place.names(), ElementsAre("web", "db", "cache"));
  EXPECT_EQ(place.container_id(), "0123456789abcdef");
  EXPECT_EQ(place.container_name(), "web");
  EXPECT_THAT(Placed({}, Network({}), {}, "box")->names(), ElementsAre("web", "box"));
}

TEST(NewPlaceTest, WhatIsAskedForOfThePlaceIsKept) {
  v1::NetworkAttachment attachment;
  attachment.set_mac_address("02:42:AC:11:00:09");
  attachment.set_gateway_priority(7);
  attachment.add_link_local_addresses("169.254.8.8");
  (*attachment.mutable_driver_options())[kSysctlsOption] = "net.ipv4.conf.IFNAME.log_martians=1";
  const record::v1::NetworkEndpoint place = *Placed(attachment);
  EXPECT_EQ(place.mac_address(), "02:42:ac:11:00:09");
  EXPECT_EQ(place.gateway_priority(), 7);
  EXPECT_THAT(place.link_local_addresses(), ElementsAre("169.254.8.8"));
  EXPECT_EQ(place.options().at(kSysctlsOption), "net.ipv4.conf.IFNAME.log_martians=1");
}

TEST(NewPlaceTest, BadRequestsNameTheField) {
  for (const char* mac : {"02:42", "02:42:ac:11:00:zz", "01:00:5e:00:00:01", "00:00:00:00:00:00"}) {
    v1::NetworkAttachment attachment;
    attachment.set_mac_address(mac);
    const absl::Status refused = Placed(attachment).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << mac;
    EXPECT_EQ(FieldOf(refused), "mac_address") << mac;
  }
  v1::NetworkAttachment attachment;
  (*attachment.mutable_driver_options())["colour"] = "blue";
  const absl::Status refused = Placed(attachment).status();
  EXPECT_EQ(FieldOf(refused), "driver_options");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("\"colour\" has no effect"));
}

TEST(NewPlaceTest, HowPortsAreReachedFollowsTheNetworksModes) {
  const auto how = [](const Options& options, bool internal = false) {
    StoredNetwork network = Network({}, options);
    network.settings.set_internal(internal);
    const record::v1::NetworkEndpoint place = *Placed({}, network);
    std::string text;
    if (place.opens_ipv4()) text += "opens4 ";
    if (place.opens_ipv6()) text += "opens6 ";
    if (place.routed_ipv4()) text += "routed4 ";
    if (place.routed_ipv6()) text += "routed6 ";
    return text;
  };
  EXPECT_EQ(how({}), "");
  EXPECT_EQ(how({{kIpv4ModeOption, "routed"}}), "opens4 routed4 ");
  EXPECT_EQ(how({{kIpv6ModeOption, "routed"}}), "opens6 routed6 ");
  EXPECT_EQ(how({{kTrustedOption, "tun0"}}), "opens4 opens6 ");
  EXPECT_EQ(how({{kIpv4ModeOption, "nat-unprotected"}}), "");
  EXPECT_EQ(how({{kIpv4ModeOption, "routed"}, {kTrustedOption, "tun0"}}, /*internal=*/true), "");
}

TEST(AskedAddressesTest, AddressesOfBothFamilies) {
  v1::NetworkAttachment attachment;
  EXPECT_THAT(*AskedAddresses(attachment), IsEmpty());
  attachment.set_ipv4_address("10.1.0.9");
  attachment.set_ipv6_address("fd01::9");
  EXPECT_THAT(*AskedAddresses(attachment),
              ElementsAre(Address::Parse("10.1.0.9").value(), Address::Parse("fd01::9").value()));
}

TEST(AskedAddressesTest, WhatIsNoAddressIsOfItsField) {
  for (const char* text : {"10.1.0", "10.1.0.9/24", "web", "10.1.0.256"}) {
    v1::NetworkAttachment attachment;
    attachment.set_ipv4_address(text);
    const absl::Status refused = AskedAddresses(attachment).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << text;
    EXPECT_EQ(FieldOf(refused), "ip_address") << text;
  }
}

TEST(ChooseAddressesTest, TheLowestFreeAddressOfEachFamily) {
  Choice choice(Network({"10.1.0.0/24", "fd01::/64"}));
  choice.Others({Holding("a", {"10.1.0.2/24", "fd01::2/64"}), Holding("b", {"10.1.0.4/24"})});
  ASSERT_TRUE(choice.Make().ok());
  EXPECT_THAT(choice.addresses(), ElementsAre("10.1.0.3/24", "fd01::3/64"));
}

TEST(ChooseAddressesTest, NoFamilyWithoutASubnet) {
  Choice choice(Network({"fd01::/64"}));
  ASSERT_TRUE(choice.Make().ok());
  EXPECT_THAT(choice.addresses(), ElementsAre("fd01::2/64"));
  Choice nothing(Network({}, {}, "ipvlan"));
  ASSERT_TRUE(nothing.Make().ok());
  EXPECT_THAT(nothing.addresses(), IsEmpty());
}

TEST(ChooseAddressesTest, AskedAddressesComeFromTheSubnetThatHoldsThem) {
  Choice choice(Network({"10.1.0.0/24", "10.2.0.0/24", "fd01::/64"}));
  ASSERT_TRUE(choice.Make({"10.2.0.77", "fd01::77"}).ok());
  EXPECT_THAT(choice.addresses(), ElementsAre("10.2.0.77/24", "fd01::77/64"));
}

TEST(ChooseAddressesTest, AFullSubnetIsFollowedByTheNext) {
  std::vector<StoredEndpoint> all;
  for (int i = 2; i <= 6; ++i)
    all.push_back(Holding("c" + std::to_string(i), {"10.1.0." + std::to_string(i) + "/29"}));
  Choice next(Network({"10.1.0.0/29", "10.2.0.0/29"}));
  ASSERT_TRUE(next.Others(all).Make().ok());
  EXPECT_THAT(next.addresses(), ElementsAre("10.2.0.2/29"));
  Choice full(Network({"10.1.0.0/29"}));
  const absl::Status refused = full.Others(all).Make();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(refused.message(),
            "no available IPv4 addresses on this network's address pools: blue (n1)");
}

TEST(ChooseAddressesTest, AddressesThatCannotBeHad) {
  const StoredNetwork network = Network({"10.1.0.0/24"});
  const auto refusal = [&](const std::string& asked) {
    return Choice(network).Others({Holding("a", {"10.1.0.7/24"})}).Make({asked});
  };
  EXPECT_TRUE(absl::IsAlreadyExists(refusal("10.1.0.7")));  // another container's
  EXPECT_TRUE(absl::IsAlreadyExists(refusal("10.1.0.1")));  // the bridge's
  const absl::Status outside = refusal("10.9.0.7");
  EXPECT_EQ(FieldOf(outside), "ip_address");
  EXPECT_THAT(std::string(outside.message()),
              HasSubstr("no configured subnet contains IP address 10.9.0.7"));
  EXPECT_EQ(FieldOf(refusal("fd01::7")), "ip_address");
  EXPECT_EQ(FieldOf(refusal("10.1.0.255")), "ip_address");  // the subnet's broadcast address
}

TEST(ChooseAddressesTest, TheMacFollowsFromTheAddress) {
  Choice choice(Network({"10.1.0.0/24", "fd01::/64"}));
  ASSERT_TRUE(choice.Make({"10.1.0.9"}).ok());
  EXPECT_EQ(choice.made().mac_address(), "02:42:0a:01:00:09");
  // Chosen once more, as after another change came between: the old choice is dropped.
  choice.Others({Holding("a", {"10.1.0.2/24"})});
  ASSERT_TRUE(choice.Make().ok());
  EXPECT_THAT(choice.addresses(), ElementsAre("10.1.0.3/24", "fd01::2/64"));
  EXPECT_EQ(choice.made().mac_address(), "02:42:0a:01:00:03");
}

TEST(ChooseAddressesTest, AnIpvlansDevicesShareTheirParentsMac) {
  Choice choice(Network({"10.1.0.0/24"}, {}, "ipvlan"));
  ASSERT_TRUE(choice.Make().ok());
  EXPECT_EQ(choice.made().mac_address(), "");
}

TEST(ChooseAddressesTest, AMacThatAPersonChoseStaysAndIsUnique) {
  const StoredNetwork network = Network({"10.1.0.0/24"});
  Choice mine(network);
  ASSERT_TRUE(mine.Mac("02:00:00:00:00:01").Make({}, /*mac_follows=*/false).ok());
  EXPECT_EQ(mine.made().mac_address(), "02:00:00:00:00:01");
  Choice theirs(network);
  const absl::Status refused = theirs.Others({Holding("db", {"10.1.0.2/24"}, "02:00:00:00:00:01")})
                                   .Mac("02:00:00:00:00:01")
                                   .Make({}, /*mac_follows=*/false);
  EXPECT_TRUE(absl::IsAlreadyExists(refused));
  EXPECT_EQ(refused.message(), "MAC address 02:00:00:00:00:01 is already in use by container db");
}

}  // namespace
}  // namespace gantry::core
