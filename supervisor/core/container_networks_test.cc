// Containers that are connected to networks and taken off them, running or not.
//
// Needs root: networks are made in a network namespace of the test's own.
#include "supervisor/core/container_networks.h"

#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_service.h"
#include "supervisor/network/netns.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class ContainerNetworksTest : public ContainerFixture {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    netns_ = network::NewNetns().value();
    kernel_ = std::make_unique<NetworkKernel>(&store_, dir_.Join("state"), nullptr, netns_.get());
    NetworkService::Parts parts;
    parts.store = &store_;
    parts.clock = &clock_;
    parts.kernel = kernel_.get();
    parts.events = &events_;
    parts.host_id = "test";
    parts.resolv_conf = dir_.Join("resolv.conf");
    service_ = std::make_unique<NetworkService>(parts);
    places_ = std::make_unique<NetworkPlaces>(
        NetworkPlaces::Parts{&store_, service_.get(), kernel_.get(), &events_, dir_.Join("state")});
    networks_ = std::make_unique<ContainerNetworks>(ContainerNetworks::Parts{
        records_.get(), &stores_, &tasks_->view(), service_.get(), places_.get()});
    MakeNetwork("blue", "10.7.0.0/24");
    MakeNetwork("red", "10.8.0.0/24");
  }
  void TearDown() override {
    if (places_ == nullptr) return;
    EXPECT_EQ(places_->Reconcile([](absl::string_view, absl::string_view) { return false; }),
              absl::OkStatus());
  }

  void MakeNetwork(const std::string& name, const std::string& subnet) {
    v1::CreateNetworkRequest request;
    request.set_name(name);
    request.add_pools()->set_subnet(subnet);
    const absl::Status made = service_->Create(context_, request).status();
    ASSERT_TRUE(made.ok()) << made;
  }
  std::string MakeIn(const std::string& name, const std::string& mode) {
    v1::ContainerConfig config = Config();
    config.set_network_mode(mode);
    return Make(name, config);
  }
  // Runs, with the places that a start gives it: the fixture's own starts know no networks.
  std::string Run(const std::string& name, const std::string& network) {
    const std::string id = MakeIn(name, "none");
    const absl::Status started = Start(id);
    EXPECT_TRUE(started.ok()) << started;
    LoadedContainer loaded = records_->Load(context_, id).value();
    loaded.config.set_network_mode(network);
    WriteIntent(loaded.config, loaded.record);
    EXPECT_TRUE(stores_.containers.Update({kNs, ""}, loaded.record, {"extensions"}).ok());
    const auto entered = places_->Enter(context_, {id, name, ""}, network, loaded.config);
    EXPECT_TRUE(entered.ok()) << entered.status();
    return id;
  }
  absl::Status Connect(const std::string& container, const std::string& network,
                       const std::string& ip = "") {
    v1::ConnectNetworkRequest request;
    request.set_container(container);
    request.mutable_attachment()->set_network(network);
    request.mutable_attachment()->set_ipv4_address(ip);
    return networks_->Connect(context_, request);
  }
  absl::Status Disconnect(const std::string& container, const std::string& network,
                          bool force = false) {
    v1::DisconnectNetworkRequest request;
    request.set_container(container);
    request.set_network(network);
    request.set_force(force);
    return networks_->Disconnect(context_, request);
  }
  v1::ContainerConfig Stored(const std::string& id) {
    return records_->Load(context_, id).value().config;
  }
  std::vector<std::string> Networks(const std::string& id) {
    std::vector<std::string> names;
    const v1::ContainerConfig stored = Stored(id);
    for (const v1::NetworkAttachment& one : stored.networks()) names.push_back(one.network());
    return names;
  }
  // Addresses that the container has now.
  std::vector<std::string> Addresses(const std::string& id) {
    std::vector<std::string> addresses;
    const std::vector<metadata::StoredEndpoint> endpoints = store_.EndpointsOf(kNs, id).value();
    for (const metadata::StoredEndpoint& one : endpoints)
      addresses.insert(addresses.end(), one.record.addresses().begin(),
                       one.record.addresses().end());
    return addresses;
  }

  metadata::NetworkStore store_{*db_};
  UniqueFd netns_;
  std::unique_ptr<NetworkKernel> kernel_;
  std::unique_ptr<NetworkService> service_;
  std::unique_ptr<NetworkPlaces> places_;
  std::unique_ptr<ContainerNetworks> networks_;
};

