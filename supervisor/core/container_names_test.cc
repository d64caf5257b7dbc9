#include "supervisor/core/container_names.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

TEST(ContainerNamesTest, LettersDigitsAndThreeSignsAreAllowed) {
  for (const std::string good : {"ab", "A9", "0_0", "web-1.x", "a..b", "z_", "a-"})
    EXPECT_TRUE(CheckContainerName(good).ok()) << good;
  EXPECT_TRUE(CheckContainerName(std::string(255, 'a')).ok());
  for (const std::string bad : {"", "a", "-ab", ".ab", "_ab", "a b", "a/b", "a:b",
                                "\xC3\xA4"
                                "b"})
    EXPECT_TRUE(absl::IsInvalidArgument(CheckContainerName(bad))) << bad;
  EXPECT_FALSE(CheckContainerName(std::string(256, 'a')).ok());
  EXPECT_FALSE(CheckContainerName(absl::string_view("a\0b", 3)).ok());
}

TEST(ContainerNamesTest, TheMessageShowsTheBeginningAndNoControlCharacters) {
  const absl::Status refused = CheckContainerName("\x1b[31m" + std::string(100, 'x'));
  EXPECT_THAT(std::string(refused.message()),
              testing::StartsWith("Invalid container name (\\x1b[31mx"));
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("...), only [a-zA-Z0-9]"));
}

TEST(ContainerNamesTest, MadeUpNamesAreAllowedAndMany) {
  std::set<std::string> names;
  for (uint64_t random = 0; random < (uint64_t{64} << 16); random += 0xffff) {
    names.insert(MakeUpName(random));
    EXPECT_TRUE(CheckContainerName(*names.rbegin()).ok()) << *names.rbegin();
  }
  EXPECT_EQ(MakeUpName(0), "amber_anchor");
  EXPECT_EQ(MakeUpName(1), "brisk_anchor");
  EXPECT_EQ(MakeUpName(uint64_t{3} << 16), "amber_bollard");
  EXPECT_GT(names.size(), 40u);
}

}  // namespace
}  // namespace gantry::core
