// What a neighbour hears, in network namespaces of the tests' own. Needs root.
#include "supervisor/network/announcer.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

Address At(absl::string_view text) { return Address::Parse(text).value(); }

class AnnouncerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    host_ns_ = NewNetns().value();
    host_ = Links::OpenIn(host_ns_.get()).value();
    BridgeSpec bridge;
    bridge.name = "br0";
    bridge.addresses = {{At("10.7.0.1"), 24}, {At("fd07::1"), 64}};
    ASSERT_EQ(host_->EnsureBridge(bridge), absl::OkStatus());
    neighbour_ns_ = NewNetns().value();
    neighbour_ = Links::OpenIn(neighbour_ns_.get()).value();
    VethSpec veth;
    veth.host_name = "veth1";
    veth.bridge = "br0";
    veth.container_name = "eth0";
    veth.mac = MacAddress::Random();
    ASSERT_EQ(host_->MakeVeth(veth, neighbour_ns_.get()), absl::OkStatus());
    ASSERT_EQ(neighbour_->Configure("eth0", {{At("10.7.0.3"), 24}, {At("fd07::3"), 64}}),
              absl::OkStatus());
    announcer_ = Announcer::OpenIn(host_ns_.get()).value();
    announcement_.device = host_->Find("br0").value().index;
    announcement_.mac = MacAddress::Parse("02:00:00:00:00:07").value();
    announcement_.addresses = {At("10.7.0.2"), At("fd07::2")};
    ASSERT_EQ(InNetns(neighbour_ns_.get(),
                      [&] {
                        ear_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
                        return absl::OkStatus();
                      }),
              absl::OkStatus());
    // A port of a bridge passes nothing until its carrier has been noticed.
    for (int i = 0; i < 100 && Hear(100).empty(); ++i) {
      Announcement probe;
      probe.device = announcement_.device;
      probe.mac = announcement_.mac;
      probe.addresses = {At("10.7.0.99")};
      probe.times = 1;
      ASSERT_EQ(announcer_->Announce("probe", probe), absl::OkStatus());
    }
    while (!Hear(50).empty()) {
    }
  }

  // The next frame from the announced MAC address, "" when none comes in time.
  std::string Hear(int patience_ms) {
    const std::string from(reinterpret_cast<const char*>(announcement_.mac.bytes().data()), 6);
    pollfd ready = {ear_.get(), POLLIN, 0};
    while (poll(&ready, 1, patience_ms) == 1) {
      char buffer[2048];
      const ssize_t got = recv(ear_.get(), buffer, sizeof buffer, 0);
      const absl::string_view frame(buffer, got < 0 ? 0 : static_cast<size_t>(got));
      if (frame.size() > 14 && frame.substr(6, 6) == from) return absl::BytesToHexString(frame);
    }
    return "";
  }
  // The neighbour's own entry for an address, of /proc/net/arp.
  std::string Entry(const std::string& address) {
    std::string found;
    EXPECT_EQ(InNetns(neighbour_ns_.get(),
                      [&] {
                        const auto table = ReadFile("/proc/thread-self/net/arp", 1 << 16);
                        for (const absl::string_view line : absl::StrSplit(*table, '\n')) {
                          if (absl::StartsWith(line, address + " ")) found = std::string(line);
                        }
                        return table.status();
                      }),
              absl::OkStatus());
    return found;
  }

  UniqueFd host_ns_, neighbour_ns_, ear_;
  std::unique_ptr<Links> host_, neighbour_;
  std::unique_ptr<Announcer> announcer_;
  Announcement announcement_;
};

constexpr char kArp[] =
    "ffffffffffff02000000000708060001080006040001020000000007"
    "0a070002"
    "000000000000"
    "0a070002";

TEST_F(AnnouncerTest, NeighboursHearEachAddressAsOftenAsAsked) {
  announcement_.times = 2;
  announcement_.interval = absl::Milliseconds(100);
  ASSERT_EQ(announcer_->Announce("web/1", announcement_), absl::OkStatus());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Hear(3000), kArp);
    const std::string advert = Hear(3000);
    // To all nodes, hop limit 255; advertisement with the override flag, about the address, with
    // the MAC address.
    EXPECT_TRUE(absl::StartsWith(advert, "33330000000102000000000786dd6000000000203aff")) << advert;
    EXPECT_TRUE(absl::EndsWith(advert, "20000000fd0700000000000000000000000000020201020000000007"))
        << advert;
  }
  EXPECT_EQ(Hear(400), "");
}

TEST_F(AnnouncerTest, NeighbourThatKnewAnotherMacAddressLearns) {
  const int eth0 = neighbour_->Find("eth0").value().index;
  ASSERT_EQ(InNetns(neighbour_ns_.get(),
                    [] {
                      return system(
                                 "ip neigh replace 10.7.0.2 lladdr 02:00:00:00:00:01 dev eth0 nud "
                                 "stale") == 0
                                 ? absl::OkStatus()
                                 : absl::InternalError("ip");
                    }),
            absl::OkStatus());
  ASSERT_THAT(Entry("10.7.0.2"), testing::HasSubstr("02:00:00:00:00:01"));
  announcement_.times = 1;
  ASSERT_EQ(announcer_->Announce("web/1", announcement_), absl::OkStatus());
  EXPECT_EQ(Hear(3000), kArp);
  EXPECT_THAT(Entry("10.7.0.2"), testing::HasSubstr("02:00:00:00:00:07"));
  // By hand, as the host does with its own entry; one that is not there stays away.
  const MacAddress other = MacAddress::Parse("02:00:00:00:00:09").value();
  EXPECT_EQ(neighbour_->SetNeighbour(eth0, At("10.7.0.2"), other), absl::OkStatus());
  EXPECT_THAT(Entry("10.7.0.2"), testing::HasSubstr("02:00:00:00:00:09"));
  EXPECT_EQ(neighbour_->SetNeighbour(eth0, At("10.7.0.88"), other), absl::OkStatus());
  EXPECT_EQ(Entry("10.7.0.88"), "");
}

TEST_F(AnnouncerTest, NothingFollowsOnceItIsForgotten) {
  announcement_.interval = absl::Milliseconds(100);
  ASSERT_EQ(announcer_->Announce("web/1", announcement_), absl::OkStatus());
  announcer_->Forget("web/1");
  EXPECT_EQ(Hear(3000), kArp);
  EXPECT_NE(Hear(3000), "");
  EXPECT_EQ(Hear(400), "");
  // The thread ends with the last one; a later announcement has one again.
  announcement_.times = 2;
  ASSERT_EQ(announcer_->Announce("web/2", announcement_), absl::OkStatus());
  for (int i = 0; i < 4; ++i) EXPECT_NE(Hear(3000), "");
}

}  // namespace
}  // namespace gantry::network
