// Published ports that change while the container runs, as the kernel's rules have them, and what
// one container may reach of another by a link. Needs root.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_records.h"
#include "supervisor/core/network_testbed.h"
#include "supervisor/core/port_forwards.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class NetworkPortsTest : public NetworkBed {
 protected:
  absl::Status Change(const v1::ContainerConfig& config, const std::string& network = "web") {
    return places_->ChangePorts(context_, {"a", "a-name", ""}, network, config);
  }
  static void Also(v1::ContainerConfig& config, uint32_t container_port,
                   const std::string& host_port, const std::string& host_ip = "") {
    v1::PortBinding* port = config.add_port_bindings();
    port->set_container_port(container_port);
    port->set_host_port(host_port);
    port->set_host_ip(host_ip);
  }
  std::string Forwarded() {
    return ReadFile(ForwardsPath(directory_.path() + "/state/netns/default/a"), 1 << 16)
        .value_or("");
  }
};

TEST_F(NetworkPortsTest, ChangeWhileTheContainerRuns) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("a", "web", Publishing("28080")).ok());
  v1::ContainerConfig both = Publishing("28080");
  Also(both, 90, "28090");
  ASSERT_EQ(Change(both), absl::OkStatus());
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.7.0.2:80", "28090 -> 10.7.0.2:90"));
  EXPECT_THAT(Forwarded(), HasSubstr("tcp :: 28090 10.7.0.2 90 if-possible"));
  // The host's port leads elsewhere from now on, in the same call.
  v1::ContainerConfig moved;
  Also(moved, 81, "28080");
  ASSERT_EQ(Change(moved), absl::OkStatus());
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.7.0.2:81"));
  EXPECT_EQ(Forwarded(), "tcp :: 28080 10.7.0.2 81 if-possible\n");
  // What is given back is another's to take.
  EXPECT_TRUE(Enter("b", "web", Publishing("28090")).ok());
  ASSERT_EQ(Change({}), absl::OkStatus());
  EXPECT_THAT(Published(), ElementsAre("28090 -> 10.7.0.3:80"));
  EXPECT_EQ(Forwarded(), "");
  EXPECT_TRUE(Enter("c", "web", Publishing("28080")).ok());
}

TEST_F(NetworkPortsTest, WhatIsKeptKeepsTheHostPortThatWasChosenForIt) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("a", "web", Publishing("")).ok());
  const std::vector<std::string> before = Published();
  ASSERT_EQ(before.size(), 1u);
  v1::ContainerConfig more;
  Also(more, 90, "28090");
  Also(more, 80, "");
  ASSERT_EQ(Change(more), absl::OkStatus());
  EXPECT_THAT(Published(), testing::UnorderedElementsAre("28090 -> 10.7.0.2:90", before[0]));
  // And is the next daemon's as well.
  Restart();
  ASSERT_EQ(places_->Reconcile([](absl::string_view, absl::string_view) { return true; }),
            absl::OkStatus());
  EXPECT_THAT(Published(), testing::UnorderedElementsAre("28090 -> 10.7.0.2:90", before[0]));
}