TEST_F(ContainerNetworksTest, OfWhatDoesNotRunTheNextStartIsChanged) {
  const std::string id = MakeIn("web", "blue");
  ASSERT_TRUE(Connect("web", "red", "10.8.0.9").ok());
  EXPECT_THAT(Networks(id), ElementsAre("red"));
  EXPECT_EQ(Stored(id).networks(0).ipv4_address(), "10.8.0.9");
  EXPECT_EQ(Stored(id).network_mode(), "blue");
  EXPECT_THAT(Addresses(id), IsEmpty());
  ASSERT_TRUE(Disconnect("web", "blue").ok());
  EXPECT_EQ(Stored(id).network_mode(), "red");
  EXPECT_THAT(Networks(id), ElementsAre("red"));
  ASSERT_TRUE(Disconnect("web", "red").ok());
  EXPECT_EQ(Stored(id).network_mode(), "none");
  EXPECT_THAT(Networks(id), IsEmpty());
}

TEST_F(ContainerNetworksTest, OneWithoutANetworkGetsItsFirst) {
  const std::string id = MakeIn("web", "none");
  ASSERT_TRUE(Connect("web", "blue").ok());
  EXPECT_EQ(Stored(id).network_mode(), "blue");
  EXPECT_TRUE(absl::IsAlreadyExists(Connect("web", "blue")));
}

TEST_F(ContainerNetworksTest, WhatRunsIsConnectedAtOnce) {
  const std::string id = Run("web", "blue");
  EXPECT_THAT(Addresses(id), ElementsAre("10.7.0.2/24"));
  ASSERT_TRUE(Connect(id, "red").ok());
  EXPECT_THAT(Addresses(id), UnorderedElementsAre("10.7.0.2/24", "10.8.0.2/24"));
  ASSERT_TRUE(Disconnect(id, "blue").ok());
  EXPECT_THAT(Addresses(id), ElementsAre("10.8.0.2/24"));
  EXPECT_EQ(Stored(id).network_mode(), "red");
  // The address is free for the next.
  EXPECT_THAT(Addresses(Run("db", "blue")), ElementsAre("10.7.0.2/24"));
}

TEST_F(ContainerNetworksTest, TheLastNetworkCanGoAndAnotherCome) {
  const std::string id = Run("web", "blue");
  ASSERT_TRUE(Disconnect(id, "blue").ok());
  EXPECT_EQ(Stored(id).network_mode(), "none");
  EXPECT_THAT(Addresses(id), IsEmpty());
  ASSERT_TRUE(Connect(id, "red").ok());
  EXPECT_THAT(Addresses(id), ElementsAre("10.8.0.2/24"));
  EXPECT_EQ(Stored(id).network_mode(), "red");
}

TEST_F(ContainerNetworksTest, ANetworkIsNamedByItsIdToo) {
  const std::string id = MakeIn("web", "blue");
  const std::string red = service_->Inspect(context_, "red")->id();
  ASSERT_TRUE(Connect("web", red.substr(0, 12)).ok());
  EXPECT_THAT(Networks(id), ElementsAre("red"));
  EXPECT_TRUE(absl::IsAlreadyExists(Connect("web", red)));
  const std::string blue = service_->Inspect(context_, "blue")->id();
  ASSERT_TRUE(Disconnect("web", blue).ok());
  EXPECT_EQ(Stored(id).network_mode(), "red");
}

TEST_F(ContainerNetworksTest, AnAddressOfAnotherChangesNothing) {
  Run("db", "red");  // has 10.8.0.2
  const std::string id = Run("web", "blue");
  EXPECT_TRUE(absl::IsAlreadyExists(Connect(id, "red", "10.8.0.2")));
  EXPECT_THAT(Addresses(id), ElementsAre("10.7.0.2/24"));
  EXPECT_THAT(Networks(id), IsEmpty());
  EXPECT_FALSE(Connect(id, "red", "192.0.2.1").ok());
  EXPECT_THAT(Networks(id), IsEmpty());
  EXPECT_TRUE(Connect(id, "red").ok());
}

