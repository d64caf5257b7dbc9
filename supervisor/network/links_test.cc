// Against the kernel, in network namespaces of the tests' own. Needs root.
#include "supervisor/network/links.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;

Address At(absl::string_view text) { return Address::Parse(text).value(); }

class LinksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    host_ns_ = NewNetns().value();
    container_ns_ = NewNetns().value();
    host_ = Links::OpenIn(host_ns_.get()).value();
    container_ = Links::OpenIn(container_ns_.get()).value();
  }

  // A bridge 10.7.0.1/24 and one container 10.7.0.2 on it.
  void Connect(bool hairpin = false) {
    BridgeSpec bridge;
    bridge.name = "br0";
    bridge.owner = "network web";
    bridge.addresses = {{At("10.7.0.1"), 24}, {At("fd07::1"), 64}};
    ASSERT_EQ(host_->EnsureBridge(bridge), absl::OkStatus());
    VethSpec veth;
    veth.host_name = "veth1";
    veth.owner = "endpoint 1";
    veth.bridge = "br0";
    veth.container_name = "eth0";
    veth.mac = MacAddress::Random();
    veth.mtu = 1400;
    veth.hairpin = hairpin;
    ASSERT_EQ(host_->MakeVeth(veth, container_ns_.get()), absl::OkStatus());
    ASSERT_EQ(container_->Configure("eth0", {{At("10.7.0.2"), 24}, {At("fd07::2"), 64}}),
              absl::OkStatus());
    ASSERT_EQ(container_->SetDefaultRoute(At("10.7.0.1")), absl::OkStatus());
    ASSERT_EQ(container_->SetDefaultRoute(At("fd07::1")), absl::OkStatus());
    mac_ = veth.mac;
  }

  UniqueFd host_ns_, container_ns_;
  std::unique_ptr<Links> host_, container_;
  MacAddress mac_;
};

