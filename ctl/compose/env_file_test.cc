#include "ctl/compose/env_file.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::compose {
namespace {

using ::testing::HasSubstr;

class EnvFileTest : public testing::Test {
 protected:
  absl::StatusOr<std::map<std::string, std::string>> Parse(const std::string& text) {
    const absl::StatusOr<std::vector<EnvEntry>> entries =
        ParseEnvFile(text, lookup_, [](const std::string&) {});
    if (!entries.ok()) return entries.status();
    std::map<std::string, std::string> out;
    for (const EnvEntry& entry : *entries) out[entry.key] = entry.value.value_or("(none)");
    return out;
  }

  std::map<std::string, std::string> environment_{{"HOST", "h"}};
  const Lookup lookup_ = [this](const std::string& name) -> std::optional<std::string> {
    const auto found = environment_.find(name);
    return found == environment_.end() ? std::nullopt : std::optional(found->second);
  };
};

TEST_F(EnvFileTest, LinesOfAllKinds) {
  const auto got = Parse(
      "\xef\xbb\xbf# comment\n"
      "PLAIN=a # comment\n"
      "HASH=a#c\n"
      "export EXPORTED=e\n"
      "COLON: c\n"
      "EMPTY=\n"
      "HOST\n"
      "NOWHERE\n"
      "SINGLE='a$b'\n"
      "DOUBLE=\"a\\tb\"\n"
      "LINES=\"one\ntwo\"\n"
      "REF=${PLAIN}-$HOST\n"
      "DOLLARS=\"\\$x $$y\"\n"
      "QUOTE='it\\'s'\n");
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->at("PLAIN"), "a");
  EXPECT_EQ(got->at("HASH"), "a#c");
  EXPECT_EQ(got->at("EXPORTED"), "e");
  EXPECT_EQ(got->at("COLON"), "c");
  EXPECT_EQ(got->at("EMPTY"), "");
  EXPECT_EQ(got->at("HOST"), "h");
  EXPECT_EQ(got->at("NOWHERE"), "(none)");
  EXPECT_EQ(got->at("SINGLE"), "a$b");
  EXPECT_EQ(got->at("DOUBLE"), "a\tb");
  EXPECT_EQ(got->at("LINES"), "one\ntwo");
  EXPECT_EQ(got->at("REF"), "a-h");
  EXPECT_EQ(got->at("DOLLARS"), "$x $y");
  EXPECT_EQ(got->at("QUOTE"), "it's");
}

TEST_F(EnvFileTest, EnvironmentWinsOverEarlierLines) {
  EXPECT_EQ(Parse("HOST=file\nX=$HOST\n")->at("X"), "h");
}

TEST_F(EnvFileTest, MistakesNameTheirLine) {
  EXPECT_THAT(Parse("A=1\nB C=2\n").status().message(),
              HasSubstr("line 2: key cannot contain a space"));
  EXPECT_THAT(Parse("A=\"open\n").status().message(),
              HasSubstr("line 1: unterminated quoted value"));
  EXPECT_THAT(Parse("A=1\n\nA+B=2\n").status().message(),
              HasSubstr("line 3: unexpected character \"+\" in variable name"));
  EXPECT_THAT(Parse("=x\n").status().message(), HasSubstr("line 1: a name is missing"));
}

TEST_F(EnvFileTest, RawFormatKeepsEverything) {
  const auto entries = ParseRawEnvFile("# c\nA=\"x\" # y\nHOST\nB=$C\n", lookup_);
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ(*(*entries)[0].value, "\"x\" # y");
  EXPECT_EQ(*(*entries)[1].value, "h");
  EXPECT_EQ(*(*entries)[2].value, "$C");
  EXPECT_FALSE(ParseRawEnvFile("A B=1\n", lookup_).ok());
}

}  // namespace
}  // namespace gantry::compose