TEST_F(ContainerNetworksTest, SharedNamespacesCannotBeConnected) {
  const std::string web = MakeIn("web", "blue");
  MakeIn("onhost", "host");
  MakeIn("joined", "container:" + web);
  for (const char* container : {"onhost", "joined"}) {
    const absl::Status refused = Connect(container, "red");
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << container;
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("container sharing network namespace with another container or host"));
    EXPECT_TRUE(absl::IsFailedPrecondition(Disconnect(container, "red"))) << container;
  }
  EXPECT_THAT(std::string(Connect("web", "host").message()),
              HasSubstr("must be created in host network mode"));
  EXPECT_TRUE(absl::IsFailedPrecondition(Disconnect("web", "host")));
  EXPECT_THAT(std::string(Connect("web", "none").message()), HasSubstr("private (none) mode"));
}

TEST_F(ContainerNetworksTest, WhatIsNotConnectedOrNotThereIsSaid) {
  const std::string id = MakeIn("web", "blue");
  const absl::Status absent = Disconnect("web", "red");
  EXPECT_TRUE(absl::IsFailedPrecondition(absent));
  EXPECT_EQ(absent.message(), "container " + id + " is not connected to network red");
  EXPECT_TRUE(absl::IsNotFound(Connect("nothing", "red")));
  EXPECT_TRUE(absl::IsNotFound(Connect("web", "nowhere")));
  EXPECT_TRUE(absl::IsNotFound(Disconnect("web", "nowhere")));
  EXPECT_TRUE(absl::IsNotFound(Disconnect("nothing", "red")));
}

TEST_F(ContainerNetworksTest, WithForceWhatIsLeftOfAContainerGoes) {
  const std::string id = Run("web", "blue");
  ASSERT_TRUE(stores_.containers.Delete({kNs, ""}, id).ok());
  EXPECT_THAT(Addresses(id), SizeIs(1));
  EXPECT_TRUE(absl::IsNotFound(Disconnect(id, "blue")));
  ASSERT_TRUE(Disconnect(id, "blue", /*force=*/true).ok());
  EXPECT_THAT(Addresses(id), IsEmpty());
  EXPECT_TRUE(Disconnect(id, "blue", /*force=*/true).ok());
}

TEST_F(ContainerNetworksTest, AContainerOfAnotherClientIsThatOnes) {
  const std::string id = MakeIn("web", "blue");
  record::v1::Container record = records_->Load(context_, id)->record;
  record.mutable_extensions()->erase("gantry");
  ASSERT_TRUE(stores_.containers.Update({kNs, ""}, record, {"extensions"}).ok());
  EXPECT_THAT(std::string(Connect("web", "red").message()),
              HasSubstr("was made by another client"));
}

TEST_F(ContainerNetworksTest, WaysToThePortsOfWhatRuns) {
  v1::ContainerConfig config = Config();
  config.set_network_mode("blue");
  v1::PortBinding* port = config.add_port_bindings();
  port->set_container_port(80);
  port->set_host_ip("127.0.0.1");
  port->set_host_port("28080");
  const std::string id = Make("web", config);
  ASSERT_TRUE(places_->Enter(context_, {id, "web", ""}, "blue", config).ok());
  v1::ListPortsRequest request;
  request.add_containers(id);
  request.add_containers("nothing");
  v1::ListPortsResponse response;
  ASSERT_TRUE(networks_->ListPorts(context_, request, &response).ok());
  ASSERT_EQ(response.ways_size(), 1);
  EXPECT_EQ(response.ways(0).container(), id);
  EXPECT_EQ(response.ways(0).address(), "127.0.0.1");
  EXPECT_EQ(response.ways(0).port(), 28080u);
  EXPECT_EQ(response.ways(0).leads_to(), "10.7.0.2");
  EXPECT_EQ(response.ways(0).container_port(), 80u);
}

}  // namespace
}  // namespace gantry::core
