#include "base/rotated_log.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

using ::testing::ElementsAre;

TEST(RotatedLogTest, NumbersAreThoseOfThisLogInOrder) {
  TempDir directory;
  for (const char* name : {"a.log", "a.log.10", "a.log.9", "a.log.1", "a.log.x", "a.log.+2",
                           "a.log.03", "a.log.0", "a.log.-4", "b.log.7", "a.log.5.gz"}) {
    ASSERT_TRUE(WriteFile(directory.Join(name), "").ok());
  }
  EXPECT_THAT(RotatedLogNumbers(directory.Join("a.log")), ElementsAre(1, 9, 10));
  EXPECT_THAT(RotatedLogNumbers(directory.Join("none/a.log")), ElementsAre());
}

TEST(RotatedLogTest, HoldsOfTwoReadersAddUpAndEndWithThem) {
  TempDir directory;
  const std::string log = directory.Join("a.log");
  EXPECT_FALSE(LogHold::IsHeld(log, 1));
  {
    LogHold slow(log);
    LogHold fast(log);
    EXPECT_TRUE(LogHold::IsHeld(log, 1));
    fast.ReleaseThrough(5);
    EXPECT_TRUE(LogHold::IsHeld(log, 1));
    slow.ReleaseThrough(2);
    EXPECT_FALSE(LogHold::IsHeld(log, 2));
    EXPECT_TRUE(LogHold::IsHeld(log, 3));
    slow.ReleaseThrough(9);
    EXPECT_FALSE(LogHold::IsHeld(log, 5));
    EXPECT_TRUE(LogHold::IsHeld(log, 6));
    EXPECT_TRUE(LogHold::IsHeld(log, int64_t{1} << 40));
  }
  EXPECT_FALSE(LogHold::IsHeld(log, 6));
}

}  // namespace
}  // namespace gantry
