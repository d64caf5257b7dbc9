// Packets through real rules, in network namespaces of the tests' own: a host with two networks, a
// container on each, and another machine. Needs root.
#include "supervisor/network/firewall.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/subprocess.h"
#include "supervisor/network/links.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

using testing::HasSubstr;

Address At(absl::string_view text) { return Address::Parse(text).value(); }
Prefix Block(absl::string_view text) { return Prefix::Parse(text).value(); }

// Time for a packet that may come, and for one that must not. A dropped SYN is only known by that
// nothing comes.
constexpr int kComesMs = 3000;
constexpr int kStaysAwayMs = 300;

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

void Write(const Node& node, const std::string& file, const std::string& value) {
  EXPECT_TRUE(InNetns(node.ns.get(), [&] {
                std::ofstream out("/proc/sys/net/" + file);
                out << value << std::flush;
                EXPECT_TRUE(out.good()) << file;
                return absl::OkStatus();
              }).ok());
}

UniqueFd SocketIn(const Node& node, int family) {
  UniqueFd made;
  EXPECT_TRUE(InNetns(node.ns.get(), [&] {
                made.reset(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
                return absl::OkStatus();
              }).ok());
  return made;
}

socklen_t Fill(const Address& address, uint16_t port, sockaddr_storage& storage) {
  const std::string bytes = address.Bytes();
  if (address.family() == Family::kIpv4) {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, bytes.data(), bytes.size());
    return sizeof *in;
  }
  auto* in = reinterpret_cast<sockaddr_in6*>(&storage);
  in->sin6_family = AF_INET6;
  in->sin6_port = htons(port);
  memcpy(&in->sin6_addr, bytes.data(), bytes.size());
  return sizeof *in;
}

int FamilyOf(const Address& address) {
  return address.family() == Family::kIpv4 ? AF_INET : AF_INET6;
}

// A server in a container: who is connected to it, as it sees him.
class Server {
 public:
  Server(const Node& node, const Address& any, uint16_t port)
      : listener_(SocketIn(node, FamilyOf(any))) {
    sockaddr_storage address = {};
    const socklen_t length = Fill(any, port, address);
    const int on = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(listener_.get(), 16), 0);
  }

  // Connects from `client`; the client's address as the server sees it, "" if none comes.
  std::string Connect(const Node& client, const Address& to, uint16_t port, int patience_ms) {
    const UniqueFd fd = SocketIn(client, FamilyOf(to));
    sockaddr_storage address = {};
    const socklen_t length = Fill(to, port, address);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 &&
        errno != EINPROGRESS)
      return "";
    pollfd ready = {listener_.get(), POLLIN, 0};
    if (poll(&ready, 1, patience_ms) != 1) return "";
    sockaddr_storage peer = {};
    socklen_t peer_length = sizeof peer;
    const UniqueFd accepted(
        accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer), &peer_length, SOCK_CLOEXEC));
    EXPECT_TRUE(accepted.valid());
    // Both ways: the client must hear that it is connected.
    pollfd connected = {fd.get(), POLLOUT, 0};
    int error = 0;
    socklen_t error_length = sizeof error;
    if (poll(&connected, 1, kComesMs) != 1 ||
        getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &error_length) != 0 || error != 0)
      return "";
    if (peer.ss_family == AF_INET) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(&peer);
      return Address::FromBytes({reinterpret_cast<const char*>(&in->sin_addr), 4}).ToString();
    }
    const auto* in = reinterpret_cast<const sockaddr_in6*>(&peer);
    return Address::FromBytes({reinterpret_cast<const char*>(&in->sin6_addr), 16}).ToString();
  }

 private:
  UniqueFd listener_;
};

class FirewallTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    host_ = NewNode();
    machine_ = NewNode();
    web_ = NewNode();
    neighbour_ = NewNode();
    other_ = NewNode();
    // The wire to the other machine is a bridge with one port.
    Bridge("wire", {{At("192.0.2.1"), 24}, {At("2001:db8::1"), 64}});
    Plug(machine_, "wire", "wire1", {{At("192.0.2.9"), 24}, {At("2001:db8::9"), 64}});
    // As an attacker in the same wire has it.
    ASSERT_TRUE(machine_.links->SetDefaultRoute(At("192.0.2.1")).ok());
    ASSERT_TRUE(machine_.links->SetDefaultRoute(At("2001:db8::1")).ok());
    Bridge("br-one", {{At("10.1.0.1"), 24}, {At("fd01::1"), 64}});
    Plug(web_, "br-one", "web", {{At("10.1.0.2"), 24}, {At("fd01::2"), 64}});
    Plug(neighbour_, "br-one", "neighbour", {{At("10.1.0.3"), 24}, {At("fd01::3"), 64}});
    Bridge("br-two", {{At("10.2.0.1"), 24}, {At("fd02::1"), 64}});
    Plug(other_, "br-two", "other", {{At("10.2.0.2"), 24}, {At("fd02::2"), 64}});
    for (const Node* node : {&web_, &neighbour_}) {
      ASSERT_TRUE(node->links->SetDefaultRoute(At("10.1.0.1")).ok());
      ASSERT_TRUE(node->links->SetDefaultRoute(At("fd01::1")).ok());
    }
    ASSERT_TRUE(other_.links->SetDefaultRoute(At("10.2.0.1")).ok());
    Write(host_, "ipv4/ip_forward", "1");
    Write(host_, "ipv6/conf/all/forwarding", "1");
    Write(host_, "ipv4/conf/br-one/route_localnet", "1");
    one_.bridge = "br-one";
    one_.subnets = {Block("10.1.0.0/24"), Block("fd01::/64")};
    two_.bridge = "br-two";
    two_.subnets = {Block("10.2.0.0/24"), Block("fd02::/64")};
    firewall_ = Firewall::OpenIn(host_.ns.get()).value();
    server_.emplace(web_, At("::"), uint16_t{80});
  }

  void Bridge(const std::string& name, std::vector<InterfaceAddress> addresses) {
    BridgeSpec spec;
    spec.name = name;
    spec.addresses = std::move(addresses);
    ASSERT_TRUE(host_.links->EnsureBridge(spec).ok());
  }
  void Plug(const Node& node, const std::string& bridge, const std::string& name,
            const std::vector<InterfaceAddress>& addresses) {
    VethSpec spec;
    spec.host_name = name;
    spec.bridge = bridge;
    spec.container_name = "eth0";
    spec.mac = MacAddress::Random();
    spec.hairpin = true;
    ASSERT_TRUE(host_.links->MakeVeth(spec, node.ns.get()).ok());
    ASSERT_TRUE(node.links->Configure("eth0", addresses).ok());
  }

  // As another program of the host.
  void Nft(const std::string& commands) {
    ASSERT_TRUE(InNetns(host_.ns.get(), [&] {
                  return system(absl::StrCat("/usr/sbin/nft '", commands, "'").c_str()) == 0
                             ? absl::OkStatus()
                             : absl::InternalError(commands);
                }).ok());
  }

  // The words of our tables as the kernel has them, sorted: the order of elements is chance.
  std::vector<std::string> Listing() {
    std::string text;
    EXPECT_TRUE(InNetns(host_.ns.get(), [&] {
                  for (const char* family : {"inet", "bridge"}) {
                    Command list;
                    list.argv = {"/usr/sbin/nft", "list", "table", family, "gantry"};
                    const absl::StatusOr<CommandResult> done = RunCommand(list);
                    if (!done.ok()) return done.status();
                    text += done->out;
                  }
                  return absl::OkStatus();
                }).ok());
    std::vector<std::string> words;
    for (absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(",\n")))
      words.emplace_back(absl::StripAsciiWhitespace(word));
    for (std::string& word : words) {
      // The first and last element of a set stand beside its braces.
      word = absl::StrReplaceAll(word, {{"elements = { ", ""}, {" }", ""}});
    }
    std::sort(words.begin(), words.end());
    return words;
  }

  // "::ffff:" is how a server for both families sees an IPv4 client.
  std::string Seen(const Node& client, absl::string_view to, uint16_t port) {
    std::string peer = server_->Connect(client, At(to), port, kComesMs);
    if (peer.rfind("::ffff:", 0) == 0) peer = peer.substr(7);
    return peer;
  }
  bool Blocked(const Node& client, absl::string_view to, uint16_t port) {
    return server_->Connect(client, At(to), port, kStaysAwayMs).empty();
  }

  static PublishedPort Port(std::optional<Address> host, uint16_t port, absl::string_view to) {
    PublishedPort published;
    published.host = host;
    published.host_port = port;
    published.container = At(to);
    published.container_port = 80;
    return published;
  }

  Node host_, machine_, web_, neighbour_, other_;
  FirewallNetwork one_, two_;
  std::unique_ptr<Firewall> firewall_;
  std::optional<Server> server_;
};

