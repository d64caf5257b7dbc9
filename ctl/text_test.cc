#include "ctl/text.h"

#include <gtest/gtest.h>

namespace gantry::ctl {
namespace {

TEST(TextTest, EllipsisCountsCharactersNotBytes) {
  EXPECT_EQ(Ellipsis("abcdef", 6), "abcdef");
  EXPECT_EQ(Ellipsis("abcdefg", 6), "abcde…");
  EXPECT_EQ(Ellipsis("äöüßéè", 4), "äöü…");
}

TEST(TextTest, DisplayWidthSkipsEscapes) {
  EXPECT_EQ(DisplayWidth("\x1b[31mred\x1b[0m"), 3u);
  EXPECT_EQ(DisplayWidth("└─ x"), 4u);
}

}  // namespace
}  // namespace gantry::ctl
