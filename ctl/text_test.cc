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

TEST(PrintableTest, WhatSteersATerminalIsShown) {
  EXPECT_EQ(Printable("plain \ttext\n"), "plain \ttext\n");
  EXPECT_EQ(Printable("a\x1b]0;title\x07z"), "a\\x1b]0;title\\x07z");
  EXPECT_EQ(Printable("over\rwritten\b\x7f"), "over\\x0dwritten\\x08\\x7f");
  EXPECT_EQ(Printable("csi \xc2\x9b"
                      "31m"),
            "csi \\u009b31m");
  EXPECT_EQ(Printable("caf\xe9 \x9b"), "caf\\xe9 \\x9b");
  EXPECT_EQ(Printable("txt.\xe2\x80\xae"
                      "exe"),
            "txt.\\u202eexe");
}

TEST(PrintableTest, JsonStaysJson) {
  EXPECT_EQ(PrintableJson("{\"a\":\"\x7f\xc2\x9b"
                          "2J\"}"),
            "{\"a\":\"\\u007f\\u009b2J\"}");
}

TEST(PrintableTest, OtherCharactersStay) {
  EXPECT_EQ(Printable("größe 日本 😀 └─"), "größe 日本 😀 └─");
}

}  // namespace
}  // namespace gantry::ctl
