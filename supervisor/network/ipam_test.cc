#include "supervisor/network/ipam.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Address At(absl::string_view text) { return Address::Parse(text).value(); }
Prefix Block(absl::string_view text) { return Prefix::Parse(text).value(); }

Pool PoolOf(absl::string_view subnet) {
  Pool pool;
  pool.subnet = Block(subnet);
  EXPECT_TRUE(CompletePool(pool).ok());
  return pool;
}

TEST(ChooseSubnetTest, DefaultPoolsHaveThirtyOneNetworksInOrder) {
  std::vector<TakenBlock> taken;
  std::vector<std::string> chosen;
  while (true) {
    const absl::StatusOr<Prefix> block = ChooseSubnet(DefaultPools(), Family::kIpv4, taken);
    if (!block.ok()) break;
    chosen.push_back(block->ToString());
    taken.push_back({*block, "a network"});
  }
  ASSERT_EQ(chosen.size(), 31u);
  EXPECT_EQ(chosen[0], "172.17.0.0/16");
  EXPECT_EQ(chosen[14], "172.31.0.0/16");
  EXPECT_EQ(chosen[15], "192.168.0.0/20");
  EXPECT_EQ(chosen[30], "192.168.240.0/20");
}

TEST(ChooseSubnetTest, LeavesAloneWhatTheHostUses) {
  const std::vector<TakenBlock> taken = {{Block("172.16.0.0/12"), "route by eth0"},
                                         {Block("192.168.1.53/32"), "name server"}};
  EXPECT_EQ(ChooseSubnet(DefaultPools(), Family::kIpv4, taken).value(), Block("192.168.16.0/20"));
}

TEST(ChooseSubnetTest, SaysWhatIsInTheWay) {
  const std::vector<TakenBlock> taken = {{Block("10.0.0.0/8"), "route by tun0"}};
  const absl::Status status =
      ChooseSubnet({{Block("10.1.0.0/16"), 24}}, Family::kIpv4, taken).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("10.0.0.0/8 (route by tun0)"));
}

TEST(ChooseSubnetTest, EndsWhereTheAddressesEnd) {
  const std::vector<TakenBlock> taken = {{Block("255.255.255.0/24"), "a network"}};
  EXPECT_FALSE(ChooseSubnet({{Block("255.255.255.0/24"), 26}}, Family::kIpv4, taken).ok());
}

TEST(ChooseSubnetTest, UniqueLocalPoolIsTheHostsOwn) {
  const PoolSource pool = UniqueLocalPool("host-1");
  EXPECT_TRUE(Block("fd00::/8").Contains(pool.base));
  EXPECT_EQ(pool.base.length(), 48);
  EXPECT_EQ(UniqueLocalPool("host-1").base, pool.base);
  EXPECT_NE(UniqueLocalPool("host-2").base, pool.base);
  const Prefix first = ChooseSubnet({pool}, Family::kIpv6, {}).value();
  EXPECT_EQ(first.length(), 64);
  EXPECT_EQ(ChooseSubnet({pool}, Family::kIpv6, {{first, "a network"}}).value(), first.Next());
}

TEST(PoolTest, GatewayIsTheLowestFreeAddress) {
  EXPECT_EQ(PoolOf("172.17.0.0/16").gateway, At("172.17.0.1"));
  EXPECT_EQ(PoolOf("fd00::/64").gateway, At("fd00::1"));
  // In a range it may be the range's first, because only the subnet's first is reserved.
  Pool ranged;
  ranged.subnet = Block("10.0.0.0/8");
  ranged.range = Block("10.4.0.0/16");
  ASSERT_TRUE(CompletePool(ranged).ok());
  EXPECT_EQ(ranged.gateway, At("10.4.0.0"));
  Pool reserved;
  reserved.subnet = Block("10.0.0.0/24");
  reserved.auxiliary = {{"router", At("10.0.0.1")}};
  ASSERT_TRUE(CompletePool(reserved).ok());
  EXPECT_EQ(reserved.gateway, At("10.0.0.2"));
}