TEST_F(FirewallTest, PublishedPortIsReachedFromEverywhere) {
  ASSERT_EQ(
      firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2"), Port({}, 8080, "fd01::2")}),
      absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  EXPECT_EQ(Seen(machine_, "2001:db8::1", 8080), "2001:db8::9");
  EXPECT_EQ(Seen(host_, "127.0.0.1", 8080), "10.1.0.1");
  EXPECT_EQ(Seen(host_, "192.0.2.1", 8080), "192.0.2.1");
  EXPECT_EQ(Seen(neighbour_, "192.0.2.1", 8080), "10.1.0.1");
  EXPECT_EQ(Seen(web_, "192.0.2.1", 8080), "10.1.0.1");
  EXPECT_EQ(Seen(other_, "192.0.2.1", 8080), "10.2.0.2");
  // The address that the host has in the container's network.
  EXPECT_EQ(Seen(machine_, "10.1.0.1", 8080), "192.0.2.9");
  EXPECT_EQ(Seen(other_, "10.1.0.1", 8080), "10.2.0.2");
}

TEST_F(FirewallTest, WhatIsNotPublishedStaysClosed) {
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  // The container's own address: from the wire and from another network, also the published port.
  EXPECT_TRUE(Blocked(machine_, "10.1.0.2", 80));
  EXPECT_TRUE(Blocked(machine_, "fd01::2", 80));
  EXPECT_TRUE(Blocked(other_, "10.1.0.2", 80));
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8081));
  // Within its network and from the host it is reached.
  EXPECT_EQ(Seen(neighbour_, "10.1.0.2", 80), "10.1.0.3");
  EXPECT_EQ(Seen(host_, "10.1.0.2", 80), "10.1.0.1");
}

TEST_F(FirewallTest, PortOfTheLoopbackAddressIsTheHostsOnly) {
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port(At("127.0.0.1"), 8080, "10.1.0.2")}),
            absl::OkStatus());
  EXPECT_EQ(Seen(host_, "127.0.0.1", 8080), "10.1.0.1");
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8080));
  EXPECT_TRUE(Blocked(neighbour_, "10.1.0.1", 8080));
  // A machine on the wire, or a container, that sends to 127.0.0.1 by the host.
  for (const Node* node : {&machine_, &neighbour_}) {
    Write(*node, "ipv4/conf/eth0/route_localnet", "1");
    ASSERT_TRUE(InNetns(node->ns.get(), [] {
                  return system(
                             "ip addr del 127.0.0.1/8 dev lo 2>/dev/null; "
                             "ip route del table local 127.0.0.0/8 2>/dev/null; "
                             "ip route del table local 127.0.0.1 2>/dev/null; true") == 0
                             ? absl::OkStatus()
                             : absl::InternalError("ip");
                }).ok());
    EXPECT_TRUE(Blocked(*node, "127.0.0.1", 8080));
  }
}

TEST_F(FirewallTest, PortOfOneAddress) {
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port(At("192.0.2.1"), 8080, "10.1.0.2")}),
            absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  EXPECT_TRUE(Blocked(other_, "10.2.0.1", 8080));
}

TEST_F(FirewallTest, ContainersReachOutWithTheHostsAddress) {
  ASSERT_EQ(firewall_->Replace({one_, two_}, {}), absl::OkStatus());
  Server outside(machine_, At("::"), 443);
  EXPECT_EQ(outside.Connect(web_, At("192.0.2.9"), 443, kComesMs), "::ffff:192.0.2.1");
  EXPECT_EQ(outside.Connect(web_, At("2001:db8::9"), 443, kComesMs), "2001:db8::1");
}

