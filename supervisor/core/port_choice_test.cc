#include "supervisor/core/port_choice.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/unique_fd.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/network_records.h"
#include "supervisor/core/port_forwards.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetns;
using testing::ElementsAre;
using testing::HasSubstr;

v1::PortBinding Binding(const std::string& ip, const std::string& port,
                        const std::string& protocol = "") {
  v1::PortBinding binding;
  binding.set_host_ip(ip);
  binding.set_host_port(port);
  binding.set_protocol(protocol);
  binding.set_container_port(80);
  return binding;
}

StoredNetns Holding(const std::string& ip, uint32_t port) {
  StoredNetns other;
  other.record.set_container_name("web");
  other.record.set_container_id("web's");
  record::v1::NetworkPort* held = other.record.add_ports();
  held->set_host_address(ip);
  held->set_host_port(port);
  held->set_protocol("tcp");
  return other;
}

absl::StatusOr<std::string> Chosen(const v1::PortBinding& binding,
                                   const std::vector<StoredNetns>& all = {},
                                   const std::string& default_address = "") {
  const auto port = ChoosePort(binding, default_address, all, {});
  if (!port.ok()) return port.status();
  return absl::StrCat(port->host_address(), "|", port->host_port(), "/", port->protocol());
}

TEST(PortChoiceTest, FamilyOfTheHostAddressIsKept) {
  EXPECT_EQ(Chosen(Binding("", "18080")).value(), "|18080/tcp");
  EXPECT_EQ(Chosen(Binding("0.0.0.0", "18080")).value(), "0.0.0.0|18080/tcp");
  EXPECT_EQ(Chosen(Binding("::", "18080")).value(), "::|18080/tcp");
  EXPECT_EQ(Chosen(Binding("127.0.0.1", "18080")).value(), "127.0.0.1|18080/tcp");
  EXPECT_EQ(Chosen(Binding("", "18080"), {}, "127.0.0.1").value(), "127.0.0.1|18080/tcp");
  EXPECT_EQ(Chosen(Binding("", "18080"), {}, "0.0.0.0").value(), "|18080/tcp");
}

TEST(PortChoiceTest, PortsCollideWhereTheirAddressesDo) {
  const auto taken = [](const std::string& theirs, const std::string& ours) {
    const auto port = Chosen(Binding(ours, "18080"), {Holding(theirs, 18080)});
    if (!port.ok()) {
      EXPECT_EQ(port.status().code(), absl::StatusCode::kAlreadyExists);
      EXPECT_THAT(std::string(port.status().message()),
                  HasSubstr("port is already allocated; container web has it"));
    }
    return !port.ok();
  };
  EXPECT_FALSE(taken("127.0.0.1", "127.0.0.2"));
  EXPECT_TRUE(taken("127.0.0.1", "127.0.0.1"));
  EXPECT_TRUE(taken("127.0.0.1", ""));
  EXPECT_TRUE(taken("", "127.0.0.1"));
  EXPECT_TRUE(taken("", "::1"));
  EXPECT_FALSE(taken("0.0.0.0", "::"));
  EXPECT_TRUE(taken("::", "::1"));
  EXPECT_FALSE(taken("::1", "0.0.0.0"));
  EXPECT_EQ(Chosen(Binding("", "18080", "udp"), {Holding("", 18080)}).value(), "|18080/udp");
}