TEST(PoolTest, ReportsEveryProblem) {
  Pool pool;
  pool.subnet = Block("10.1.0.0/16");
  pool.range = Block("10.2.0.0/24");
  pool.gateway = At("10.3.0.1");
  pool.auxiliary = {{"nas", At("10.4.0.1")}};
  EXPECT_THAT(
      PoolProblems(pool),
      ElementsAre(
          "invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range",
          "invalid gateway 10.3.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
          "invalid auxiliary address nas: parent subnet 10.1.0.0/16 doesn't contain this "
          "address"));
  pool.range = Block("10.0.0.0/8");
  EXPECT_THAT(PoolProblems(pool)[0], HasSubstr("bigger than its parent subnet 10.1.0.0/16"));
  pool.range = Block("fd00::/64");
  EXPECT_THAT(PoolProblems(pool)[0], HasSubstr("parent subnet is an IPv4 block"));
  EXPECT_EQ(CompletePool(pool).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ChooseAddressTest, LowestFreeAddressIsUsedAgainAtOnce) {
  const Pool pool = PoolOf("172.17.0.0/16");
  std::set<Address> taken;
  for (const char* expected : {"172.17.0.2", "172.17.0.3", "172.17.0.4"}) {
    const Address chosen = ChooseAddress(pool, taken).value();
    EXPECT_EQ(chosen.ToString(), expected);
    taken.insert(chosen);
  }
  taken.erase(At("172.17.0.3"));
  EXPECT_EQ(ChooseAddress(pool, taken).value(), At("172.17.0.3"));
}

TEST(ChooseAddressTest, SmallBlocks) {
  const Pool four = PoolOf("10.0.0.0/30");
  EXPECT_EQ(ChooseAddress(four, {}).value(), At("10.0.0.2"));
  EXPECT_EQ(ChooseAddress(four, {At("10.0.0.2")}).status().code(),
            absl::StatusCode::kResourceExhausted);
  // Two addresses, both usable (RFC 3021).
  const Pool two = PoolOf("10.0.0.0/31");
  EXPECT_EQ(two.gateway, At("10.0.0.0"));
  EXPECT_EQ(ChooseAddress(two, {}).value(), At("10.0.0.1"));
  const Pool one = PoolOf("10.0.0.0/32");
  EXPECT_FALSE(ChooseAddress(one, {}).ok());
}

TEST(ChooseAddressTest, RangeBoundsTheAutomaticOnesOnly) {
  Pool pool;
  pool.subnet = Block("10.0.0.0/16");
  pool.range = Block("10.0.5.0/31");
  pool.gateway = At("10.0.0.1");
  ASSERT_TRUE(CompletePool(pool).ok());
  EXPECT_EQ(ChooseAddress(pool, {}).value(), At("10.0.5.0"));
  EXPECT_EQ(ChooseAddress(pool, {At("10.0.5.0")}).value(), At("10.0.5.1"));
  EXPECT_FALSE(ChooseAddress(pool, {At("10.0.5.0"), At("10.0.5.1")}).ok());
  EXPECT_TRUE(CheckAddress(pool, {}, At("10.0.77.7")).ok());
}

TEST(CheckAddressTest, SaysWhyNot) {
  Pool pool = PoolOf("10.0.0.0/24");
  pool.auxiliary = {{"nas", At("10.0.0.9")}};
  EXPECT_EQ(CheckAddress(pool, {}, At("10.0.1.2")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckAddress(pool, {}, At("fd00::2")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckAddress(pool, {}, At("10.0.0.0")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckAddress(pool, {}, At("10.0.0.255")).code(), absl::StatusCode::kInvalidArgument);
  for (const char* used : {"10.0.0.1", "10.0.0.9", "10.0.0.7"}) {
    EXPECT_EQ(CheckAddress(pool, {At("10.0.0.7")}, At(used)).code(),
              absl::StatusCode::kAlreadyExists)
        << used;
  }
}

// Any order of taking and giving back: never twice the same, never a reserved one, and the block is
// used up to its last address.
TEST(ChooseAddressTest, RandomOrders) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const Pool pool = PoolOf("10.9.0.0/27");
  std::set<Address> taken;
  for (int step = 0; step < 2000; ++step) {
    if (random() % 3 != 0) {
      const absl::StatusOr<Address> chosen = ChooseAddress(pool, taken);
      ASSERT_EQ(chosen.ok(), taken.size() < 29u);  // 32 less network, broadcast and gateway
      if (!chosen.ok()) continue;
      ASSERT_TRUE(CheckAddress(pool, taken, *chosen).ok()) << chosen->ToString();
      taken.insert(*chosen);
    } else if (!taken.empty()) {
      taken.erase(std::next(taken.begin(), static_cast<long>(random() % taken.size())));
    }
  }
}

TEST(IpamTest, PoolsAsTheyAreConfigured) {
  const PoolSource pool = ParsePoolSource("base=10.0.0.0/8,size=24").value();
  EXPECT_EQ(pool.base.ToString(), "10.0.0.0/8");
  EXPECT_EQ(pool.length, 24);
  EXPECT_TRUE(ParsePoolSource("size=64,base=fd00::/48").ok());
  for (const char* bad :
       {"", "10.0.0.0/8", "base=10.0.0.0/8", "size=24", "base=10.0.0.0/8,size=7",
        "base=10.0.0.0/8,size=33", "base=10.0.0.1/8,size=24", "base=10.0.0.0/8,size=24,more=1"})
    EXPECT_FALSE(ParsePoolSource(bad).ok()) << bad;
}

}  // namespace
}  // namespace gantry::network