TEST_F(FirewallTest, InternalNetworkHasNoWayInOrOut) {
  one_.internal = true;
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  Server outside(machine_, At("::"), 443);
  EXPECT_EQ(outside.Connect(web_, At("192.0.2.9"), 443, kStaysAwayMs), "");
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8080));
  EXPECT_EQ(Seen(neighbour_, "10.1.0.2", 80), "10.1.0.3");
}

// Without translation a published port is reached at the container's own address, and from a
// machine that knows the way only.
TEST_F(FirewallTest, RoutedNetworkIsReachedAtTheContainersAddress) {
  one_.ipv4_mode = GatewayMode::kRouted;
  PublishedPort port = Port({}, 0, "10.1.0.2");
  port.opened = true;
  ASSERT_EQ(firewall_->Replace({one_, two_}, {port}), absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "10.1.0.2", 80), "192.0.2.9");
  EXPECT_EQ(Seen(other_, "10.1.0.2", 80), "10.1.0.1");
  Server unpublished(web_, At("::"), 81);
  EXPECT_EQ(unpublished.Connect(machine_, At("10.1.0.2"), 81, kStaysAwayMs), "");
  // The other family stays as it was.
  EXPECT_TRUE(Blocked(machine_, "fd01::2", 80));
  // What leaves has the container's own address.
  Server outside(machine_, At("::"), 443);
  EXPECT_EQ(outside.Connect(web_, At("192.0.2.9"), 443, kComesMs), "::ffff:10.1.0.2");
  EXPECT_EQ(outside.Connect(web_, At("2001:db8::9"), 443, kComesMs), "2001:db8::1");
  ASSERT_EQ(firewall_->Unpublish({port}), absl::OkStatus());
  EXPECT_TRUE(Blocked(machine_, "10.1.0.2", 80));
  ASSERT_EQ(firewall_->RemoveNetwork(one_), absl::OkStatus());
  ASSERT_EQ(firewall_->AddNetwork(one_), absl::OkStatus());
}

TEST_F(FirewallTest, UnprotectedNetworkIsReachedAtEveryPort) {
  one_.ipv4_mode = GatewayMode::kNatUnprotected;
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "10.1.0.2", 80), "192.0.2.9");
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  Server outside(machine_, At("::"), 443);
  EXPECT_EQ(outside.Connect(web_, At("192.0.2.9"), 443, kComesMs), "::ffff:192.0.2.1");
  EXPECT_TRUE(Blocked(machine_, "fd01::2", 80));
}

