#include "base/utf8.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace gantry {
namespace {

TEST(ToValidUtf8Test, ValidTextStaysAsItIs) {
  for (const char* text : {"", "plain", "caf\xc3\xa9", "\xe2\x82\xac 5", "\xf0\x9f\x90\xb3",
                           "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80"}) {
    EXPECT_EQ(ToValidUtf8(text), text);
    EXPECT_TRUE(IsValidUtf8(text));
  }
  const std::string with_nul("a\0b", 3);
  EXPECT_EQ(ToValidUtf8(with_nul), with_nul);
}

TEST(Utf8CharacterBytesTest, CountsTheFirstCharacterOnly) {
  EXPECT_EQ(Utf8CharacterBytes(""), 0u);
  EXPECT_EQ(Utf8CharacterBytes("ab"), 1u);
  EXPECT_EQ(Utf8CharacterBytes("\xc3\xa9x"), 2u);
  EXPECT_EQ(Utf8CharacterBytes("\xf0\x9f\x90\xb3"), 4u);
  EXPECT_EQ(Utf8CharacterBytes("\xe2\x82"), 0u);
  EXPECT_EQ(Utf8CharacterBytes("\xff"), 0u);
}

TEST(ToValidUtf8Test, EachPieceThatIsNoCharacterBecomesOneReplacement) {
  EXPECT_EQ(ToValidUtf8("\xe9"), "\xef\xbf\xbd");
  EXPECT_EQ(ToValidUtf8("caf\xe9!"), "caf\xef\xbf\xbd!");
  // A character cut short is one piece, bytes that begin nothing are one each.
  EXPECT_EQ(ToValidUtf8("\xe2\x82"), "\xef\xbf\xbd");
  EXPECT_EQ(ToValidUtf8("\xf0\x9f\x90z"), "\xef\xbf\xbdz");
  EXPECT_EQ(ToValidUtf8("\x80\xbf"), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(ToValidUtf8("\xff\xfe"), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(ToValidUtf8("\xe2\xc3\xa9"), "\xef\xbf\xbd\xc3\xa9");
}

TEST(ToValidUtf8Test, OverlongFormsSurrogatesAndValuesTooLargeAreInvalid) {
  for (const char* bytes : {"\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
                            "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
                            "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"}) {
    EXPECT_FALSE(IsValidUtf8(bytes));
    EXPECT_TRUE(IsValidUtf8(ToValidUtf8(bytes)));
  }
}

TEST(Utf8PrefixTest, CutsBetweenCharacters) {
  EXPECT_EQ(Utf8Prefix("abc", 5), "abc");
  EXPECT_EQ(Utf8Prefix("abc", 2), "ab");
  EXPECT_EQ(Utf8Prefix("a\xc3\xa9", 2), "a");
  EXPECT_EQ(Utf8Prefix("a\xc3\xa9", 3), "a\xc3\xa9");
  EXPECT_EQ(Utf8Prefix("\xf0\x9f\x90\xb3", 3), "");
  EXPECT_EQ(Utf8Prefix("\xf0\x9f\x90\xb3x", 4), "\xf0\x9f\x90\xb3");
}

TEST(Utf8PrefixTest, BytesThatAreNoTextAreCutAnywhere) {
  EXPECT_EQ(Utf8Prefix("\x80\x80\x80\x80\x80", 3), "\x80\x80\x80");
  EXPECT_EQ(Utf8Prefix("\xe9\xe9\xe9", 2), "\xe9\xe9");
}

TEST(Utf8PrefixTest, AnyCutOfValidTextIsValid) {
  std::string text;
  for (int round = 0; round < 8; ++round) {
    absl::StrAppend(&text, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xb3");
  }
  for (size_t length = 0; length <= text.size() + 1; ++length) {
    EXPECT_TRUE(IsValidUtf8(Utf8Prefix(text, length))) << length;
    EXPECT_TRUE(IsValidUtf8(Utf8Suffix(text, length))) << length;
    EXPECT_LE(Utf8Prefix(text, length).size(), length);
    EXPECT_LE(Utf8Suffix(text, length).size(), length);
    if (length >= 4 && length <= text.size()) {
      EXPECT_GT(Utf8Prefix(text, length).size(), length - 4);
      EXPECT_GT(Utf8Suffix(text, length).size(), length - 4);
    }
  }
}

}  // namespace
}  // namespace gantry
