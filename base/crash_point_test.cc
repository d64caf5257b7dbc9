#include "base/crash_point.h"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

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

TEST(CrashPointDeathTest, WaitsForAFile) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const TempDir dir;
  const std::string file = dir.Join("go");
  EXPECT_EXIT(
      {
        setenv("GANTRY_CRASH_POINT", ("x.y@" + file).c_str(), 1);
        std::thread other([&file] {
          while (access((file + ".reached").c_str(), F_OK) != 0) std::this_thread::yield();
          (void)WriteFile(file, "");
        });
        CrashPoint("x.y");
        other.join();
        exit(access(file.c_str(), F_OK) == 0 ? 7 : 1);
      },
      testing::ExitedWithCode(7), "");
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
