#include "supervisor/build/dockerfile_words.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace gantry::build {
namespace {

const std::map<std::string, std::string> kVariables = {
    {"A", "a"}, {"E", ""}, {"F", "a.tar.gz"}, {"P", "x  y"}, {"S", "a*b"}};

absl::optional<std::string> Find(absl::string_view name) {
  const auto found = kVariables.find(std::string(name));
  return found == kVariables.end() ? absl::nullopt : absl::optional<std::string>(found->second);
}

// The word, or "! " and the error.
std::string Word(absl::string_view text) {
  const absl::StatusOr<std::string> out = ExpandWord(text, '\\', Find);
  return out.ok() ? *out : "! " + std::string(out.status().message());
}

TEST(DockerfileWordsTest, VariablesAreReplaced) {
  EXPECT_EQ(Word("$A ${A} $A.b $Ab x$"), "a a a.b  x$");
  EXPECT_EQ(Word("$1$@$$-"), "-");
  EXPECT_EQ(Word("$%"), "$%");
}

TEST(DockerfileWordsTest, QuotesAndEscapes) {
  EXPECT_EQ(Word("'$A' \"$A\" \\$A \"\\$A\" \"\\n\""), "$A a $A $A \\n");
  EXPECT_EQ(Word("a\\"), "a");
  EXPECT_EQ(Word("\"a"),
            "! failed to process \"\"a\": unexpected end of statement while looking for matching "
            "double-quote");
  EXPECT_EQ(Word("'a"),
            "! failed to process \"'a\": unexpected end of statement while looking for matching "
            "single-quote");
  EXPECT_EQ(*ExpandWord("c\\d", '`', Find), "c\\d");
}

TEST(DockerfileWordsTest, Defaults) {
  EXPECT_EQ(Word("${X:-w}${X-w}${E:-w}${E-w}"), "www");
  EXPECT_EQ(Word("[${A:+w}][${E:+w}][${E+w}][${X+w}]"), "[w][][w][]");
  EXPECT_EQ(Word("${X:-${A}b}"), "ab");
  EXPECT_EQ(Word("${X:?m}"), "! failed to process \"${X:?m}\": X: m");
  EXPECT_EQ(Word("${E:?}"), "! failed to process \"${E:?}\": E: is not allowed to be empty");
  EXPECT_EQ(Word("${X?}"), "! failed to process \"${X?}\": X: is not allowed to be unset");
  EXPECT_EQ(Word("${A:?m}"), "a");
}

TEST(DockerfileWordsTest, Patterns) {
  EXPECT_EQ(Word("/${F%%.*}/${F#*.}/${F//a/b}"), "/a/tar.gz/b.tbr.gz");
  EXPECT_EQ(Word("${F%.*} ${F##*.} ${F#x}"), "a.tar gz a.tar.gz");
  EXPECT_EQ(Word("${F/t?r/X} ${F/a*r/X}"), "a.X.gz X.gz");
  EXPECT_EQ(Word("${S/\\*/-}"), "a-b");
  EXPECT_EQ(Word("${F/\\//x}"), "a.tar.gz");
  EXPECT_EQ(Word("${F/a}"), "! failed to process \"${F/a}\": syntax error: missing '/' in ${}");
}

TEST(DockerfileWordsTest, MalformedSubstitutions) {
  EXPECT_EQ(Word("${A:=w}"),
            "! failed to process \"${A:=w}\": unsupported modifier (:=) in substitution");
  EXPECT_EQ(Word("${A"), "! failed to process \"${A\": syntax error: missing '}'");
  EXPECT_EQ(Word("${}"), "! failed to process \"${}\": syntax error: bad substitution");
  EXPECT_EQ(Word("${:x}"), "! failed to process \"${:x}\": syntax error: bad substitution");
  EXPECT_EQ(Word("${{"), "! failed to process \"${{\": syntax error: bad substitution");
}

TEST(DockerfileWordsTest, OnlyManyWordsSplitWhatAVariableBrought) {
  EXPECT_EQ(*ExpandWords("$P \"$P\" z", '\\', Find),
            (std::vector<std::string>{"x", "y", "x  y", "z"}));
  EXPECT_EQ(Word("$P"), "x  y");
}

TEST(DockerfileWordsTest, HeredocsKeepTheirQuotes) {
  EXPECT_EQ(*ExpandHeredoc("$A \"$A\" \\$A a\\tb 'x' \\\\\n", Find), "a \"a\" $A atb 'x' \\\n");
}

TEST(DockerfileWordsTest, NestingAndCostAreBounded) {
  std::string nested;
  for (int i = 0; i < 200; ++i) nested += "${X:-";
  EXPECT_NE(Word(nested).find("too many nested"), std::string::npos);
  const std::string value(200'000, 'a');
  const Lookup lookup = [&](absl::string_view) { return absl::optional<std::string>(value); };
  EXPECT_FALSE(ExpandWord("${V//*a*a*a*b/x}", '\\', lookup).ok());
}

}  // namespace
}  // namespace gantry::build
