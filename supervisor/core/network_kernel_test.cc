// Devices, addresses and rules as the records of networks want them, in a network namespace of the
// test's own. Needs root.
#include "supervisor/core/network_kernel.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/core/network_records.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/network/links.h"
#include "supervisor/network/netns.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;
using network::Address;
using network::Family;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::UnorderedElementsAre;

class NetworkKernelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    host_ = network::NewNetns().value();
    links_ = network::Links::OpenIn(host_.get()).value();
    db_ = metadata::Database::Open(dir_.Join("root")).value();
    store_.emplace(*db_);
    kernel_ = std::make_unique<NetworkKernel>(&*store_, dir_.Join("state"), nullptr, host_.get());
  }

  static StoredNetwork Bridge(const std::string& device, const std::string& subnet,
                              const std::string& gateway) {
    StoredNetwork network;
    network.ns = "default";
    network.record.set_id("0123456789abcdef" + device);
    network.record.set_name(device);
    network.record.set_driver("bridge");
    network.settings.set_device(device);
    network.settings.set_device_is_ours(true);
    record::v1::NetworkPool* pool = network.settings.add_pools();
    pool->set_subnet(subnet);
    pool->set_gateway(gateway);
    return network;
  }
  static StoredEndpoint PlaceOf(const StoredNetwork& network, const std::string& host_device,
                                const std::string& address) {
    StoredEndpoint place;
    place.ns = "default";
    place.network_id = network.record.id();
    place.record.set_container_id("c1");
    place.record.set_container_name("web");
    place.record.set_host_device(host_device);
    place.record.set_container_device("eth0");
    place.record.add_addresses(address);
    place.record.set_mac_address("02:42:0a:07:00:02");
    return place;
  }
  static OpenNetns NewContainer() {
    OpenNetns netns;
    netns.fd = network::NewNetns().value();
    netns.inside = network::Links::OpenIn(netns.fd.get()).value();
    return netns;
  }
  std::vector<std::string> Devices() {
    std::vector<std::string> names;
    const std::vector<network::LinkInfo> links = links_->List().value();
    for (const network::LinkInfo& one : links) {
      if (one.name != "lo") names.push_back(one.name);
    }
    return names;
  }
  std::vector<std::string> AddressesOn(network::Links& links, const std::string& device) {
    std::vector<std::string> texts;
    const absl::StatusOr<network::LinkInfo> link = links.Find(device);
    if (!link.ok()) return texts;
    const std::vector<network::InterfaceAddress> addresses = links.Addresses(link->index).value();
    for (const network::InterfaceAddress& one : addresses) {
      // Those of the link itself come and go by themselves.
      if (one.address.family() == Family::kIpv4)
        texts.push_back(absl::StrCat(one.address.ToString(), "/", one.length));
    }
    return texts;
  }
  // The router of a namespace's default route in hexadecimal; "" without one.
  static std::string DefaultRouter(const OpenNetns& netns) {
    std::string router;
    EXPECT_TRUE(network::InNetns(netns.fd.get(), [&] {
                  const std::string table =
                      ReadFile("/proc/thread-self/net/route", 1 << 16).value();
                  const size_t at = table.find("eth0\t00000000\t");
                  if (at != std::string::npos) router = table.substr(at + 14, 8);
                  return absl::OkStatus();
                }).ok());
    return router;
  }

  TempDir dir_;
  UniqueFd host_;
  std::unique_ptr<network::Links> links_;
  std::unique_ptr<metadata::Database> db_;
  std::optional<metadata::NetworkStore> store_;
  std::unique_ptr<NetworkKernel> kernel_;
};

TEST_F(NetworkKernelTest, ANetworkIsMadeOnceHoweverOftenItIsAskedFor) {
  const StoredNetwork blue = Bridge("br-blue", "10.7.0.0/24", "10.7.0.1");
  EXPECT_FALSE(*kernel_->HasDevice("br-blue"));
  ASSERT_EQ(kernel_->MakeNetwork(blue), absl::OkStatus());
  ASSERT_EQ(kernel_->MakeNetwork(blue), absl::OkStatus());
  EXPECT_TRUE(*kernel_->HasDevice("br-blue"));
  EXPECT_THAT(Devices(), ElementsAre("br-blue"));
  EXPECT_THAT(AddressesOn(*links_, "br-blue"), ElementsAre("10.7.0.1/24"));
  ASSERT_EQ(kernel_->RemoveNetwork(blue), absl::OkStatus());
  ASSERT_EQ(kernel_->RemoveNetwork(blue), absl::OkStatus());
  EXPECT_THAT(Devices(), ElementsAre());
}