// Sends a datagram between the namespaces; false after two seconds without one.
bool Arrives(int from_ns, int to_ns, const Address& to) {
  const int family = to.family() == Family::kIpv4 ? AF_INET : AF_INET6;
  sockaddr_storage address = {};
  address.ss_family = static_cast<sa_family_t>(family);
  const std::string bytes = to.Bytes();
  if (family == AF_INET) {
    auto* in = reinterpret_cast<sockaddr_in*>(&address);
    in->sin_port = htons(7777);
    memcpy(&in->sin_addr, bytes.data(), bytes.size());
  } else {
    auto* in = reinterpret_cast<sockaddr_in6*>(&address);
    in->sin6_port = htons(7777);
    memcpy(&in->sin6_addr, bytes.data(), bytes.size());
  }
  UniqueFd receiver, sender;
  EXPECT_TRUE(InNetns(to_ns, [&] {
                receiver.reset(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
                return absl::OkStatus();
              }).ok());
  EXPECT_TRUE(InNetns(from_ns, [&] {
                sender.reset(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
                return absl::OkStatus();
              }).ok());
  if (bind(receiver.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return false;
  if (sendto(sender.get(), "hi", 2, 0, reinterpret_cast<sockaddr*>(&address), sizeof address) != 2)
    return false;
  pollfd ready = {receiver.get(), POLLIN, 0};
  return poll(&ready, 1, 2000) == 1;
}

TEST_F(LinksTest, ContainerAndHostReachEachOther) {
  Connect();
  EXPECT_TRUE(Arrives(container_ns_.get(), host_ns_.get(), At("10.7.0.1")));
  EXPECT_TRUE(Arrives(host_ns_.get(), container_ns_.get(), At("10.7.0.2")));
  EXPECT_TRUE(Arrives(host_ns_.get(), container_ns_.get(), At("fd07::2")));
}

TEST_F(LinksTest, DevicesAreAsTheyWereAskedFor) {
  Connect(/*hairpin=*/true);
  const LinkInfo bridge = host_->Find("br0").value();
  EXPECT_EQ(bridge.kind, "bridge");
  EXPECT_EQ(bridge.alias, "gantry:network web");
  EXPECT_TRUE(bridge.up);
  const LinkInfo near = host_->Find("veth1").value();
  EXPECT_EQ(near.kind, "veth");
  EXPECT_EQ(near.alias, "gantry:endpoint 1");
  EXPECT_EQ(near.master, bridge.index);
  EXPECT_EQ(near.mtu, 1400u);
  const LinkInfo far = container_->Find("eth0").value();
  EXPECT_EQ(far.mac, mac_);
  EXPECT_EQ(far.mtu, 1400u);
  EXPECT_TRUE(far.up);
  EXPECT_THAT(
      container_->Addresses(far.index).value(),
      IsSupersetOf({InterfaceAddress{At("10.7.0.2"), 24}, InterfaceAddress{At("fd07::2"), 64}}));
  // As the kernel itself says it.
  EXPECT_TRUE(InNetns(host_ns_.get(), [&near] {
                std::string path = "/proc/thread-self/net/dev";
                std::ifstream devices(path);
                const std::string all((std::istreambuf_iterator<char>(devices)), {});
                EXPECT_THAT(all, HasSubstr(near.name));
                return absl::OkStatus();
              }).ok());
}

TEST_F(LinksTest, BridgeIsBroughtInLine) {
  BridgeSpec spec;
  spec.name = "br0";
  spec.owner = "network web";
  spec.addresses = {{At("10.7.0.1"), 24}, {At("fd07::1"), 64}};
  ASSERT_TRUE(host_->EnsureBridge(spec).ok());
  const MacAddress before = host_->Find("br0").value().mac;
  spec.addresses = {{At("10.8.0.1"), 24}};
  spec.mtu = 1300;
  ASSERT_TRUE(host_->EnsureBridge(spec).ok());
  ASSERT_TRUE(host_->EnsureBridge(spec).ok());
  const LinkInfo bridge = host_->Find("br0").value();
  EXPECT_EQ(bridge.mac, before);
  EXPECT_EQ(bridge.mtu, 1300u);
  std::vector<InterfaceAddress> kept;
  const auto addresses = host_->Addresses(bridge.index);
  ASSERT_TRUE(addresses.ok());
  for (const InterfaceAddress& one : *addresses) {
    if (one.address.family() == Family::kIpv4) kept.push_back(one);
    EXPECT_NE(one.address, At("fd07::1"));
  }
  EXPECT_THAT(kept, ElementsAre(InterfaceAddress{At("10.8.0.1"), 24}));
}

TEST_F(LinksTest, DeviceOfAnotherKindIsLeftAlone) {
  BridgeSpec spec;
  spec.name = "lo";
  spec.addresses = {{At("10.7.0.1"), 24}};
  const absl::Status status = host_->EnsureBridge(spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("existing interface lo is not a bridge"));
}

TEST_F(LinksTest, FailedPairLeavesNothing) {
  VethSpec veth;
  veth.host_name = "veth1";
  veth.bridge = "br0";
  veth.container_name = "eth0";
  veth.mac = MacAddress::Random();
  EXPECT_EQ(host_->MakeVeth(veth, container_ns_.get()).code(), absl::StatusCode::kNotFound);
  Connect();
  veth.host_name = "veth2";  // the far end's name is taken
  EXPECT_EQ(host_->MakeVeth(veth, container_ns_.get()).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(host_->Find("veth2").status().code(), absl::StatusCode::kNotFound);
  veth.container_name = "a-name-too-long-for-a-device";
  EXPECT_EQ(host_->MakeVeth(veth, container_ns_.get()).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LinksTest, DeletingIsIdempotentAndTakesTheFarEnd) {
  Connect();
  EXPECT_TRUE(host_->Delete("veth1").ok());
  EXPECT_TRUE(host_->Delete("veth1").ok());
  EXPECT_EQ(container_->Find("eth0").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LinksTest, RoutedBlocksAreThoseOfTheDevices) {
  Connect();
  std::set<std::string> found;
  const auto of_host = host_->RoutedBlocks();
  ASSERT_TRUE(of_host.ok());
  for (const TakenBlock& one : *of_host) found.insert(one.block.ToString() + " " + one.owner);
  EXPECT_EQ(found.count("10.7.0.0/24 route by br0"), 1u);
  EXPECT_EQ(found.count("fd07::/64 route by br0"), 1u);
  // A default route blocks nothing.
  const auto of_container = container_->RoutedBlocks();
  ASSERT_TRUE(of_container.ok());
  for (const TakenBlock& one : *of_container) EXPECT_NE(one.block.length(), 0) << one.owner;
}

TEST_F(LinksTest, StackedDeviceSharesTheParentsWire) {
  Connect();
  const UniqueFd second = NewNetns().value();
  StackedSpec spec;
  spec.mode = "bridge";
  spec.parent = "br0";
  spec.container_name = "eth0";
  spec.mac = MacAddress::Random();
  ASSERT_EQ(host_->MakeStacked(spec, second.get()), absl::OkStatus());
  const std::unique_ptr<Links> inside = Links::OpenIn(second.get()).value();
  const LinkInfo made = inside->Find("eth0").value();
  EXPECT_EQ(made.kind, "macvlan");
  EXPECT_EQ(made.mac, *spec.mac);
  EXPECT_EQ(host_->MakeStacked(spec, second.get()).code(), absl::StatusCode::kAlreadyExists);
  spec.container_name = "eth1";
  spec.mode = "sideways";
  EXPECT_EQ(host_->MakeStacked(spec, second.get()).code(), absl::StatusCode::kInvalidArgument);
  spec.mode = "bridge";
  spec.parent = "eth9";
  EXPECT_EQ(host_->MakeStacked(spec, second.get()).code(), absl::StatusCode::kNotFound);
}

TEST_F(LinksTest, DefaultRouteMovesAndGoes) {
  Connect();
  const auto routes = [&] {
    std::string text;
    EXPECT_TRUE(InNetns(container_ns_.get(), [&text] {
                  text = ReadFile("/proc/thread-self/net/route", 1 << 16).value();
                  return absl::OkStatus();
                }).ok());
    // Device, destination 0.0.0.0 and the router, in host order.
    std::vector<std::string> found;
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      const std::vector<absl::string_view> fields = absl::StrSplit(line, '\t');
      if (fields.size() > 7 && fields[1] == "00000000" && fields[7] == "00000000")
        found.push_back(absl::StrCat(fields[0], " ", fields[2]));
    }
    return found;
  };
  EXPECT_EQ(container_->RemoveDefaultRoute(Family::kIpv4), absl::OkStatus());
  EXPECT_EQ(container_->RemoveDefaultRoute(Family::kIpv4), absl::OkStatus());
  EXPECT_THAT(routes(), IsEmpty());
  ASSERT_EQ(container_->SetDefaultRoute(At("10.7.0.1")), absl::OkStatus());
  ASSERT_EQ(container_->SetDefaultRoute(At("10.7.0.9")), absl::OkStatus());
  EXPECT_THAT(routes(), ElementsAre("eth0 0900070A"));
  ASSERT_EQ(container_->SetDefaultRouteBy("eth0", Family::kIpv4), absl::OkStatus());
  EXPECT_THAT(routes(), ElementsAre("eth0 00000000"));
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    EXPECT_EQ(container_->RemoveDefaultRoute(family), absl::OkStatus());
    EXPECT_EQ(container_->RemoveDefaultRoute(family), absl::OkStatus());
  }
  EXPECT_THAT(routes(), IsEmpty());
  ASSERT_EQ(container_->SetDefaultRoute(At("fd07::1")), absl::OkStatus());
  ASSERT_EQ(container_->SetDefaultRoute(At("fd07::9")), absl::OkStatus());
}

TEST(MacAddressTest, ParsesAndPrints) {
  EXPECT_EQ(MacAddress::Parse("02:42:AC:11:00:02").value().ToString(), "02:42:ac:11:00:02");
  for (const char* text :
       {"", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02", "02-42-ac-11-00-02",
        "01:00:5e:00:00:01", "00:00:00:00:00:00", "gg:42:ac:11:00:02"})
    EXPECT_FALSE(MacAddress::Parse(text).ok()) << text;
  const MacAddress random = MacAddress::Random();
  EXPECT_EQ(random.bytes()[0] & 3, 2);
  EXPECT_FALSE(random == MacAddress::Random());
}

}  // namespace
}  // namespace gantry::network
