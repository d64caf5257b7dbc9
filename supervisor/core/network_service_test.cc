// Against the kernel: the service's host is a network namespace of the test's own. Needs root.
#include "supervisor/core/network_service.h"

#include <sys/mount.h>
#include <unistd.h>

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "supervisor/core/event.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/metadata/database.h"
#include "supervisor/network/netns.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class NetworkServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    host_ = network::NewNetns().value();
    links_ = network::Links::OpenIn(host_.get()).value();
    db_ = metadata::Database::Open(directory_.path()).value();
    store_.emplace(*db_);
    context_.ns = "default";
    Restart();
  }
  void TearDown() override {
    if (service_ == nullptr) return;
    // Places hold mounts below the directory.
    EXPECT_TRUE(
        service_->Reconcile([](absl::string_view, absl::string_view) { return false; }).ok());
  }

  // As the next daemon finds things.
  void Restart() {
    NetworkService::Parts parts;
    parts.store = &*store_;
    parts.clock = &Clock::Real();
    parts.events = &events_;
    parts.state_directory = directory_.path() + "/state";
    parts.host_id = "test";
    parts.host_netns = host_.get();
    service_ = std::make_unique<NetworkService>(parts);
  }

  absl::Status Make(const std::string& name, const std::string& subnet = "") {
    v1::CreateNetworkRequest request;
    request.set_name(name);
    if (!subnet.empty()) request.add_pools()->set_subnet(subnet);
    return service_->Create(context_, request).status();
  }
  absl::StatusOr<NetworkService::Place> Connect(const std::string& container,
                                                const std::string& network = "web",
                                                const v1::ContainerConfig& config = {}) {
    return service_->Connect(context_, network, container, container + "-name", config);
  }
  static v1::ContainerConfig Publishing(const std::string& host_port) {
    v1::ContainerConfig config;
    v1::PortBinding* port = config.add_port_bindings();
    port->set_container_port(80);
    port->set_host_port(host_port);
    return config;
  }
  std::set<std::string> Devices() {
    std::set<std::string> names;
    const auto links = links_->List();
    EXPECT_TRUE(links.ok());
    for (const network::LinkInfo& one : *links) names.insert(one.name);
    names.erase("lo");
    return names;
  }

  TempDir directory_;
  UniqueFd host_;
  std::unique_ptr<network::Links> links_;
  std::unique_ptr<metadata::Database> db_;
  std::optional<metadata::NetworkStore> store_;
  std::unique_ptr<NetworkService> service_;
  CallContext context_;
  EventBus events_;
};

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

TEST_F(NetworkServiceTest, SubnetsOfNetworksNeverOverlap) {
  ASSERT_EQ(Make("one", "172.17.0.0/16"), absl::OkStatus());
  ASSERT_EQ(Make("two"), absl::OkStatus());
  EXPECT_EQ(service_->Inspect(context_, "two").value().pools(0).subnet(), "172.18.0.0/16");
  const absl::Status status = Make("three", "172.18.5.0/24");
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("Pool overlaps with other one on this address space"));
  EXPECT_EQ(Make("two").code(), absl::StatusCode::kAlreadyExists);
  // A subnet that the host itself is in is left alone, too.
  network::BridgeSpec wire;
  wire.name = "wire";
  wire.addresses = {{network::Address::Parse("172.19.0.1").value(), 16}};
  ASSERT_TRUE(links_->EnsureBridge(wire).ok());
  ASSERT_EQ(Make("four"), absl::OkStatus());
  EXPECT_EQ(service_->Inspect(context_, "four").value().pools(0).subnet(), "172.20.0.0/16");
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

TEST_F(NetworkServiceTest, ContainersGetAddressesInOrderAndGiveThemBack) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  EXPECT_THAT(Connect("a").value().addresses, ElementsAre("10.7.0.2"));
  EXPECT_THAT(Connect("b").value().addresses, ElementsAre("10.7.0.3"));
  EXPECT_THAT(Devices(), SizeIs(3));
  ASSERT_TRUE(service_->Disconnect(context_, "a").ok());
  ASSERT_TRUE(service_->Disconnect(context_, "a").ok());
  EXPECT_THAT(Devices(), SizeIs(2));
  EXPECT_THAT(Connect("c").value().addresses, ElementsAre("10.7.0.2"));
  const v1::Network network = service_->Inspect(context_, "web").value();
  ASSERT_EQ(network.endpoints_size(), 2);
  EXPECT_EQ(network.endpoints(0).container_name(), "b-name");
  EXPECT_EQ(network.endpoints(1).addresses(0), "10.7.0.2/24");
}