TEST_F(NetworkKernelTest, ADeviceOfAnotherKindIsLeftAlone) {
  ASSERT_TRUE(links_->EnsureWire("br-blue", "far", "somebody").ok());
  const absl::Status refused = kernel_->MakeNetwork(Bridge("br-blue", "10.7.0.0/24", "10.7.0.1"));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("br-blue"));
  EXPECT_EQ(links_->Find("br-blue")->kind, "veth");
  EXPECT_THAT(AddressesOn(*links_, "br-blue"), ElementsAre());
}

TEST_F(NetworkKernelTest, ABridgeThatAPersonMadeOutlivesTheNetwork) {
  network::BridgeSpec mine;
  mine.name = "br-mine";
  ASSERT_TRUE(links_->EnsureBridge(mine).ok());
  StoredNetwork network = Bridge("br-mine", "10.7.0.0/24", "10.7.0.1");
  network.settings.set_device_is_ours(false);
  ASSERT_EQ(kernel_->MakeNetwork(network), absl::OkStatus());
  ASSERT_EQ(kernel_->RemoveNetwork(network), absl::OkStatus());
  EXPECT_THAT(Devices(), ElementsAre("br-mine"));
}

TEST_F(NetworkKernelTest, AParentThatIsNotThereIsNamed) {
  StoredNetwork lan = Bridge("", "10.7.0.0/24", "10.7.0.1");
  for (const char* driver : {"macvlan", "ipvlan"}) {
    lan.record.set_driver(driver);
    (*lan.record.mutable_options())[kParentOption] = "nosuch0";
    lan.settings.set_device("nosuch0");
    lan.settings.set_device_is_ours(false);
    const absl::Status refused = kernel_->MakeNetwork(lan);
    EXPECT_TRUE(absl::IsNotFound(refused)) << driver << ": " << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("nosuch0"));
  }
}

TEST_F(NetworkKernelTest, APlaceIsADeviceWithItsAddresses) {
  const StoredNetwork blue = Bridge("br-blue", "10.7.0.0/24", "10.7.0.1");
  ASSERT_EQ(kernel_->MakeNetwork(blue), absl::OkStatus());
  const StoredEndpoint place = PlaceOf(blue, "veth0001", "10.7.0.2/24");
  const OpenNetns netns = NewContainer();
  ASSERT_EQ(kernel_->MakePlace(blue, place, netns), absl::OkStatus());
  const absl::StatusOr<network::LinkInfo> inside = netns.inside->Find("eth0");
  ASSERT_TRUE(inside.ok()) << inside.status();
  EXPECT_TRUE(inside->up);
  EXPECT_EQ(inside->mac.ToString(), "02:42:0a:07:00:02");
  EXPECT_THAT(AddressesOn(*netns.inside, "eth0"), ElementsAre("10.7.0.2/24"));
  EXPECT_EQ(links_->Find("veth0001")->master, links_->Find("br-blue")->index);
  ASSERT_EQ(kernel_->RemovePlace(place, netns), absl::OkStatus());
  ASSERT_EQ(kernel_->RemovePlace(place, netns), absl::OkStatus());
  EXPECT_THAT(Devices(), ElementsAre("br-blue"));
  EXPECT_FALSE(netns.inside->Find("eth0").ok());
}

TEST_F(NetworkKernelTest, APlaceThatCannotBeMadeLeavesNothing) {
  const StoredNetwork blue = Bridge("br-blue", "10.7.0.0/24", "10.7.0.1");
  ASSERT_EQ(kernel_->MakeNetwork(blue), absl::OkStatus());
  const OpenNetns netns = NewContainer();
  ASSERT_TRUE(netns.inside->EnsureWire("eth0", "far", "somebody").ok());  // the name is taken
  EXPECT_FALSE(kernel_->MakePlace(blue, PlaceOf(blue, "veth0001", "10.7.0.2/24"), netns).ok());
  EXPECT_THAT(Devices(), ElementsAre("br-blue"));
  // Its rules are gone as well: the same place can be made once the name is free.
  ASSERT_TRUE(netns.inside->Delete("eth0").ok());
  EXPECT_EQ(kernel_->MakePlace(blue, PlaceOf(blue, "veth0001", "10.7.0.2/24"), netns),
            absl::OkStatus());
}

