// Against the kernel: the service's host is a network namespace of the test's own. Needs root.
#include "supervisor/core/network_service.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "supervisor/core/event.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_records.h"
#include "supervisor/core/network_testbed.h"
#include "supervisor/metadata/database.h"
#include "supervisor/network/netns.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using NetworkServiceTest = NetworkBed;

TEST_F(NetworkServiceTest, NetworkIsABridgeWithTheGatewaysAddress) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  const v1::Network network = service_->Inspect(context_, "web").value();
  EXPECT_EQ(network.device(), "br-" + network.id().substr(0, 12));
  EXPECT_EQ(network.pools(0).gateway(), "10.7.0.1");
  const network::LinkInfo bridge = links_->Find(network.device()).value();
  EXPECT_EQ(bridge.kind, "bridge");
  EXPECT_TRUE(bridge.up);
  EXPECT_EQ(links_->Addresses(bridge.index).value().front().address.ToString(), "10.7.0.1");
  ASSERT_TRUE(service_->Remove(context_, network.id().substr(0, 6)).ok());
  EXPECT_THAT(Devices(), IsEmpty());
  EXPECT_EQ(service_->Inspect(context_, "web").status().code(), absl::StatusCode::kNotFound);
}

// Another program deletes it while a container is on it.
TEST_F(NetworkServiceTest, DeletedBridgeComesBackWithItsContainers) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("a").ok());
  const std::string device = service_->Inspect(context_, "web").value().device();
  const network::LinkInfo before = links_->Find(device).value();
  const auto enslaved = [&] {
    const absl::StatusOr<network::LinkInfo> bridge = links_->Find(device);
    if (!bridge.ok()) return size_t{0};
    const std::vector<network::LinkInfo> links = links_->List().value();
    return static_cast<size_t>(
        std::count_if(links.begin(), links.end(),
                      [&](const network::LinkInfo& one) { return one.master == bridge->index; }));
  };
  ASSERT_EQ(links_->Delete(device), absl::OkStatus());
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (enslaved() < 1 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(enslaved(), 1u);
  const network::LinkInfo after = links_->Find(device).value();
  EXPECT_NE(after.index, before.index);
  EXPECT_EQ(after.mac, before.mac);
  EXPECT_TRUE(after.up);
  EXPECT_EQ(links_->Addresses(after.index).value().front().address.ToString(), "10.7.0.1");
  // A start does not depend on who is first.
  for (const char* next : {"b", "c", "d"}) {
    ASSERT_EQ(links_->Delete(device), absl::OkStatus());
    EXPECT_TRUE(Enter(next).ok()) << next;
  }
  EXPECT_EQ(enslaved(), 4u);
  // A network that is removed stays removed.
  for (const char* one : {"a", "b", "c", "d"}) ASSERT_TRUE(places_->Leave(context_, one).ok());
  ASSERT_TRUE(service_->Remove(context_, "web").ok());
  EXPECT_THAT(Devices(), IsEmpty());
}

TEST_F(NetworkServiceTest, SubnetsOfNetworksNeverOverlap) {
  ASSERT_EQ(Make("one", "172.17.0.0/16"), absl::OkStatus());
  ASSERT_EQ(Make("two"), absl::OkStatus());
  // The first that is free is kept for the default network.
  EXPECT_EQ(service_->Inspect(context_, "two").value().pools(0).subnet(), "172.19.0.0/16");
  const absl::Status status = Make("three", "172.19.5.0/24");
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("Pool overlaps with other one on this address space"));
  EXPECT_EQ(Make("two").code(), absl::StatusCode::kAlreadyExists);
  // A subnet that the host itself is in is left alone, too.
  network::BridgeSpec wire;
  wire.name = "wire";
  wire.addresses = {{network::Address::Parse("172.20.0.1").value(), 16}};
  ASSERT_TRUE(links_->EnsureBridge(wire).ok());
  ASSERT_EQ(Make("four"), absl::OkStatus());
  EXPECT_EQ(service_->Inspect(context_, "four").value().pools(0).subnet(), "172.21.0.0/16");
}

