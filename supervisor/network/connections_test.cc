// A host, a container on a bridge and a client that goes on sending from one port, in network
// namespaces of the test's own. Needs root.
#include "supervisor/network/connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

#include "base/file.h"
#include "supervisor/network/firewall.h"
#include "supervisor/network/links.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

constexpr int kComesMs = 3000;
constexpr int kStaysAwayMs = 200;
constexpr uint16_t kPort = 28053;

Address At(absl::string_view text) { return Address::Parse(text).value(); }

struct Node {
  UniqueFd ns;
  std::unique_ptr<Links> links;
};

Node NewNode() {
  Node node;
  node.ns = NewNetns().value();
  node.links = Links::OpenIn(node.ns.get()).value();
  EXPECT_TRUE(node.links->SetUp("lo").ok());
  return node;
}

UniqueFd Datagrams(const Node& node, const std::string& address, uint16_t port) {
  UniqueFd fd;
  EXPECT_TRUE(InNetns(node.ns.get(), [&] {
                fd.reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
                return absl::OkStatus();
              }).ok());
  sockaddr_in at = {};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  inet_pton(AF_INET, address.c_str(), &at.sin_addr);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
  return fd;
}

void Send(const UniqueFd& from, const std::string& address, uint16_t port) {
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  EXPECT_EQ(sendto(from.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof to), 1);
}

bool Arrives(const UniqueFd& at, int patience_ms) {
  pollfd ready = {at.get(), POLLIN, 0};
  char byte;
  return poll(&ready, 1, patience_ms) == 1 && recv(at.get(), &byte, 1, 0) == 1;
}

class ConnectionsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    host_ = NewNode();
    container_ = NewNode();
    client_ = NewNode();
    BridgeSpec bridge;
    bridge.name = "br0";
    bridge.addresses = {{At("10.9.0.1"), 24}};
    ASSERT_TRUE(host_.links->EnsureBridge(bridge).ok());
    VethSpec pair;
    pair.host_name = "veth0";
    pair.bridge = "br0";
    pair.container_name = "eth0";
    pair.mac = MacAddress::Parse("02:42:0a:09:00:02").value();
    ASSERT_TRUE(host_.links->MakeVeth(pair, container_.ns.get()).ok());
    ASSERT_TRUE(
        container_.links->Configure("eth0", {{At("10.9.0.2"), 24}, {At("10.9.0.3"), 24}}).ok());
    ASSERT_TRUE(container_.links->SetDefaultRoute(At("10.9.0.1")).ok());
    // The client's wire is a bridge of its own, which is as good as any device.
    bridge.name = "wire";
    bridge.addresses = {{At("192.0.2.1"), 24}};
    ASSERT_TRUE(host_.links->EnsureBridge(bridge).ok());
    pair.host_name = "veth1";
    pair.bridge = "wire";
    pair.mac = MacAddress::Parse("02:42:c0:00:02:09").value();
    ASSERT_TRUE(host_.links->MakeVeth(pair, client_.ns.get()).ok());
    ASSERT_TRUE(client_.links->Configure("eth0", {{At("192.0.2.9"), 24}}).ok());
    ASSERT_TRUE(client_.links->SetDefaultRoute(At("192.0.2.1")).ok());
    ASSERT_TRUE(InNetns(host_.ns.get(), [] {
                  return WriteFile("/proc/sys/net/ipv4/ip_forward", "1");
                }).ok());
    firewall_ = Firewall::OpenIn(host_.ns.get()).value();
    FirewallNetwork network;
    network.bridge = "br0";
    network.subnets = {Prefix::Parse("10.9.0.0/24").value()};
    ASSERT_TRUE(firewall_->Replace({network}, {}).ok());
    connections_ = Connections::OpenIn(host_.ns.get()).value();
  }

  static PublishedPort Port(const std::string& container) {
    PublishedPort port;
    port.protocol = Protocol::kUdp;
    port.host_port = kPort;
    port.container = At(container);
    port.container_port = 53;
    return port;
  }

  Node host_;
  Node container_;
  Node client_;
  std::unique_ptr<Firewall> firewall_;
  std::unique_ptr<Connections> connections_;
};

TEST_F(ConnectionsTest, SenderFollowsAPortThatIsPublishedLaterOrLeadsElsewhere) {
  const UniqueFd first = Datagrams(container_, "10.9.0.2", 53);
  const UniqueFd second = Datagrams(container_, "10.9.0.3", 53);
  const UniqueFd sender = Datagrams(client_, "192.0.2.9", 5000);
  const UniqueFd other = Datagrams(client_, "192.0.2.9", 5001);
  Send(sender, "192.0.2.1", kPort);
  Send(other, "192.0.2.1", 9);
  ASSERT_TRUE(firewall_->Publish({Port("10.9.0.2")}).ok());
  // What the kernel remembers goes before the rules.
  Send(sender, "192.0.2.1", kPort);
  EXPECT_FALSE(Arrives(first, kStaysAwayMs));
  const auto astray = [](const std::string& container) {
    return [container](const Connection& one) { return GoesAstray(one, Port(container)); };
  };
  EXPECT_EQ(connections_->Forget(astray("10.9.0.2")).value(), 1);
  Send(sender, "192.0.2.1", kPort);
  EXPECT_TRUE(Arrives(first, kComesMs));
  EXPECT_EQ(connections_->Forget(astray("10.9.0.2")).value(), 0);

  ASSERT_TRUE(firewall_->Unpublish({Port("10.9.0.2")}).ok());
  ASSERT_TRUE(firewall_->Publish({Port("10.9.0.3")}).ok());
  Send(sender, "192.0.2.1", kPort);
  EXPECT_TRUE(Arrives(first, kComesMs));
  EXPECT_EQ(
      connections_->Forget([](const Connection& one) { return GoesThrough(one, Port("10.9.0.2")); })
          .value(),
      1);
  Send(sender, "192.0.2.1", kPort);
  EXPECT_TRUE(Arrives(second, kComesMs));
  EXPECT_FALSE(Arrives(first, kStaysAwayMs));
}

}  // namespace
}  // namespace gantry::network