TEST_F(NetworkKernelTest, TheDefaultRouteFollowsTheGateway) {
  const StoredNetwork blue = Bridge("br-blue", "10.7.0.0/24", "10.7.0.1");
  ASSERT_EQ(kernel_->MakeNetwork(blue), absl::OkStatus());
  const OpenNetns netns = NewContainer();
  ASSERT_EQ(kernel_->MakePlace(blue, PlaceOf(blue, "veth0001", "10.7.0.2/24"), netns),
            absl::OkStatus());
  EXPECT_EQ(DefaultRouter(netns), "");
  Gateway gateway;
  gateway.network_id = blue.record.id();
  gateway.device = "eth0";
  gateway.address = Address::Parse("10.7.0.1").value();
  ASSERT_EQ(NetworkKernel::SetGateway(netns, Family::kIpv4, gateway), absl::OkStatus());
  EXPECT_EQ(DefaultRouter(netns), "0100070A");
  gateway.address = Address::Parse("10.7.0.9").value();  // another one takes its place
  ASSERT_EQ(NetworkKernel::SetGateway(netns, Family::kIpv4, gateway), absl::OkStatus());
  EXPECT_EQ(DefaultRouter(netns), "0900070A");
  gateway.address.reset();  // everything is on the wire
  ASSERT_EQ(NetworkKernel::SetGateway(netns, Family::kIpv4, gateway), absl::OkStatus());
  EXPECT_EQ(DefaultRouter(netns), "00000000");
  ASSERT_EQ(NetworkKernel::SetGateway(netns, Family::kIpv4, std::nullopt), absl::OkStatus());
  EXPECT_EQ(DefaultRouter(netns), "");
  EXPECT_EQ(NetworkKernel::SetGateway(netns, Family::kIpv6, std::nullopt), absl::OkStatus());
}

TEST_F(NetworkKernelTest, APortIsPublishedOnceAndTakenBackOnce) {
  network::PublishedPort port;
  port.host_port = 28080;
  port.container = Address::Parse("10.7.0.2").value();
  port.container_port = 80;
  ASSERT_EQ(kernel_->MakeNetwork(Bridge("br-blue", "10.7.0.0/24", "10.7.0.1")), absl::OkStatus());
  ASSERT_EQ(kernel_->Publish({port}), absl::OkStatus());
  EXPECT_TRUE(absl::IsAlreadyExists(kernel_->Publish({port})));
  ASSERT_EQ(kernel_->Unpublish({port}), absl::OkStatus());
  EXPECT_EQ(kernel_->Unpublish({port}), absl::OkStatus());  // passed over
  EXPECT_EQ(kernel_->Publish({port}), absl::OkStatus());
}

TEST_F(NetworkKernelTest, DevicesOfOursWithoutARecordGoAndOthersStay) {
  const StoredNetwork blue = Bridge("br-blue", "10.7.0.0/24", "10.7.0.1");
  const StoredNetwork red = Bridge("br-red", "10.8.0.0/24", "10.8.0.1");
  ASSERT_EQ(kernel_->MakeNetwork(blue), absl::OkStatus());
  ASSERT_EQ(kernel_->MakeNetwork(red), absl::OkStatus());
  const OpenNetns netns = NewContainer();
  ASSERT_EQ(kernel_->MakePlace(blue, PlaceOf(blue, "veth0001", "10.7.0.2/24"), netns),
            absl::OkStatus());
  network::StackedSpec foreign;  // of another program: it has no name of ours on it
  foreign.parent = "br-red";
  foreign.mode = "bridge";
  foreign.container_name = "macvlan0";
  ASSERT_TRUE(links_->MakeStacked(foreign, host_.get()).ok());
  ASSERT_EQ(kernel_->RemoveStrays({"br-blue", "br-red"}), absl::OkStatus());
  EXPECT_THAT(Devices(), UnorderedElementsAre("br-blue", "br-red", "macvlan0"));
  // A network's own device goes before its record, so that none is left without one.
  ASSERT_EQ(kernel_->RemoveStrays({}), absl::OkStatus());
  EXPECT_THAT(Devices(), UnorderedElementsAre("br-blue", "br-red", "macvlan0"));
}

TEST_F(NetworkKernelTest, SubnetsThatTheHostReachesAreNamedWithTheirDevice) {
  ASSERT_EQ(kernel_->MakeNetwork(Bridge("br-blue", "10.7.0.0/24", "10.7.0.1")), absl::OkStatus());
  const absl::StatusOr<std::vector<network::TakenBlock>> blocks = kernel_->RoutedBlocks();
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  const auto blue = std::find_if(blocks->begin(), blocks->end(), [](const auto& one) {
    return one.block.ToString() == "10.7.0.0/24";
  });
  ASSERT_NE(blue, blocks->end());
  EXPECT_THAT(blue->owner, HasSubstr("br-blue"));
}

}  // namespace
}  // namespace gantry::core