TEST_F(NetworkServiceTest, BadRequestsNameTheFieldAndMakeNothing) {
  for (const char* name : {"", "-web", "a b", "bridge", "host", "none"})
    EXPECT_FALSE(Make(name).ok()) << name;
  for (const char* subnet : {"10.0.0.1/24", "10.0.0.0", "nonsense"})
    EXPECT_EQ(Make("web", subnet).code(), absl::StatusCode::kInvalidArgument) << subnet;
  v1::CreateNetworkRequest request;
  request.set_name("web");
  request.set_driver("overlay");
  EXPECT_THAT(std::string(service_->Create(context_, request).status().message()),
              HasSubstr("overlay"));
  request.set_driver("");
  (*request.mutable_options())["com.example"] = "1";
  EXPECT_EQ(service_->Create(context_, request).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Devices(), IsEmpty());
}

// Two containers may publish one port: no port of the host leads to either.
TEST_F(NetworkServiceTest, RoutedNetworkOpensPortsAtTheContainersAddresses) {
  v1::CreateNetworkRequest request;
  request.set_name("web");
  request.add_pools()->set_subnet("10.7.0.0/24");
  (*request.mutable_options())[kIpv4ModeOption] = "routed";
  ASSERT_TRUE(service_->Create(context_, request).ok());
  ASSERT_TRUE(Enter("a", "web", Publishing("28080")).ok());
  ASSERT_TRUE(Enter("b", "web", Publishing("28080")).ok());
  EXPECT_THAT(Published(), IsEmpty());
  EXPECT_THAT(Opened(), ElementsAre("10.7.0.2 . tcp . 80", "10.7.0.3 . tcp . 80"));
  EXPECT_THAT(places_->Holds(context_, "a").value().ports, IsEmpty());
  // On a network with translation as well, the host's port leads there, and both addresses answer
  // as their networks say.
  ASSERT_EQ(Make("nat", "10.8.0.0/24"), absl::OkStatus());
  v1::ContainerConfig both = Publishing("28081");
  both.add_networks()->set_network("nat");
  both.add_networks()->set_network("web");
  ASSERT_TRUE(Enter("c", "web", both).ok());
  EXPECT_THAT(Published(), ElementsAre("28081 -> 10.8.0.2:80"));
  EXPECT_THAT(Opened(), SizeIs(3));
  Restart();
  ASSERT_EQ(places_->Reconcile([](absl::string_view, absl::string_view id) { return id != "b"; }),
            absl::OkStatus());
  EXPECT_THAT(Opened(), ElementsAre("10.7.0.2 . tcp . 80", "10.7.0.4 . tcp . 80"));
  ASSERT_TRUE(places_->Leave(context_, "a").ok());
  ASSERT_TRUE(places_->Leave(context_, "c").ok());
  EXPECT_THAT(Opened(), IsEmpty());
}

TEST_F(NetworkServiceTest, IsolatedNetworkHasNoAddressOfTheHost) {
  v1::CreateNetworkRequest request;
  request.set_name("lab");
  request.set_internal(true);
  request.add_pools()->set_subnet("10.7.0.0/24");
  request.add_pools()->set_subnet("fd07::/64");
  for (const char* option : {kIpv4ModeOption, kIpv6ModeOption})
    (*request.mutable_options())[option] = "isolated";
  ASSERT_TRUE(service_->Create(context_, request).ok());
  const v1::Network network = service_->Inspect(context_, "lab").value();
  const network::LinkInfo bridge = links_->Find(network.device()).value();
  EXPECT_THAT(links_->Addresses(bridge.index).value(), IsEmpty());
  // The address that would be the gateway's is a container's.
  EXPECT_THAT(Enter("a", "lab").value().addresses, ElementsAre("10.7.0.1", "fd07::1"));
  EXPECT_EQ(DefaultRouteIn(directory_.path() + "/state/netns/default/a"), "");
}

