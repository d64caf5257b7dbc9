#include "base/clock.h"

#include "gtest/gtest.h"

namespace gantry {
namespace {

TEST(FakeClockTest, MovesOnlyWhenTold) {
  FakeClock clock(absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100));
  clock.Advance(absl::Seconds(5));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(105));
  EXPECT_EQ(clock.Monotonic(), absl::Seconds(5));
}

TEST(FakeClockTest, SettingTheWallClockLeavesTheMonotonicAlone) {
  FakeClock clock(absl::FromUnixSeconds(100));
  clock.SetWallClock(absl::FromUnixSeconds(1));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(1));
  EXPECT_EQ(clock.Monotonic(), absl::ZeroDuration());
}

TEST(RealClockTest, MonotonicDoesNotGoBack) {
  const absl::Duration first = Clock::Real().Monotonic();
  EXPECT_GE(Clock::Real().Monotonic(), first);
  EXPECT_GT(first, absl::ZeroDuration());
}

}  // namespace
}  // namespace gantry