TEST_F(FirewallTest, TrustedDeviceReachesPublishedPortsDirectly) {
  one_.trusted = {"nosuch", "wire"};
  PublishedPort direct = Port({}, 0, "10.1.0.2");
  direct.opened = true;
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2"), direct}),
            absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "10.1.0.2", 80), "192.0.2.9");
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  EXPECT_TRUE(Blocked(other_, "10.1.0.2", 80));
  Server unpublished(web_, At("::"), 81);
  EXPECT_EQ(unpublished.Connect(machine_, At("10.1.0.2"), 81, kStaysAwayMs), "");
  one_.trusted = {"a\" accept"};
  EXPECT_EQ(firewall_->Replace({one_}, {}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(FirewallTest, WhatLeavesHasTheAddressThatANetworkNames) {
  const auto second = InterfaceAddress{At("192.0.2.77"), 24};
  Bridge("wire", {{At("192.0.2.1"), 24}, {At("2001:db8::1"), 64}, second});
  one_.ipv4_source = second.address;
  ASSERT_EQ(firewall_->Replace({one_, two_}, {}), absl::OkStatus());
  Server outside(machine_, At("::"), 443);
  EXPECT_EQ(outside.Connect(web_, At("192.0.2.9"), 443, kComesMs), "::ffff:192.0.2.77");
  EXPECT_EQ(outside.Connect(web_, At("2001:db8::9"), 443, kComesMs), "2001:db8::1");
  EXPECT_EQ(outside.Connect(other_, At("192.0.2.9"), 443, kComesMs), "::ffff:192.0.2.1");
}

// A packet of SCTP needs no SCTP in this kernel: the test writes it, and reads it, itself.
TEST_F(FirewallTest, SctpPortIsPublished) {
  PublishedPort port = Port({}, 8080, "10.1.0.2");
  port.protocol = Protocol::kSctp;
  ASSERT_EQ(firewall_->Replace({one_}, {port}), absl::OkStatus());
  UniqueFd client, server;
  for (const auto& [node, fd] : {std::pair(&machine_, &client), std::pair(&web_, &server)}) {
    ASSERT_TRUE(InNetns(node->ns.get(), [fd = fd] {
                  fd->reset(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_SCTP));
                  return absl::OkStatus();
                }).ok());
  }
  // RFC 9260 section 3: ports, tag, checksum (CRC32c); INIT with tag 1, 64 KiB, a stream each way.
  std::string packet(
      "\x13\x88\x1f\x90\0\0\0\0\0\0\0\0"
      "\1\0\0\x14\0\0\0\1\0\1\0\0\0\1\0\1\0\0\0\7",
      32);
  uint32_t crc = 0xffffffff;
  for (const char byte : packet) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
  }
  crc = ~crc;
  memcpy(packet.data() + 8, &crc, sizeof crc);
  sockaddr_storage to = {};
  const socklen_t length = Fill(At("192.0.2.1"), 0, to);
  ASSERT_EQ(sendto(client.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to),
                   length),
            static_cast<ssize_t>(packet.size()))
      << strerror(errno);
  pollfd ready = {server.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ready, 1, kComesMs), 1)
      << "conntrack of this kernel may have no SCTP "
         "(CONFIG_NF_CT_PROTO_SCTP, module nf_conntrack_proto_sctp)";
  unsigned char got[128] = {};
  ASSERT_EQ(recv(server.get(), got, sizeof got, 0), 20 + 32);
  EXPECT_EQ(got[22] << 8 | got[23], 80) << "the port was not translated";
}

TEST_F(FirewallTest, PortsComeAndGoAsElements) {
  ASSERT_EQ(firewall_->Replace({}, {}), absl::OkStatus());
  ASSERT_EQ(firewall_->AddNetwork(one_), absl::OkStatus());
  ASSERT_EQ(firewall_->AddNetwork(two_), absl::OkStatus());
  EXPECT_EQ(firewall_->AddNetwork(one_).code(), absl::StatusCode::kAlreadyExists);
  const std::vector<PublishedPort> ports = {Port({}, 8080, "10.1.0.2")};
  ASSERT_EQ(firewall_->Publish(ports), absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  // One of two that is taken: neither is published.
  EXPECT_EQ(firewall_->Publish({Port({}, 8081, "10.1.0.2"), Port({}, 8080, "10.1.0.3")}).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8081));
  ASSERT_EQ(firewall_->Unpublish(ports), absl::OkStatus());
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8080));
  EXPECT_EQ(firewall_->Unpublish(ports).code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(firewall_->RemoveNetwork(one_), absl::OkStatus());
  ASSERT_EQ(firewall_->AddNetwork(one_), absl::OkStatus());
}

// Elements are sent as messages of our own when a container comes, and as commands when everything
// is written.
TEST_F(FirewallTest, BothWaysOfWritingAnElementMakeTheSame) {
  ASSERT_EQ(firewall_->Replace({one_, two_}, {}), absl::OkStatus());
  const std::vector<std::string> empty = Listing();
  BridgePort port;
  port.device = "veth-web";
  port.mac = MacAddress::Parse("02:42:0a:01:00:02").value();
  port.addresses = {At("10.1.0.2"), At("fd01::2")};
  port.between = false;
  port.gateway = MacAddress::Parse("02:00:00:00:00:01").value();
  std::vector<PublishedPort> ports = {Port({}, 8080, "10.1.0.2"), Port({}, 8080, "fd01::2"),
                                      Port(At("192.0.2.1"), 443, "10.1.0.2"),
                                      Port(At("fd00::1"), 443, "fd01::2")};
  ports.push_back(Port({}, 53, "10.1.0.2"));
  ports.back().protocol = Protocol::kUdp;
  ports.push_back(Port({}, 132, "10.1.0.2"));
  ports.back().protocol = Protocol::kSctp;
  ASSERT_EQ(firewall_->Join(port, ports), absl::OkStatus());
  const std::vector<std::string> joined = Listing();
  EXPECT_NE(joined, empty);
  ASSERT_EQ(firewall_->Restore(), absl::OkStatus());
  EXPECT_EQ(Listing(), joined);
  ASSERT_EQ(firewall_->Leave(port.device, ports), absl::OkStatus());
  EXPECT_EQ(Listing(), empty);
}

