#include "ctl/life/remedy_words.h"

#include "gtest/gtest.h"

namespace gantry::ctl {
namespace {

TEST(RemedyWordsTest, FieldsBecomeFlagsAndCallsBecomeVerbs) {
  EXPECT_EQ(WithFlags("Raise {memory_bytes} ({!update} does it)."),
            "Raise --memory (`ctl update` does it).");
  EXPECT_EQ(WithFlags("{!system df} shows it"), "`ctl system df` shows it");
}

TEST(RemedyWordsTest, WhatIsNoPlaceholderStays) {
  EXPECT_EQ(WithFlags(""), "");
  EXPECT_EQ(WithFlags("a { b"), "a { b");
  EXPECT_EQ(WithFlags("{unknown_field}"), "unknown_field");
}

}  // namespace
}  // namespace gantry::ctl