TEST_F(NetworkServiceTest, ConnectingAgainTakesTheOldPlaceAway) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Connect("a").ok());
  const std::set<std::string> before = Devices();
  EXPECT_THAT(Connect("a").value().addresses, ElementsAre("10.7.0.2"));
  EXPECT_EQ(Devices().size(), before.size());
}

TEST_F(NetworkServiceTest, AddressThatWasAskedFor) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  v1::ContainerConfig config;
  v1::NetworkAttachment* attachment = config.add_networks();
  attachment->set_network("web");
  attachment->set_ipv4_address("10.7.0.77");
  EXPECT_THAT(Connect("a", "web", config).value().addresses, ElementsAre("10.7.0.77"));
  EXPECT_EQ(Connect("b", "web", config).status().code(), absl::StatusCode::kAlreadyExists);
  attachment->set_ipv4_address("10.8.0.77");
  EXPECT_EQ(Connect("b", "web", config).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(service_->Inspect(context_, "web").value().endpoints(), SizeIs(1));
}

TEST_F(NetworkServiceTest, PortHasOneHolderWhoIsNamed) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Connect("a", "web", Publishing("28080")).ok());
  const absl::Status status = Connect("b", "web", Publishing("28080")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("Bind for 0.0.0.0:28080/tcp failed: port is already allocated; container "
                        "a-name has it"));
  // A range goes on to the next.
  EXPECT_TRUE(Connect("b", "web", Publishing("28080-28081")).ok());
  EXPECT_EQ(Connect("c", "web", Publishing("28080-28081")).status().code(),
            absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(service_->Disconnect(context_, "a").ok());
  EXPECT_TRUE(Connect("c", "web", Publishing("28080")).ok());
  for (const char* bad : {"x", "0-5", "9-8", "70000", "1-2-3"}) {
    EXPECT_EQ(Connect("d", "web", Publishing(bad)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

TEST_F(NetworkServiceTest, NetworkInUseStays) {
  ASSERT_EQ(Make("web"), absl::OkStatus());
  ASSERT_TRUE(Connect("a").ok());
  const absl::Status status = service_->Remove(context_, "web").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("container a-name"));
  EXPECT_THAT(service_->Prune(context_, {}).value().names(), IsEmpty());
  ASSERT_TRUE(service_->Disconnect(context_, "a").ok());
  EXPECT_THAT(service_->Prune(context_, {}).value().names(), ElementsAre("web"));
}

TEST_F(NetworkServiceTest, DefaultNetworkIsMadeWhenItIsFirstUsed) {
  v1::ListNetworksResponse all = service_->List(context_, {}).value();
  ASSERT_EQ(all.networks_size(), 3);
  EXPECT_THAT(Devices(), IsEmpty());
  ASSERT_TRUE(Connect("a", "bridge").ok());
  EXPECT_EQ(Devices().count("gantry0"), 1u);
  EXPECT_EQ(service_->List(context_, {}).value().networks_size(), 3);
  EXPECT_FALSE(service_->Remove(context_, "bridge").ok());
  EXPECT_EQ(Connect("b", "nosuch").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(NetworkServiceTest, NextDaemonKeepsWhatRunsAndTakesTheRestAway) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Connect("runs", "web", Publishing("28080")).ok());
  ASSERT_TRUE(Connect("ended", "web", Publishing("28081")).ok());
  ASSERT_THAT(Devices(), SizeIs(3));
  Restart();
  ASSERT_EQ(
      service_->Reconcile([](absl::string_view, absl::string_view id) { return id == "runs"; }),
      absl::OkStatus());
  EXPECT_THAT(Devices(), SizeIs(2));
  EXPECT_THAT(service_->Inspect(context_, "web").value().endpoints(), SizeIs(1));
  EXPECT_TRUE(Connect("next", "web", Publishing("28081")).ok());
  EXPECT_FALSE(Connect("other", "web", Publishing("28080")).ok());
}

TEST_F(NetworkServiceTest, EventsAreDockersFour) {
  const auto seen = events_.Subscribe(nullptr, [] {});
  ASSERT_EQ(Make("web"), absl::OkStatus());
  ASSERT_TRUE(Connect("a").ok());
  ASSERT_TRUE(service_->Disconnect(context_, "a").ok());
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
  ASSERT_TRUE(Connect("a").ok());
  EXPECT_EQ(service_->List(context_, request).value().networks_size(), 0);
}

}  // namespace
}  // namespace gantry::core
