#include "base/engine/ignore_file.h"

#include <gtest/gtest.h>

#include <string>

namespace gantry::engine {
namespace {

IgnoreRules Rules(absl::string_view text) {
  absl::StatusOr<IgnoreRules> rules = IgnoreRules::Parse(text);
  EXPECT_TRUE(rules.ok()) << rules.status();
  return rules.ok() ? *std::move(rules) : IgnoreRules();
}

TEST(IgnoreRulesTest, TheLastRuleThatMatchesDecides) {
  const IgnoreRules rules = Rules("*\n!s\ns/*.o\n");
  EXPECT_TRUE(rules.Ignores("a"));
  EXPECT_FALSE(rules.Ignores("s"));
  EXPECT_FALSE(rules.Ignores("s/main.c"));
  EXPECT_TRUE(rules.Ignores("s/main.o"));
}

TEST(IgnoreRulesTest, TwoStarsAreAnyNumberOfFolders) {
  const IgnoreRules below = Rules("a/**");
  EXPECT_FALSE(below.Ignores("a"));
  EXPECT_TRUE(below.Ignores("a/b"));
  EXPECT_TRUE(below.Ignores("a/b/c"));
  const IgnoreRules anywhere = Rules("**/b");
  EXPECT_TRUE(anywhere.Ignores("b"));
  EXPECT_TRUE(anywhere.Ignores("x/b"));
  EXPECT_TRUE(anywhere.Ignores("x/y/b/z"));
  EXPECT_FALSE(anywhere.Ignores("x/ab"));
  EXPECT_TRUE(Rules("**").Ignores("x"));
  EXPECT_TRUE(Rules("x/**/y").Ignores("x/y"));
  EXPECT_TRUE(Rules("x/**/y").Ignores("x/1/2/y"));
}

TEST(IgnoreRulesTest, ALineThatBeginsWithABlankIsNoComment) {
  const IgnoreRules rules = Rules("# note\n #x\n");
  EXPECT_TRUE(rules.Ignores("#x"));
  EXPECT_FALSE(rules.Ignores("# note"));
}

TEST(IgnoreRulesTest, PathsAreCleaned) {
  EXPECT_TRUE(Rules("./a/../b/\n").Ignores("b"));
  EXPECT_TRUE(Rules("/b\n").Ignores("b"));
  EXPECT_TRUE(Rules("\xef\xbb\xbf"
                    "b\r\n")
                  .Ignores("b"));
  EXPECT_FALSE(Rules("/\n.\n").Ignores("b"));
}

TEST(IgnoreRulesTest, SetsAndEscapes) {
  EXPECT_TRUE(Rules("[a-c]?").Ignores("bx"));
  EXPECT_FALSE(Rules("[^a-c]").Ignores("b"));
  EXPECT_TRUE(Rules("\\*").Ignores("*"));
  EXPECT_FALSE(Rules("\\*").Ignores("x"));
}

TEST(IgnoreRulesTest, MalformedRulesNameTheirLine) {
  EXPECT_EQ(IgnoreRules::Parse("a\n!\n").status().message(),
            "line 2: illegal exclusion pattern: \"!\"");
  EXPECT_EQ(IgnoreRules::Parse("[a").status().message(), "line 1: syntax error in pattern \"[a\"");
}

TEST(IgnoreRulesTest, AnIgnoredFolderIsReadWhereARuleTakesSomethingBelow) {
  const IgnoreRules rules = Rules("*\n!docs/*.md\n");
  EXPECT_TRUE(rules.MayContainTaken("docs"));
  EXPECT_FALSE(rules.MayContainTaken("source"));
  EXPECT_TRUE(Rules("*\n!**/keep\n").MayContainTaken("source"));
}

TEST(PathPatternTest, ManyStarsStayCheap) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "*a";
  absl::StatusOr<PathPattern> parsed =
      PathPattern::Parse(pattern + "b", PathPattern::Wildcards::kPlain);
  ASSERT_TRUE(parsed.ok());
  EXPECT_FALSE(parsed->Matches(std::string(2000, 'a')));
}

}  // namespace
}  // namespace gantry::engine
