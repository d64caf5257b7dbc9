#include "supervisor/core/gateway_choice.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using network::Family;

struct Made {
  std::string name;
  std::string ipv4;  // subnet's first three bytes, "" for none
  std::string ipv6;
  int priority = 0;
  bool internal = false;
  std::string driver = "bridge";
  std::string mode = {};
  bool given = false;
};

PlaceInNetwork Place(const Made& made) {
  PlaceInNetwork one;
  one.network.record.set_id("id-" + made.name);
  one.network.record.set_name(made.name);
  one.network.record.set_driver(made.driver);
  if (!made.mode.empty()) (*one.network.record.mutable_options())["ipvlan_mode"] = made.mode;
  one.network.settings.set_internal(made.internal);
  one.network.settings.set_gateway_was_given(made.given);
  one.place.network_id = "id-" + made.name;
  one.place.record.set_container_device("eth-" + made.name);
  one.place.record.set_gateway_priority(made.priority);
  if (!made.ipv4.empty()) {
    auto* pool = one.network.settings.add_pools();
    pool->set_subnet(made.ipv4 + ".0/24");
    if (made.driver == "bridge" || made.given) pool->set_gateway(made.ipv4 + ".1");
    one.place.record.add_addresses(made.ipv4 + ".2/24");
  }
  if (!made.ipv6.empty()) {
    auto* pool = one.network.settings.add_pools();
    pool->set_subnet(made.ipv6 + "::/64");
    pool->set_gateway(made.ipv6 + "::1");
    one.place.record.add_addresses(made.ipv6 + "::2/64");
  }
  return one;
}

// "NETWORK by DEVICE ROUTER", "none".
std::string Chosen(const std::vector<Made>& networks, Family family = Family::kIpv4) {
  std::vector<PlaceInNetwork> places;
  for (const Made& one : networks) places.push_back(Place(one));
  const std::optional<Gateway> gateway = ChooseGateway(places, family);
  if (!gateway.has_value()) return "none";
  return gateway->network_id + " by " + gateway->device + " " +
         (gateway->address.has_value() ? gateway->address->ToString() : "the wire");
}

TEST(GatewayChoiceTest, OrderDoesNotDependOnConnecting) {
  const Made zeta = {"zeta", "10.1.0", ""};
  const Made alpha = {"alpha", "10.2.0", ""};
  EXPECT_EQ(Chosen({zeta, alpha}), "id-alpha by eth-alpha 10.2.0.1");
  EXPECT_EQ(Chosen({alpha, zeta}), "id-alpha by eth-alpha 10.2.0.1");
  EXPECT_EQ(Chosen({}), "none");
}

TEST(GatewayChoiceTest, PriorityThenFamiliesThenName) {
  EXPECT_EQ(Chosen({{"a", "10.1.0", ""}, {"b", "10.2.0", "fd02"}}), "id-b by eth-b 10.2.0.1");
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", 1}, {"b", "10.2.0", "fd02"}}), "id-a by eth-a 10.1.0.1");
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", -1}, {"b", "10.2.0", ""}}), "id-b by eth-b 10.2.0.1");
}

TEST(GatewayChoiceTest, EachFamilyHasItsOwn) {
  const std::vector<Made> networks = {{"a", "10.1.0", ""}, {"b", "", "fd02"}};
  EXPECT_EQ(Chosen(networks, Family::kIpv4), "id-a by eth-a 10.1.0.1");
  EXPECT_EQ(Chosen(networks, Family::kIpv6), "id-b by eth-b fd02::1");
}

TEST(GatewayChoiceTest, InternalNetworksAndWiresWithoutRouterHaveNone) {
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", 9, true}}), "none");
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", 9, true}, {"b", "10.2.0", ""}}), "id-b by eth-b 10.2.0.1");
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", 0, false, "macvlan"}}), "none");
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", 0, false, "macvlan", "", true}}), "id-a by eth-a 10.1.0.1");
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", 0, false, "ipvlan", "l2"}}), "none");
  EXPECT_EQ(Chosen({{"a", "10.1.0", "", 0, false, "ipvlan", "l3s"}}), "id-a by eth-a the wire");
}

TEST(GatewayChoiceTest, RouterThatAPersonNamedInsteadOfTheBridge) {
  PlaceInNetwork place = Place({"a", "10.1.0", ""});
  (*place.network.settings.mutable_pools(0)->mutable_auxiliary_addresses())["DefaultGatewayIPv4"] =
      "10.1.0.254";
  EXPECT_EQ(ChooseGateway({place}, Family::kIpv4)->address->ToString(), "10.1.0.254");
}

}  // namespace
}  // namespace gantry::core
