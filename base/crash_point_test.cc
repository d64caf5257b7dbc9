#include "base/crash_point.h"

#include <cstdlib>

#include "gtest/gtest.h"

namespace gantry {
namespace {

// Each statement runs in a process of its own, which reads the environment anew.
TEST(CrashPointDeathTest, KillsAtTheNamedPointOnly) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        setenv("GANTRY_CRASH_POINT", "bundle.recorded", 1);
        CrashPoint("bundle.made");
        CrashPoint("bundle.recorded");
        exit(0);
      },
      testing::KilledBySignal(9), "");
  EXPECT_EXIT(
      {
        setenv("GANTRY_CRASH_POINT", "bundle.recorded", 1);
        CrashPoint("bundle.record");
        CrashPoint("bundle.recorded.more");
        exit(7);
      },
      testing::ExitedWithCode(7), "");
}

TEST(CrashPointDeathTest, CountsPasses) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto pass = [](int times) {
    setenv("GANTRY_CRASH_POINT", "x.y:3", 1);
    for (int i = 0; i < times; ++i) CrashPoint("x.y");
    exit(7);
  };
  EXPECT_EXIT(pass(2), testing::ExitedWithCode(7), "");
  EXPECT_EXIT(pass(3), testing::KilledBySignal(9), "");
}

TEST(CrashPointDeathTest, DoesNothingWhenNotAskedFor) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        unsetenv("GANTRY_CRASH_POINT");
        CrashPoint("");
        CrashPoint("x.y");
        exit(7);
      },
      testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace gantry