TEST(PortChoiceTest, PortsThatMeetABindingAreKeptAndTheRestIsGivenBack) {
  record::v1::NetworkNamespace made = Holding("", 28085).record;
  made.mutable_ports(0)->set_container_port(80);
  *made.add_ports() = made.ports(0);
  made.mutable_ports(1)->set_host_port(28086);
  // A host port that is given back is the container's own to take.
  ASSERT_EQ(ChoosePorts({Binding("127.0.0.1", "28086"), Binding("", "")}, "", false, {}, made),
            absl::OkStatus());
  ASSERT_EQ(made.ports_size(), 2);
  EXPECT_EQ(made.ports(0).host_address(), "127.0.0.1");
  EXPECT_EQ(made.ports(0).host_port(), 28086u);
  EXPECT_EQ(made.ports(1).host_port(), 28085u);
  ASSERT_EQ(made.leaving_ports_size(), 1);
  EXPECT_EQ(made.leaving_ports(0).host_port(), 28086u);
  // Others may not have it yet.
  StoredNetns other;
  other.record = made;
  other.record.clear_ports();
  EXPECT_EQ(Chosen(Binding("", "28086"), {other}).status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST(PortChoiceTest, RangeGivesItsFirstFreePort) {
  const std::vector<StoredNetns> all = {Holding("", 18080), Holding("", 18081)};
  EXPECT_EQ(Chosen(Binding("", "18080-18083"), all).value(), "|18082/tcp");
  const auto none = Chosen(Binding("", "18080-18081"), all);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("all ports from 18080 to 18081"));
  EXPECT_EQ(Chosen(Binding("", "18083-18080")).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PortChoiceTest, AnyPortIsNotTheLastOneGiven) {
  const std::string first = Chosen(Binding("", "")).value();
  EXPECT_NE(Chosen(Binding("", "0")).value(), first);
}

TEST(PortChoiceTest, ProgramOfTheHostIsNamed) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  socklen_t length = sizeof address;
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  ASSERT_EQ(listen(fd.get(), 1), 0);
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  const auto port = Chosen(Binding("0.0.0.0", absl::StrCat(ntohs(address.sin_port))));
  EXPECT_EQ(port.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(port.status().message()),
              HasSubstr(absl::StrCat("failed to bind host port 0.0.0.0:", ntohs(address.sin_port),
                                     "/tcp: address already in use; ")));
  EXPECT_THAT(std::string(port.status().message()),
              HasSubstr(absl::StrCat("(pid ", getpid(), ") has it")));
}

// [::1], and IPv6 addresses for a container without one, are left to the shim.
TEST(PortChoiceTest, PortsAreTheKernelsWhereItCan) {
  const auto carried = [](const std::string& host, bool ipv6) {
    StoredNetns netns;
    netns.record.set_gateway_network("n");
    netns.record.set_ipv6_gateway_network(ipv6 ? "n" : "");
    record::v1::NetworkPort* port = netns.record.add_ports();
    port->set_host_address(host);
    port->set_host_port(8080);
    port->set_protocol("tcp");
    port->set_container_port(80);
    StoredEndpoint place;
    place.network_id = "n";
    place.record.add_addresses("10.1.0.2/24");
    if (ipv6) place.record.add_addresses("fd01::2/64");
    std::vector<std::string> all;
    for (const network::PublishedPort& one : PortsOf(netns.record, {place})) {
      all.push_back(absl::StrCat("kernel ", one.host.has_value() ? one.host->ToString() : "*", " ",
                                 one.container.ToString()));
    }
    return all;
  };
  EXPECT_THAT(carried("", false), ElementsAre("kernel * 10.1.0.2"));
  EXPECT_THAT(carried("", true), ElementsAre("kernel * 10.1.0.2", "kernel * fd01::2"));
  EXPECT_THAT(carried("0.0.0.0", true), ElementsAre("kernel * 10.1.0.2"));
  EXPECT_THAT(carried("::", false), ElementsAre());
  EXPECT_THAT(carried("::1", true), ElementsAre());
  EXPECT_THAT(carried("2001:db8::1", true), ElementsAre("kernel 2001:db8::1 fd01::2"));
  EXPECT_THAT(carried("2001:db8::1", false), ElementsAre());
  EXPECT_THAT(carried("127.0.0.1", true), ElementsAre("kernel 127.0.0.1 10.1.0.2"));
}

// The shim, which stands in for the kernel there, has no SCTP.
TEST(PortChoiceTest, SctpThatNothingCarriesIsRefused) {
  const auto refusal = [](const std::string& host, bool ipv6) {
    StoredNetns netns;
    netns.record.set_gateway_network("n");
    netns.record.set_ipv6_gateway_network(ipv6 ? "n" : "");
    record::v1::NetworkPort* port = netns.record.add_ports();
    port->set_host_address(host);
    port->set_host_port(8080);
    port->set_protocol("sctp");
    port->set_container_port(80);
    StoredEndpoint place;
    place.network_id = "n";
    place.record.add_addresses("10.1.0.2/24");
    if (ipv6) place.record.add_addresses("fd01::2/64");
    return std::string(CheckCarried(netns.record, {place}).message());
  };
  EXPECT_EQ(refusal("", false), "");
  EXPECT_EQ(refusal("127.0.0.1", false), "");
  EXPECT_EQ(refusal("::", true), "");
  EXPECT_THAT(refusal("::", false), HasSubstr("SCTP port 8080 cannot be published at [::]: the "
                                              "container has no IPv6 address"));
  EXPECT_THAT(refusal("::1", true), HasSubstr("does not let [::1] out of the host"));
}

}  // namespace
}  // namespace gantry::core