TEST_F(FirewallTest, AdministratorsTableIsKept) {
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  Nft("add rule inet gantry-user forward ip saddr 192.0.2.9 drop");
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8080));
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8080));
}

// A host whose own rules drop what is forwarded, as ufw's and iptables' policies do.
TEST_F(FirewallTest, DroppingPolicyOfTheHostIsRespected) {
  ASSERT_EQ(firewall_->Replace({one_, two_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  using Chains = std::vector<std::string>;
  EXPECT_EQ(firewall_->ForwardDrops().value(), Chains());
  Nft("add table ip filter");
  Nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
  EXPECT_EQ(firewall_->ForwardDrops().value(), Chains{"nftables chain ip filter FORWARD"});
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8080));
  // What the warning advises.
  Nft("add rule ip filter FORWARD ct status dnat accept");
  Nft("add rule ip filter FORWARD ct state established,related accept");
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
}

TEST_F(FirewallTest, FlushedRulesAreNoticedAndWrittenAgain) {
  ASSERT_EQ(firewall_->Replace({one_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  EXPECT_TRUE(firewall_->Stands().value());
  Nft("flush ruleset");
  EXPECT_FALSE(firewall_->Stands().value());
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8080));
  ASSERT_EQ(firewall_->Restore(), absl::OkStatus());
  EXPECT_TRUE(firewall_->Stands().value());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
}

// Another program may flush the rules at any moment.
TEST_F(FirewallTest, ChangesAfterAFlushWriteEverythingAnew) {
  ASSERT_EQ(firewall_->Replace({one_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  Nft("flush ruleset");
  ASSERT_EQ(firewall_->Publish({Port({}, 8081, "10.1.0.2")}), absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8081), "192.0.2.9");
  Nft("flush ruleset");
  ASSERT_EQ(firewall_->AddNetwork(two_), absl::OkStatus());
  Nft("flush ruleset");
  ASSERT_EQ(firewall_->Unpublish({Port({}, 8081, "10.1.0.2")}), absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  EXPECT_TRUE(Blocked(machine_, "192.0.2.1", 8081));
  Nft("flush ruleset");
  ASSERT_EQ(firewall_->RemoveNetwork(two_), absl::OkStatus());
  EXPECT_TRUE(firewall_->Stands().value());
}

TEST_F(FirewallTest, DaemonsBesideEachOtherHaveTablesOfTheirOwn) {
  const auto second = Firewall::OpenIn(host_.ns.get(), "gantry-two").value();
  ASSERT_EQ(firewall_->Replace({one_}, {Port({}, 8080, "10.1.0.2")}), absl::OkStatus());
  ASSERT_EQ(second->Replace({two_}, {}), absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
  ASSERT_EQ(second->Remove(), absl::OkStatus());
  EXPECT_EQ(Seen(machine_, "192.0.2.1", 8080), "192.0.2.9");
}

TEST_F(FirewallTest, NamesAndPortsAreCheckedBeforeTheyReachTheRules) {
  ASSERT_EQ(firewall_->Replace({}, {}), absl::OkStatus());
  for (const char* name : {"", "a\" drop", "br*", "sixteen-letters-", "a b", "a;b"}) {
    FirewallNetwork network;
    network.bridge = name;
    EXPECT_EQ(firewall_->AddNetwork(network).code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_EQ(firewall_->Publish({Port(At("::1"), 8080, "10.1.0.2")}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(firewall_->Publish({Port({}, 0, "10.1.0.2")}).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace gantry::network