TEST_F(NetworkServiceTest, HostKnowsAChosenMacAddressAtOnce) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  const v1::Network network = service_->Inspect(context_, "web").value();
  ASSERT_EQ(network::InNetns(host_.get(),
                             [&] {
                               Command stale;
                               stale.argv = {"ip",       "neigh",          "replace",
                                             "10.7.0.2", "lladdr",         "02:00:00:00:00:01",
                                             "dev",      network.device(), "nud",
                                             "stale"};
                               return RunCommand(stale).status();
                             }),
            absl::OkStatus());
  v1::ContainerConfig config;
  v1::NetworkAttachment* attachment = config.add_networks();
  attachment->set_network("web");
  attachment->set_mac_address("02:00:00:00:00:07");
  ASSERT_TRUE(Enter("a", "web", config).ok());
  std::string arp;
  ASSERT_EQ(network::InNetns(host_.get(),
                             [&] {
                               arp = ReadFile("/proc/thread-self/net/arp", 1 << 16).value();
                               return absl::OkStatus();
                             }),
            absl::OkStatus());
  EXPECT_THAT(arp, HasSubstr("02:00:00:00:00:07"));
}

TEST_F(NetworkServiceTest, ContainersGetAddressesInOrderAndGiveThemBack) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  EXPECT_THAT(Enter("a").value().addresses, ElementsAre("10.7.0.2"));
  EXPECT_THAT(Enter("b").value().addresses, ElementsAre("10.7.0.3"));
  EXPECT_THAT(Devices(), SizeIs(3));
  ASSERT_TRUE(places_->Leave(context_, "a").ok());
  ASSERT_TRUE(places_->Leave(context_, "a").ok());
  EXPECT_THAT(Devices(), SizeIs(2));
  EXPECT_THAT(Enter("c").value().addresses, ElementsAre("10.7.0.2"));
  const v1::Network network = service_->Inspect(context_, "web").value();
  ASSERT_EQ(network.endpoints_size(), 2);
  EXPECT_EQ(network.endpoints(0).container_name(), "b-name");
  EXPECT_EQ(network.endpoints(1).addresses(0), "10.7.0.2/24");
}

TEST_F(NetworkServiceTest, ConnectingAgainTakesTheOldPlaceAway) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("a").ok());
  const std::set<std::string> before = Devices();
  EXPECT_THAT(Enter("a").value().addresses, ElementsAre("10.7.0.2"));
  EXPECT_EQ(Devices().size(), before.size());
}

TEST_F(NetworkServiceTest, AddressThatWasAskedFor) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  v1::ContainerConfig config;
  v1::NetworkAttachment* attachment = config.add_networks();
  attachment->set_network("web");
  attachment->set_ipv4_address("10.7.0.77");
  EXPECT_THAT(Enter("a", "web", config).value().addresses, ElementsAre("10.7.0.77"));
  EXPECT_EQ(Enter("b", "web", config).status().code(), absl::StatusCode::kAlreadyExists);
  attachment->set_ipv4_address("10.8.0.77");
  EXPECT_EQ(Enter("b", "web", config).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(service_->Inspect(context_, "web").value().endpoints(), SizeIs(1));
}

