#include "base/system_paths.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

SystemPaths Usual() {
  return {{"/proc/kcore", "/proc/keys", "/sys/firmware"}, {"/proc/sys", "/proc/bus"}};
}

TEST(SystemPathsTest, WhatIsUnmaskedIsInNeitherList) {
  SystemPaths paths = Usual();
  Unmask("/proc/kcore:/proc/sys", paths);
  EXPECT_THAT(paths.masked, ElementsAre("/proc/keys", "/sys/firmware"));
  EXPECT_THAT(paths.read_only, ElementsAre("/proc/bus"));
}

TEST(SystemPathsTest, PatternsAreAShells) {
  SystemPaths paths = Usual();
  Unmask("/proc/*", paths);
  EXPECT_THAT(paths.masked, ElementsAre("/sys/firmware"));
  EXPECT_THAT(paths.read_only, IsEmpty());
  paths = Usual();
  Unmask("/*", paths);  // no '/' is matched
  EXPECT_EQ(paths.masked, Usual().masked);
  Unmask("ALL", paths);
  EXPECT_THAT(paths.masked, IsEmpty());
  EXPECT_THAT(paths.read_only, IsEmpty());
}

TEST(SystemPathsTest, WhatIsMaskedIsListedOnce) {
  SystemPaths paths = Usual();
  Mask("/etc/secret::/proc/keys", paths);
  EXPECT_THAT(paths.masked,
              ElementsAre("/proc/kcore", "/proc/keys", "/sys/firmware", "/etc/secret"));
}

}  // namespace
}  // namespace gantry
