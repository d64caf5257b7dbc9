#include "supervisor/network/address.h"

#include "gtest/gtest.h"

namespace gantry::network {
namespace {

Address At(absl::string_view text) {
  absl::StatusOr<Address> address = Address::Parse(text);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.value_or(Address());
}

Prefix Block(absl::string_view text) {
  absl::StatusOr<Prefix> block = Prefix::Parse(text);
  EXPECT_TRUE(block.ok()) << block.status();
  return block.value_or(Prefix());
}

TEST(AddressTest, PrintsTheShortForm) {
  for (const char* text : {"0.0.0.0", "172.17.0.2", "255.255.255.255", "::", "::1", "fd00::1:0:1"})
    EXPECT_EQ(At(text).ToString(), text);
  EXPECT_EQ(At("FD00:0:0::0001").ToString(), "fd00::1");
}

TEST(AddressTest, RefusesWhatIsNotAnAddress) {
  for (const absl::string_view text :
       {absl::string_view("10.0.0"), absl::string_view("10.0.0.256"),
        absl::string_view("010.0.0.1"), absl::string_view("10.0.0.1/8"), absl::string_view(""),
        absl::string_view(" 10.0.0.1"), absl::string_view("fe80::1%eth0"),
        absl::string_view("10.0.0.1\0x", 10)}) {
    EXPECT_EQ(Address::Parse(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(AddressTest, BytesAreInNetworkOrder) {
  EXPECT_EQ(At("1.2.3.4").Bytes(), std::string("\1\2\3\4"));
  EXPECT_EQ(Address::FromBytes(At("fd00::17").Bytes()), At("fd00::17"));
}

TEST(AddressTest, ReverseNames) {
  EXPECT_EQ(At("172.17.0.2").ReverseName(), "2.0.17.172.in-addr.arpa");
  EXPECT_EQ(At("fd00::1a").ReverseName(),
            "a.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa");
}

TEST(AddressTest, IPv4ComesFirst) {
  EXPECT_LT(At("255.0.0.1"), At("::1"));
  EXPECT_LT(At("10.0.0.9"), At("10.0.0.10"));
  EXPECT_NE(At("0.0.0.1"), At("::1"));
}

TEST(PrefixTest, HostBitsAreAnErrorThatSaysTheBlock) {
  const absl::Status status = Prefix::Parse("10.1.2.3/16").status();
  EXPECT_EQ(status.message(), "invalid subnet 10.1.2.3/16: it should be 10.1.0.0/16");
}

TEST(PrefixTest, RefusesWhatIsNotASubnet) {
  for (const char* text : {"10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8",
                           "10.0.0.0/8/8", "fd00::/129", "/8", "x/8", "10.0.0.0/ 8"})
    EXPECT_FALSE(Prefix::Parse(text).ok()) << text;
}

TEST(PrefixTest, EdgesOfABlock) {
  EXPECT_EQ(Block("10.1.0.0/16").last(), At("10.1.255.255"));
  EXPECT_EQ(Block("0.0.0.0/0").last(), At("255.255.255.255"));
  EXPECT_EQ(Block("::/0").last(), At("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
  EXPECT_EQ(Block("10.0.0.7/32").last(), At("10.0.0.7"));
}

TEST(PrefixTest, ContainsAndOverlaps) {
  EXPECT_TRUE(Block("10.0.0.0/8").Contains(At("10.255.0.1")));
  EXPECT_FALSE(Block("10.0.0.0/8").Contains(At("11.0.0.0")));
  EXPECT_FALSE(Block("0.0.0.0/0").Contains(At("::1")));
  EXPECT_TRUE(Block("10.0.0.0/8").Overlaps(Block("10.1.0.0/16")));
  EXPECT_TRUE(Block("10.1.0.0/16").Overlaps(Block("10.0.0.0/8")));
  EXPECT_FALSE(Block("10.1.0.0/16").Overlaps(Block("10.2.0.0/16")));
}

TEST(PrefixTest, NextBlockWrapsAtTheEnd) {
  EXPECT_EQ(Block("172.17.0.0/16").Next(), Block("172.18.0.0/16"));
  EXPECT_EQ(Block("255.255.0.0/16").Next(), Block("0.0.0.0/16"));
  EXPECT_EQ(Block("fd00::/64").Next(), Block("fd00:0:0:1::/64"));
}

}  // namespace
}  // namespace gantry::network