TEST_F(NetworkServiceTest, PortHasOneHolderWhoIsNamed) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("a", "web", Publishing("28080")).ok());
  const absl::Status status = Enter("b", "web", Publishing("28080")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("Bind for 0.0.0.0:28080 failed: port is already allocated; container "
                        "a-name has it"));
  // A range goes on to the next.
  EXPECT_TRUE(Enter("b", "web", Publishing("28080-28081")).ok());
  EXPECT_EQ(Enter("c", "web", Publishing("28080-28081")).status().code(),
            absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(places_->Leave(context_, "a").ok());
  EXPECT_TRUE(Enter("c", "web", Publishing("28080")).ok());
  for (const char* bad : {"x", "0-5", "9-8", "70000", "1-2-3"}) {
    EXPECT_EQ(Enter("d", "web", Publishing(bad)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST_F(NetworkServiceTest, NetworkInUseStays) {
  ASSERT_EQ(Make("web"), absl::OkStatus());
  ASSERT_TRUE(Enter("a").ok());
  const absl::Status status = service_->Remove(context_, "web").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("container a-name"));
  EXPECT_THAT(service_->Prune(context_, {}).value().names(), IsEmpty());
  ASSERT_TRUE(places_->Leave(context_, "a").ok());
  EXPECT_THAT(service_->Prune(context_, {}).value().names(), ElementsAre("web"));
}

TEST_F(NetworkServiceTest, DefaultNetworkIsMadeWhenItIsFirstUsed) {
  v1::ListNetworksResponse all = service_->List(context_, {}).value();
  ASSERT_EQ(all.networks_size(), 3);
  EXPECT_THAT(Devices(), IsEmpty());
  ASSERT_TRUE(Enter("a", "bridge").ok());
  EXPECT_EQ(Devices().count("gantry0"), 1u);
  EXPECT_EQ(service_->List(context_, {}).value().networks_size(), 3);
  EXPECT_FALSE(service_->Remove(context_, "bridge").ok());
  EXPECT_EQ(Enter("b", "nosuch").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(NetworkServiceTest, NextDaemonKeepsWhatRunsAndTakesTheRestAway) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("runs", "web", Publishing("28080")).ok());
  ASSERT_TRUE(Enter("ended", "web", Publishing("28081")).ok());
  ASSERT_THAT(Devices(), SizeIs(3));
  Restart();
  ASSERT_EQ(
      places_->Reconcile([](absl::string_view, absl::string_view id) { return id == "runs"; }),
      absl::OkStatus());
  EXPECT_THAT(Devices(), SizeIs(2));
  EXPECT_THAT(service_->Inspect(context_, "web").value().endpoints(), SizeIs(1));
  EXPECT_TRUE(Enter("next", "web", Publishing("28081")).ok());
  EXPECT_FALSE(Enter("other", "web", Publishing("28080")).ok());
}

TEST_F(NetworkServiceTest, SeveralNetworksAndWhereTheDefaultRouteGoes) {
  ASSERT_EQ(Make("zeta", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_EQ(Make("beta", "10.8.0.0/24"), absl::OkStatus());
  ASSERT_EQ(Make("alpha", "10.9.0.0/24"), absl::OkStatus());
  v1::ContainerConfig config = Publishing("28080");
  config.add_networks()->set_network("beta");
  config.add_networks()->set_network("zeta");
  const NetworkPlaces::Entered entered = Enter("a", "zeta", config).value();
  EXPECT_THAT(entered.addresses, ElementsAre("10.7.0.2", "10.8.0.2"));
  EXPECT_THAT(DevicesIn(entered.netns), ElementsAre("eth0", "eth1", "lo"));
  // By the name that sorts first.
  EXPECT_EQ(DefaultRouteIn(entered.netns), "eth1 10.8.0.1");
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.8.0.2:80"));

  const NetworkClient client = {"a", "a-name", ""};
  v1::NetworkAttachment attachment;
  attachment.set_network("alpha");
  ASSERT_EQ(places_->Connect(context_, client, attachment), absl::OkStatus());
  EXPECT_EQ(DefaultRouteIn(entered.netns), "eth2 10.9.0.1");
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.9.0.2:80"));
  // Again, as after a crash in the middle.
  ASSERT_EQ(places_->Connect(context_, client, attachment), absl::OkStatus());
  EXPECT_EQ(DefaultRouteIn(entered.netns), "eth2 10.9.0.1");
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.9.0.2:80"));
  EXPECT_THAT(places_->Holds(context_, "a").value().endpoints, SizeIs(3));
  // In a list of all it has the same, in the same order.
  ASSERT_TRUE(Enter("b", "beta").ok());
  const auto all = places_->HoldAll(context_).value();
  EXPECT_THAT(all, SizeIs(2));
  const NetworkPlaces::Held one = places_->Holds(context_, "a").value();
  ASSERT_THAT(all.at("a").endpoints, SizeIs(3));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(all.at("a").endpoints[i].SerializeAsString(), one.endpoints[i].SerializeAsString());
  }
  EXPECT_THAT(all.at("a").ports, SizeIs(one.ports.size()));
  EXPECT_THAT(all.at("b").endpoints, SizeIs(1));
  ASSERT_EQ(places_->Leave(context_, "b"), absl::OkStatus());

  ASSERT_EQ(places_->Disconnect(context_, client, "alpha"), absl::OkStatus());
  EXPECT_EQ(places_->Disconnect(context_, client, "alpha").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(DefaultRouteIn(entered.netns), "eth1 10.8.0.1");
  // A priority comes before the name.
  attachment.set_gateway_priority(1);
  attachment.set_ipv4_address("10.9.0.77");
  ASSERT_EQ(places_->Connect(context_, client, attachment), absl::OkStatus());
  EXPECT_EQ(DefaultRouteIn(entered.netns), "eth2 10.9.0.1");
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.9.0.77:80"));
  for (const char* network : {"alpha", "beta", "zeta"})
    ASSERT_EQ(places_->Disconnect(context_, client, network), absl::OkStatus()) << network;
  EXPECT_EQ(DefaultRouteIn(entered.netns), "");
  EXPECT_THAT(Published(), IsEmpty());
  EXPECT_THAT(DevicesIn(entered.netns), ElementsAre("lo"));
  ASSERT_EQ(places_->Connect(context_, client, attachment), absl::OkStatus());
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.9.0.77:80"));
  ASSERT_EQ(places_->Leave(context_, "a"), absl::OkStatus());
  EXPECT_THAT(Devices(), SizeIs(3));
}

TEST_F(NetworkServiceTest, AddressKeepsItsMacWithEachHolder) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("a").ok());
  const std::string before = places_->Holds(context_, "a").value().endpoints.front().mac_address();
  ASSERT_EQ(places_->Leave(context_, "a"), absl::OkStatus());
  ASSERT_TRUE(Enter("b").ok());
  const v1::NetworkEndpoint now = places_->Holds(context_, "b").value().endpoints.front();
  EXPECT_EQ(now.ip_address(), "10.7.0.2");
  EXPECT_EQ(now.mac_address(), before);
  EXPECT_EQ(before, "02:42:0a:07:00:02");
}

TEST_F(NetworkServiceTest, NewNameReplacesTheOldOne) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  v1::ContainerConfig config = Publishing("28080");
  config.add_networks()->set_network("web");
  config.mutable_networks(0)->add_aliases("cache");
  config.mutable_networks(0)->add_aliases("better");
  ASSERT_TRUE(Enter("a", "web", config).ok());
  ASSERT_EQ(places_->Rename(context_, {"a", "better", ""}), absl::OkStatus());
  EXPECT_THAT(places_->Holds(context_, "a").value().endpoints.front().dns_names(),
              ElementsAre("better", "cache", "a"));
  EXPECT_EQ(service_->Inspect(context_, "web").value().endpoints(0).container_name(), "better");
  EXPECT_THAT(std::string(Enter("b", "web", Publishing("28080")).status().message()),
              HasSubstr("better"));
  EXPECT_EQ(places_->Rename(context_, {"nosuch", "x", ""}), absl::OkStatus());
}

TEST_F(NetworkServiceTest, SettingsOfADevice) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  v1::ContainerConfig config;
  v1::NetworkAttachment* attachment = config.add_networks();
  attachment->set_network("web");
  auto& options = *attachment->mutable_driver_options();
  options["com.docker.network.endpoint.ifname"] = "lan0";
  std::string& settings = options["com.docker.network.endpoint.sysctls"];
  settings = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.gc_stale_time=77";
  const NetworkPlaces::Entered entered = Enter("a", "web", config).value();
  EXPECT_THAT(DevicesIn(entered.netns), ElementsAre("lan0", "lo"));
  const UniqueFd fd(open(entered.netns.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(
      network::InNetns(
          fd.get(),
          [] {
            EXPECT_EQ(ReadFile("/proc/sys/net/ipv4/conf/lan0/log_martians", 9).value(), "1\n");
            EXPECT_EQ(ReadFile("/proc/sys/net/ipv4/neigh/lan0/gc_stale_time", 9).value(), "77\n");
            return absl::OkStatus();
          }),
      absl::OkStatus());
  for (const char* bad : {"net.ipv4.ip_forward=1", "net.ipv4.conf.all.forwarding=1",
                          "net.ipv4.conf.IFNAME.a/b=1", "kernel.x.conf.IFNAME.y=1",
                          "net.ipv4.conf.IFNAME.log_martians", "net.ipv4.conf.IFNAME.=1"}) {
    settings = bad;
    EXPECT_EQ(Enter("b", "web", config).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  settings = "net.ipv4.conf.IFNAME.no_such_setting=1";
  EXPECT_FALSE(Enter("b", "web", config).ok());
  options.clear();
  options["com.example"] = "1";
  EXPECT_EQ(Enter("b", "web", config).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Devices(), SizeIs(2));
}

TEST_F(NetworkServiceTest, WhatCannotBeConnectedLeavesTheRestAsItWas) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_EQ(Make("db", "10.8.0.0/24"), absl::OkStatus());
  const NetworkPlaces::Entered entered = Enter("a", "web", Publishing("28080")).value();
  const NetworkClient client = {"a", "a-name", ""};
  v1::NetworkAttachment attachment;
  attachment.set_network("db");
  for (const char* bad : {"nonsense", "10.8.1.7", "10.8.0.1"}) {
    attachment.set_ipv4_address(bad);
    EXPECT_FALSE(places_->Connect(context_, client, attachment).ok()) << bad;
  }
  attachment.set_ipv4_address("");
  // The kernel refuses the name after the place has been recorded.
  (*attachment.mutable_driver_options())["com.docker.network.endpoint.ifname"] = "a/b";
  EXPECT_FALSE(places_->Connect(context_, client, attachment).ok());
  EXPECT_EQ(places_->Connect(context_, {"b", "b-name", ""}, attachment).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(service_->Inspect(context_, "db").value().endpoints(), IsEmpty());
  EXPECT_THAT(DevicesIn(entered.netns), ElementsAre("eth0", "lo"));
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.7.0.2:80"));
  v1::ContainerConfig two;
  two.add_networks()->set_network("web");
  two.add_networks()->set_network("nosuch");
  EXPECT_EQ(Enter("c", "web", two).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(service_->Inspect(context_, "web").value().endpoints(), SizeIs(1));
  EXPECT_THAT(Devices(), SizeIs(3));
}

TEST_F(NetworkServiceTest, PortsWithoutAnAddressAreBoundAsConfigured) {
  places_ = std::make_unique<NetworkPlaces>(
      NetworkPlaces::Parts{&*store_, service_.get(), kernel_.get(), &events_,
                           directory_.path() + "/state", nullptr, "127.0.0.1"});
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  v1::ContainerConfig config = Publishing("28080");
  config.add_port_bindings()->set_container_port(81);
  config.mutable_port_bindings(1)->set_host_port("28081");
  config.mutable_port_bindings(1)->set_host_ip("0.0.0.0");
  ASSERT_TRUE(Enter("a", "web", config).ok());
  std::vector<std::string> shown;
  const NetworkPlaces::Held held = places_->Holds(context_, "a").value();
  for (const v1::PublishedPort& one : held.ports)
    shown.push_back(absl::StrCat(one.ip(), ":", one.public_port()));
  EXPECT_THAT(shown, ElementsAre("127.0.0.1:28080", "0.0.0.0:28081"));
}

TEST_F(NetworkServiceTest, EveryExposedPortIsPublished) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  v1::ContainerConfig config = Publishing("28080");
  config.set_publish_all_ports(true);
  for (const char* port : {"80/tcp", "53/udp", "90-91/tcp", "nonsense"})
    config.add_exposed_ports(port);
  ASSERT_TRUE(Enter("a", "web", config).ok());
  std::vector<std::string> shown;
  const NetworkPlaces::Held held = places_->Holds(context_, "a").value();
  for (const v1::PublishedPort& one : held.ports) {
    // At IPv6 addresses too, where the host has any.
    if (one.ip() == "0.0.0.0")
      shown.push_back(absl::StrCat(one.private_port(), "/", one.protocol()));
    EXPECT_GE(one.public_port(), 28080u);
  }
  EXPECT_THAT(shown, ElementsAre("80/tcp", "53/udp", "90/tcp", "91/tcp"));
}

TEST_F(NetworkServiceTest, StackedDriversShareAParent) {
  network::BridgeSpec wire;
  wire.name = "wire";
  ASSERT_TRUE(links_->EnsureBridge(wire).ok());
  v1::CreateNetworkRequest request;
  request.set_name("lan");
  request.set_driver("macvlan");
  (*request.mutable_options())["parent"] = "wire";
  request.add_pools()->set_subnet("10.7.0.0/24");
  request.mutable_pools(0)->set_gateway("10.7.0.254");
  ASSERT_TRUE(service_->Create(context_, request).ok());
  const NetworkPlaces::Entered entered = Enter("a", "lan").value();
  EXPECT_THAT(entered.addresses, ElementsAre("10.7.0.1"));
  EXPECT_EQ(DefaultRouteIn(entered.netns), "eth0 10.7.0.254");
  EXPECT_THAT(Devices(), ElementsAre("wire"));
  ASSERT_EQ(places_->Leave(context_, "a"), absl::OkStatus());
  // Without a parent it is a wire of its own, which goes with the network.
  request.set_name("own");
  request.clear_options();
  request.clear_pools();
  ASSERT_TRUE(service_->Create(context_, request).ok());
  EXPECT_THAT(Devices(), SizeIs(3));
  EXPECT_EQ(DefaultRouteIn(Enter("b", "own").value().netns), "");
  ASSERT_EQ(places_->Leave(context_, "b"), absl::OkStatus());
  for (const char* name : {"lan", "own"}) EXPECT_TRUE(service_->Remove(context_, name).ok());
  EXPECT_THAT(Devices(), ElementsAre("wire"));
  // What stands on it excludes others.
  request.set_name("alone");
  (*request.mutable_options())["parent"] = "wire";
  (*request.mutable_options())["macvlan_mode"] = "passthru";
  ASSERT_TRUE(service_->Create(context_, request).ok());
  request.set_name("second");
  (*request.mutable_options())["macvlan_mode"] = "bridge";
  EXPECT_EQ(service_->Create(context_, request).status().code(), absl::StatusCode::kAlreadyExists);
  (*request.mutable_options())["macvlan_mode"] = "sideways";
  EXPECT_EQ(service_->Create(context_, request).status().code(),
            absl::StatusCode::kInvalidArgument);
  (*request.mutable_options())["macvlan_mode"] = "bridge";
  (*request.mutable_options())["parent"] = "nosuch";
  EXPECT_EQ(service_->Create(context_, request).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(service_->Inspect(context_, "second").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(NetworkServiceTest, SettingsThatOtherNetworksTake) {
  v1::CreateNetworkRequest request;
  request.set_name("settings");
  request.set_configuration_only(true);
  request.add_pools()->set_subnet("10.7.0.0/24");
  (*request.mutable_options())["com.docker.network.driver.mtu"] = "1400";
  ASSERT_TRUE(service_->Create(context_, request).ok());
  EXPECT_THAT(Devices(), IsEmpty());
  EXPECT_EQ(Enter("a", "settings").status().code(), absl::StatusCode::kFailedPrecondition);
  v1::CreateNetworkRequest from;
  from.set_name("web");
  from.set_configuration_from("settings");
  ASSERT_TRUE(service_->Create(context_, from).ok());
  const v1::Network web = service_->Inspect(context_, "web").value();
  EXPECT_EQ(web.pools(0).subnet(), "10.7.0.0/24");
  EXPECT_EQ(links_->Find(web.device()).value().mtu, 1400u);
  EXPECT_EQ(web.configuration_from(), "settings");
  from.set_name("other");
  from.add_pools()->set_subnet("10.9.0.0/24");
  EXPECT_EQ(service_->Create(context_, from).status().code(), absl::StatusCode::kInvalidArgument);
  from.clear_pools();
  from.set_configuration_from("web");
  EXPECT_EQ(service_->Create(context_, from).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(NetworkServiceTest, AutomaticSubnetsLeaveNameServersAlone) {
  std::ofstream(directory_.path() + "/resolv.conf")
      << "search example\nnameserver 172.17.0.10\nnameserver fe80::1%eth0\nnameserver 172.18.9.9\n";
  ASSERT_EQ(Make("web"), absl::OkStatus());
  EXPECT_EQ(service_->Inspect(context_, "web").value().pools(0).subnet(), "172.20.0.0/16");
  // Any free block of a size.
  ASSERT_EQ(Make("small", "0.0.0.0/28"), absl::OkStatus());
  EXPECT_EQ(service_->Inspect(context_, "small").value().pools(0).subnet(), "172.17.0.16/28");
}

TEST_F(NetworkServiceTest, OneOfTheFamiliesIsEnabled) {
  v1::CreateNetworkRequest request;
  request.set_name("web");
  request.set_no_ipv4(true);
  EXPECT_EQ(service_->Create(context_, request).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.set_ipv6(true);
  ASSERT_TRUE(service_->Create(context_, request).ok());
  const v1::Network web = service_->Inspect(context_, "web").value();
  ASSERT_EQ(web.pools_size(), 1);
  EXPECT_THAT(web.pools(0).subnet(), HasSubstr("::/64"));
  EXPECT_THAT(Enter("a").value().addresses, ElementsAre(HasSubstr("::2")));
}

TEST_F(NetworkServiceTest, EventsAreDockersFour) {
  const auto seen = events_.Subscribe(nullptr, [] {});
  ASSERT_EQ(Make("web"), absl::OkStatus());
  ASSERT_TRUE(Enter("a").ok());
  ASSERT_TRUE(places_->Leave(context_, "a").ok());
  ASSERT_TRUE(service_->Remove(context_, "web").ok());
  std::vector<std::string> actions;
  while (const EventPtr event = seen->Pop()) {
    EXPECT_EQ(event->kind, EventKind::kNetwork);
    EXPECT_EQ(event->attributes.at("name"), "web");
    EXPECT_EQ(event->attributes.at("type"), "bridge");
    EXPECT_EQ(event->attributes.count("container"),
              event->action == "connect" || event->action == "disconnect" ? 1u : 0u);
    actions.push_back(event->action);
  }
  EXPECT_THAT(actions, ElementsAre("create", "connect", "disconnect", "destroy"));
}

TEST_F(NetworkServiceTest, APruneIsAnEventToo) {
  const auto seen = events_.Subscribe(nullptr, [] {});
  ASSERT_TRUE(service_->Prune(context_, {}).ok());
  const EventPtr event = seen->Pop();
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(event->kind, EventKind::kNetwork);
  EXPECT_EQ(event->action, "prune");
}

TEST_F(NetworkServiceTest, FilteredLists) {
  ASSERT_EQ(Make("web"), absl::OkStatus());
  v1::ListNetworksRequest request;
  v1::Filter* filter = request.add_filters();
  filter->set_key("type");
  filter->set_value("custom");
  ASSERT_EQ(service_->List(context_, request).value().networks_size(), 1);
  filter->set_value("bogus");
  EXPECT_EQ(service_->List(context_, request).status().code(), absl::StatusCode::kInvalidArgument);
  filter->set_key("dangling");
  filter->set_value("true");
  ASSERT_EQ(service_->List(context_, request).value().networks_size(), 1);
  ASSERT_TRUE(Enter("a").ok());
  EXPECT_EQ(service_->List(context_, request).value().networks_size(), 0);
  filter->set_value("perhaps");
  EXPECT_EQ(service_->List(context_, request).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(NetworkServiceTest, NamesAndIdsAreFilteredByRegularExpressions) {
  for (const char* name : {"web", "web-2", "store"}) ASSERT_EQ(Make(name), absl::OkStatus());
  v1::ListNetworksRequest request;
  v1::Filter* filter = request.add_filters();
  const auto listed = [&](const std::string& key, const std::string& value) {
    filter->set_key(key);
    filter->set_value(value);
    std::vector<std::string> names;
    const absl::StatusOr<v1::ListNetworksResponse> list = service_->List(context_, request);
    EXPECT_TRUE(list.ok()) << list.status();
    if (!list.ok()) return names;
    for (const v1::Network& one : list->networks()) names.push_back(one.name());
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(listed("name", "web"), (Names{"web", "web-2"}));
  EXPECT_EQ(listed("name", "^web$"), Names{"web"});
  EXPECT_EQ(listed("name", "^(web|store)$"), (Names{"store", "web"}));
  EXPECT_EQ(listed("name", "^none"), Names{"none"});
  const std::string id = service_->Inspect(context_, "store").value().id();
  EXPECT_EQ(listed("id", id), Names{"store"});
  EXPECT_EQ(listed("id", "^" + id.substr(0, 20)), Names{"store"});
  EXPECT_EQ(listed("id", id.substr(20)), Names{"store"});
  filter->set_value("(");
  const absl::Status refused = service_->List(context_, request).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(refused.message(), "\"(\" is not a regular expression")) << refused;
}

}  // namespace
}  // namespace gantry::core
