#include "base/engine/network_request_json.h"

#include <gtest/gtest.h>

#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/networks.pb.h"

namespace gantry::engine {
namespace {

Value Body(const char* json) {
  absl::StatusOr<Value> value = Value::FromJson(json);
  EXPECT_TRUE(value.ok()) << value.status();
  return value.value_or(Value());
}

TEST(NetworkRequestTest, CreateTakesAllThatDockerSends) {
  const auto request = CreateNetworkFromDocument(Body(
      R"({"CheckDuplicate":true,"Name":"n","Driver":"bridge","EnableIPv6":true,"Internal":true,)"
      R"("Attachable":true,"Ingress":false,"ConfigFrom":null,"IPAM":{"Driver":"default",)"
      R"("Options":{},"Config":[{"Subnet":"10.1.0.0/16","IPRange":"10.1.5.0/24",)"
      R"("Gateway":"10.1.0.1","AuxiliaryAddresses":{"router":"10.1.0.9"}}]},)"
      R"("Options":{"com.docker.network.driver.mtu":"1400"},"Labels":{"a":"b"}})"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->name(), "n");
  EXPECT_EQ(request->driver(), "bridge");
  EXPECT_TRUE(request->ipv6());
  EXPECT_FALSE(request->no_ipv4());
  EXPECT_TRUE(request->internal());
  EXPECT_TRUE(request->attachable());
  ASSERT_EQ(request->pools_size(), 1);
  EXPECT_EQ(request->pools(0).subnet(), "10.1.0.0/16");
  EXPECT_EQ(request->pools(0).ip_range(), "10.1.5.0/24");
  EXPECT_EQ(request->pools(0).gateway(), "10.1.0.1");
  EXPECT_EQ(request->pools(0).auxiliary_addresses().at("router"), "10.1.0.9");
  EXPECT_EQ(request->options().at("com.docker.network.driver.mtu"), "1400");
  EXPECT_EQ(request->labels().at("a"), "b");
}

TEST(NetworkRequestTest, EmptyPoolsAreNone) {
  const auto request =
      CreateNetworkFromDocument(Body(R"({"Name":"n","IPAM":{"Config":[{}]},"EnableIPv4":false})"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->pools_size(), 0);
  EXPECT_TRUE(request->no_ipv4());
}

TEST(NetworkRequestTest, CreateNamesTheFieldThatIsWrong) {
  const struct {
    const char* body;
    const char* field;
  } cases[] = {
      {R"({"Name":7})", "Name"},
      {R"({})", "Name"},
      {R"({"Name":"n","IPAM":{"Config":[{"Subnet":1}]}})", "IPAM.Config[0].Subnet"},
      {R"({"Name":"n","IPAM":{"Driver":"dhcp"}})", "IPAM.Driver"},
      {R"({"Name":"n","Ingress":true})", "Ingress"},
      {R"({"Name":"n","Scope":"swarm"})", "Scope"},
      {R"([])", "body"},
  };
  for (const auto& one : cases)
    EXPECT_EQ(FieldOf(CreateNetworkFromDocument(Body(one.body)).status()), one.field) << one.body;
}

TEST(NetworkRequestTest, ConnectTakesTheEndpoint) {
  const auto request = ConnectNetworkFromDocument(
      Body(R"({"Container":"c","EndpointConfig":{"Aliases":["a","b"],"Links":["x:y"],)"
           R"("IPAMConfig":{"IPv4Address":"10.1.0.7","IPv6Address":"fd00::7",)"
           R"("LinkLocalIPs":["169.254.1.1"]},"MacAddress":"02:00:00:00:00:01","GwPriority":-3,)"
           R"("DriverOpts":{"k":"v"}}})"),
      "net");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->container(), "c");
  const v1::NetworkAttachment& place = request->attachment();
  EXPECT_EQ(place.network(), "net");
  EXPECT_EQ(place.aliases_size(), 2);
  EXPECT_EQ(place.links(0), "x:y");
  EXPECT_EQ(place.ipv4_address(), "10.1.0.7");
  EXPECT_EQ(place.ipv6_address(), "fd00::7");
  EXPECT_EQ(place.link_local_addresses(0), "169.254.1.1");
  EXPECT_EQ(place.mac_address(), "02:00:00:00:00:01");
  EXPECT_EQ(place.gateway_priority(), -3);
  EXPECT_EQ(place.driver_options().at("k"), "v");
}

TEST(NetworkRequestTest, ConnectAndDisconnectWantAContainer) {
  EXPECT_EQ(FieldOf(ConnectNetworkFromDocument(Body("{}"), "n").status()), "Container");
  EXPECT_EQ(FieldOf(DisconnectNetworkFromDocument(Body("{}"), "n").status()), "Container");
  const auto request =
      DisconnectNetworkFromDocument(Body(R"({"Container":"c","Force":true})"), "n");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->network(), "n");
  EXPECT_TRUE(request->force());
}

}  // namespace
}  // namespace gantry::engine