TEST_F(NetworkPortsTest, PortThatCannotBeHadLeavesAllAsItWas) {
  ASSERT_EQ(Make("web", "10.7.0.0/24"), absl::OkStatus());
  ASSERT_TRUE(Enter("a", "web", Publishing("28080")).ok());
  ASSERT_TRUE(Enter("b", "web", Publishing("28081")).ok());
  v1::ContainerConfig taken;
  Also(taken, 90, "28090");
  Also(taken, 80, "28081");
  const absl::Status refused = Change(taken);
  EXPECT_EQ(refused.code(), absl::StatusCode::kAlreadyExists) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("container b-name has it"));
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.7.0.2:80", "28081 -> 10.7.0.3:80"));
  EXPECT_EQ(Change(Publishing("x")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Enter("c", "web", Publishing("28080")).ok());
  EXPECT_EQ(places_->ChangePorts(context_, {"nobody", "nobody", ""}, "web", taken).code(),
            absl::StatusCode::kFailedPrecondition);
  // The shim that is to be told cannot be reached.
  NetworkPlaces deaf(NetworkPlaces::Parts{
      &*store_, service_.get(), kernel_.get(), nullptr, directory_.path() + "/state", nullptr, "",
      [](const std::string&, const std::string&) { return absl::UnavailableError("no shim"); }});
  v1::ContainerConfig other;
  Also(other, 90, "28090");
  EXPECT_EQ(deaf.ChangePorts(context_, {"a", "a-name", ""}, "web", other).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_THAT(Published(), ElementsAre("28080 -> 10.7.0.2:80", "28081 -> 10.7.0.3:80"));
  EXPECT_FALSE(Enter("c", "web", Publishing("28080")).ok());
  EXPECT_TRUE(Enter("c", "web", Publishing("28090")).ok());
}

TEST_F(NetworkPortsTest, LinkOpensWhatItsTargetExposes) {
  v1::CreateNetworkRequest request;
  request.set_name("apart");
  request.add_pools()->set_subnet("10.7.0.0/24");
  (*request.mutable_options())["com.docker.network.bridge.enable_icc"] = "false";
  ASSERT_TRUE(service_->Create(context_, request).ok());
  const auto enter = [&](const std::string& id, std::vector<std::string> links,
                         std::vector<std::string> exposed) {
    NetworkClient client = {id, id + "-name", ""};
    client.links = std::move(links);
    client.exposed_ports = std::move(exposed);
    return places_->Enter(context_, client, "apart", {}).status();
  };
  ASSERT_EQ(enter("b", {}, {"80/tcp", "53-54/udp", "words"}), absl::OkStatus());
  ASSERT_EQ(enter("a", {"b-name"}, {"90/tcp"}), absl::OkStatus());
  ASSERT_EQ(enter("c", {}, {"70/tcp"}), absl::OkStatus());
  const std::vector<std::string> open = {"10.7.0.3 . 10.7.0.2 . tcp . 80",
                                         "10.7.0.3 . 10.7.0.2 . udp . 53",
                                         "10.7.0.3 . 10.7.0.2 . udp . 54"};
  const auto has = [&](const char* when) {
    const std::string rules = Rules();
    for (const std::string& one : open) EXPECT_THAT(rules, HasSubstr(one)) << when;
    EXPECT_THAT(rules, testing::Not(HasSubstr(". tcp . 90"))) << when;
    EXPECT_THAT(rules, testing::Not(HasSubstr(". tcp . 70"))) << when;
  };
  has("from the start");
  Restart();
  ASSERT_EQ(places_->Reconcile([](absl::string_view, absl::string_view) { return true; }),
            absl::OkStatus());
  has("with the next daemon");
  // It starts anew, and comes back as what the link leads to.
  ASSERT_EQ(places_->Leave(context_, "b"), absl::OkStatus());
  EXPECT_THAT(Rules(), testing::Not(HasSubstr("10.7.0.3 . 10.7.0.2")));
  ASSERT_EQ(enter("b", {"a-name"}, {"80/tcp", "53-54/udp"}), absl::OkStatus());
  for (const std::string& one : open) EXPECT_THAT(Rules(), HasSubstr(one));
  EXPECT_THAT(Rules(), HasSubstr("10.7.0.2 . 10.7.0.3 . tcp . 90"));
  ASSERT_EQ(places_->Leave(context_, "a"), absl::OkStatus());
  EXPECT_THAT(Rules(), testing::Not(HasSubstr("10.7.0.3")));
  // More than the rules take.
  const absl::Status many = enter("d", {"e-name"}, {});
  EXPECT_EQ(many, absl::OkStatus());
  EXPECT_EQ(enter("e", {}, {"1-2000/tcp"}).code(), absl::StatusCode::kInvalidArgument);
}

// One choice for all devices on a parent, which the kernel holds with each of them.
TEST_F(NetworkPortsTest, DevicesOnAParentMeetAsIpvlanFlagSays) {
  network::BridgeSpec wire;
  wire.name = "wire";
  ASSERT_TRUE(links_->EnsureBridge(wire).ok());
  CommandResult probe;
  ASSERT_EQ(network::InNetns(host_.get(),
                             [&] {
                               Command add;
                               add.argv = {"/bin/sh", "-c",
                                           "ip link add link wire name probe type ipvlan && "
                                           "ip link delete probe"};
                               absl::StatusOr<CommandResult> done = RunCommand(add);
                               if (done.ok()) probe = *std::move(done);
                               return done.status();
                             }),
            absl::OkStatus());
  if (absl::StrContains(probe.err, "Unknown device type")) GTEST_SKIP() << "no ipvlan here";
  const auto details = [](const std::string& netns) {
    const UniqueFd fd(open(netns.c_str(), O_RDONLY | O_CLOEXEC));
    std::string listed;
    EXPECT_EQ(network::InNetns(fd.get(),
                               [&] {
                                 Command show;
                                 show.argv = {"ip", "-d", "link", "show", "dev", "eth0"};
                                 const absl::StatusOr<CommandResult> done = RunCommand(show);
                                 if (done.ok()) listed = done->out;
                                 return done.status();
                               }),
              absl::OkStatus());
    return listed;
  };
  for (const char* flag : {"", "bridge", "private", "vepa"}) {
    v1::CreateNetworkRequest request;
    request.set_name(absl::StrCat("lan", flag));
    request.set_driver("ipvlan");
    (*request.mutable_options())["parent"] = "wire";
    if (*flag != '\0') (*request.mutable_options())["ipvlan_flag"] = flag;
    request.add_pools()->set_subnet("10.7.0.0/24");
    ASSERT_TRUE(service_->Create(context_, request).ok()) << flag;
    const NetworkPlaces::Entered entered = Enter("a", request.name()).value();
    EXPECT_THAT(details(entered.netns),
                HasSubstr(absl::StrCat("mode l2 ", *flag == '\0' ? "bridge" : flag)));
    ASSERT_EQ(places_->Leave(context_, "a"), absl::OkStatus());
    ASSERT_TRUE(service_->Remove(context_, request.name()).ok());
  }
}

}  // namespace
}  // namespace gantry::core
