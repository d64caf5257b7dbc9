#include "base/engine/units.h"

#include <gtest/gtest.h>

namespace gantry::engine {
namespace {

TEST(UnitsTest, HumanSizeIsDockers) {
  EXPECT_EQ(HumanSize(0), "0B");
  EXPECT_EQ(HumanSize(999), "999B");
  EXPECT_EQ(HumanSize(1000), "1kB");
  EXPECT_EQ(HumanSize(4261550), "4.26MB");
  EXPECT_EQ(HumanSize(124000000), "124MB");
  EXPECT_EQ(HumanSize(-1500), "-1.5kB");
}

TEST(UnitsTest, BinarySizeIsDockers) {
  EXPECT_EQ(BinarySize(0), "0B");
  EXPECT_EQ(BinarySize(1536), "1.5KiB");
  EXPECT_EQ(BinarySize(2087354368), "1.944GiB");
}

TEST(UnitsTest, HumanDurationHasDockersSteps) {
  const struct {
    absl::Duration duration;
    const char* text;
  } cases[] = {
      {absl::Milliseconds(200), "Less than a second"},
      {absl::Seconds(1), "1 second"},
      {absl::Seconds(59), "59 seconds"},
      {absl::Seconds(60), "About a minute"},
      {absl::Minutes(2), "2 minutes"},
      {absl::Minutes(59), "59 minutes"},
      {absl::Minutes(60), "About an hour"},
      {absl::Hours(2), "2 hours"},
      {absl::Hours(47), "47 hours"},
      {absl::Hours(48), "2 days"},
      {absl::Hours(24 * 13), "13 days"},
      {absl::Hours(24 * 14), "2 weeks"},
      {absl::Hours(24 * 60), "2 months"},
      {absl::Hours(24 * 800), "2 years"},
  };
  for (const auto& c : cases) EXPECT_EQ(HumanDuration(c.duration), c.text);
}

TEST(UnitsTest, ParseBytesTakesUnits) {
  EXPECT_EQ(*ParseBytes("100"), 100);
  EXPECT_EQ(*ParseBytes("100b"), 100);
  EXPECT_EQ(*ParseBytes("512m"), int64_t{512} << 20);
  EXPECT_EQ(*ParseBytes("1.5g"), int64_t{3} << 29);
  EXPECT_EQ(*ParseBytes("2GiB"), int64_t{2} << 30);
  EXPECT_EQ(*ParseBytes("1KB"), 1024);
  EXPECT_EQ(*ParseBytes("-1"), -1);
  for (const char* text : {"", "m", "5x", "5mm", "1..2g", "99999999p", "5bb"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
}

TEST(UnitsTest, ParseTimestampTakesEveryForm) {
  const absl::Time now = absl::FromUnixSeconds(1000000);
  EXPECT_EQ(*ParseTimestamp("10m", now), now - absl::Minutes(10));
  EXPECT_EQ(*ParseTimestamp("0s", now), now);
  EXPECT_EQ(*ParseTimestamp("1136073845", now), absl::FromUnixSeconds(1136073845));
  EXPECT_EQ(*ParseTimestamp("1136073845.000000001", now), absl::FromUnixNanos(1136073845000000001));
  EXPECT_EQ(*ParseTimestamp("2006-01-02T15:04:05.5Z", now), absl::FromUnixMillis(1136214245500));
  EXPECT_EQ(*ParseTimestamp("2006-01-02T15:04:05+01:00", now), absl::FromUnixSeconds(1136210645));
  EXPECT_FALSE(ParseTimestamp("yesterday", now).ok());
  EXPECT_FALSE(ParseTimestamp("", now).ok());
}

TEST(UnitsTest, JsonTimeIsRfc3339WithoutTrailingZeros) {
  EXPECT_EQ(JsonTime(absl::FromUnixMillis(1136214245500)), "2006-01-02T15:04:05.5Z");
  EXPECT_EQ(JsonTime(absl::FromUnixSeconds(1136214245)), "2006-01-02T15:04:05Z");
  EXPECT_EQ(JsonTime(absl::InfinitePast()), "0001-01-01T00:00:00Z");
  EXPECT_EQ(JsonTime(absl::UnixEpoch()), "1970-01-01T00:00:00Z");
  EXPECT_NE(TableTime(absl::UnixEpoch()), "N/A");
  EXPECT_EQ(TableTime(absl::InfinitePast()), "N/A");
}

TEST(UnitsTest, ParseNanoCpusRefusesNonsense) {
  EXPECT_EQ(*ParseNanoCpus("1.5"), 1500000000);
  EXPECT_EQ(*ParseNanoCpus(".001"), 1000000);
  EXPECT_FALSE(ParseNanoCpus("-1").ok());
  EXPECT_FALSE(ParseNanoCpus("nan").ok());
  EXPECT_FALSE(ParseNanoCpus("two").ok());
}

TEST(UnitsTest, ShortIdDropsTheAlgorithm) {
  EXPECT_EQ(ShortId("sha256:0123456789abcdef"), "0123456789ab");
  EXPECT_EQ(ShortId("0123456789abcdef"), "0123456789ab");
  EXPECT_EQ(ShortId("short"), "short");
}

}  // namespace
}  // namespace gantry::engine
