#include "base/engine/network_json.h"

#include <string>

#include "gtest/gtest.h"

#include "base/engine/value.h"

namespace gantry::engine {
namespace {

v1::Network Web() {
  v1::Network network;
  network.set_name("web");
  network.set_id("0123456789abcdef0123");
  network.set_driver("bridge");
  network.mutable_created_at()->set_seconds(1700000000);
  network.set_internal(true);
  (*network.mutable_labels())["tier"] = "front";
  (*network.mutable_labels())["app"] = "shop";
  v1::IpamPool* pool = network.add_pools();
  pool->set_subnet("10.5.0.0/16");
  pool->set_ip_range("10.5.1.0/24");
  pool->set_gateway("10.5.0.1");
  (*pool->mutable_auxiliary_addresses())["router"] = "10.5.0.9";
  network.add_pools()->set_subnet("fd00:5::/64");
  v1::ConnectedContainer* container = network.add_endpoints();
  container->set_container_id("c0ffee");
  container->set_container_name("shop");
  container->set_endpoint_id("e9d01");
  container->set_mac_address("02:42:0a:05:00:02");
  container->add_addresses("10.5.0.2/16");
  container->add_addresses("fd00:5::2/64");
  return network;
}

std::string Text(const Value& value, const char* key) {
  const Value* found = value.Find(key);
  return found == nullptr ? "(none)" : found->ToJson();
}

TEST(NetworkJsonTest, TheDocumentHasDockersKeys) {
  const Value document = NetworkDocument(Web());
  EXPECT_EQ(Text(document, "Name"), "\"web\"");
  EXPECT_EQ(Text(document, "Id"), "\"0123456789abcdef0123\"");
  EXPECT_EQ(Text(document, "Created"), "\"2023-11-14T22:13:20Z\"");
  EXPECT_EQ(Text(document, "Scope"), "\"local\"");
  EXPECT_EQ(Text(document, "EnableIPv4"), "true");
  EXPECT_EQ(Text(document, "EnableIPv6"), "true");
  EXPECT_EQ(Text(document, "Internal"), "true");
  EXPECT_EQ(Text(document, "Ingress"), "false");
  EXPECT_EQ(Text(document, "ConfigFrom"), R"({"Network":""})");
  EXPECT_EQ(Text(document, "Options"), "{}");
  EXPECT_EQ(Text(document, "Labels"), R"({"app":"shop","tier":"front"})");
}

TEST(NetworkJsonTest, PoolsShowOnlyWhatTheyHave) {
  EXPECT_EQ(Text(NetworkDocument(Web()), "IPAM"),
            R"({"Driver":"default","Options":{},"Config":[)"
            R"({"Subnet":"10.5.0.0/16","IPRange":"10.5.1.0/24","Gateway":"10.5.0.1",)"
            R"("AuxiliaryAddresses":{"router":"10.5.0.9"}},{"Subnet":"fd00:5::/64"}]})");
}

TEST(NetworkJsonTest, AContainerHasOneAddressOfEachFamily) {
  EXPECT_EQ(Text(NetworkDocument(Web()), "Containers"),
            R"({"c0ffee":{"Name":"shop","EndpointID":"e9d01","MacAddress":"02:42:0a:05:00:02",)"
            R"("IPv4Address":"10.5.0.2/16","IPv6Address":"fd00:5::2/64"}})");
}

TEST(NetworkJsonTest, WithoutPoolsItCountsAsIPv4) {
  v1::Network network;
  network.set_name("host");
  const Value document = NetworkDocument(network);
  EXPECT_EQ(Text(document, "EnableIPv4"), "true");
  EXPECT_EQ(Text(document, "EnableIPv6"), "false");
  EXPECT_EQ(Text(document, "Containers"), "{}");
  EXPECT_EQ(Text(document, "Created"), "\"0001-01-01T00:00:00Z\"");
}

TEST(NetworkJsonTest, ARowHasTextsOnly) {
  const Value row = NetworkRow(Web(), /*truncate=*/true);
  EXPECT_EQ(Text(row, "ID"), "\"0123456789ab\"");
  EXPECT_EQ(Text(row, "Labels"), "\"app=shop,tier=front\"");
  EXPECT_EQ(Text(row, "Internal"), "\"true\"");
  EXPECT_EQ(Text(row, "IPv6"), "\"true\"");
  EXPECT_EQ(Text(NetworkRow(Web(), /*truncate=*/false), "ID"), "\"0123456789abcdef0123\"");
}

}  // namespace
}  // namespace gantry::engine
