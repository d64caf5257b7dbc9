#include "ctl/compose/yaml_reader.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::compose {
namespace {

using ::testing::HasSubstr;

Node Read(const std::string& text) {
  absl::StatusOr<std::vector<Node>> documents = ReadYaml(text, "f.yaml");
  EXPECT_TRUE(documents.ok()) << documents.status();
  return documents.ok() && !documents->empty() ? (*documents)[0] : Node();
}

std::string Error(const std::string& text) {
  return std::string(ReadYaml(text, "f.yaml").status().message());
}

TEST(YamlReaderTest, ScalarsAreWhatTheyLookLike) {
  const Node map = Read(
      "a: 1\nb: \"1\"\nc: true\nd: yes\ne: null\nf:\ng: 1.5\nh: 22:22\ni: 0x1f\nj: '~'\nk: -3\n");
  EXPECT_EQ(map.Find("a")->kind, Node::Kind::kNumber);
  EXPECT_EQ(map.Find("b")->kind, Node::Kind::kString);
  EXPECT_EQ(map.Find("c")->kind, Node::Kind::kBool);
  EXPECT_EQ(map.Find("d")->kind, Node::Kind::kString);
  EXPECT_EQ(map.Find("e")->kind, Node::Kind::kNull);
  EXPECT_EQ(map.Find("f")->kind, Node::Kind::kNull);
  EXPECT_EQ(map.Find("g")->kind, Node::Kind::kNumber);
  EXPECT_EQ(map.Find("h")->kind, Node::Kind::kString);
  EXPECT_EQ(map.Find("i")->kind, Node::Kind::kNumber);
  EXPECT_EQ(map.Find("j")->kind, Node::Kind::kString);
  EXPECT_EQ(map.Find("k")->kind, Node::Kind::kNumber);
}

TEST(YamlReaderTest, MergeKeysAndAnchors) {
  const Node map = Read(
      "x: &c {restart: always, tty: true}\n"
      "y: &d {tty: false, user: u}\n"
      "web:\n  <<: [*c, *d]\n  image: i\n  restart: no\n");
  const Node* web = map.Find("web");
  EXPECT_EQ(web->TextOf("restart"), "no");
  EXPECT_EQ(web->TextOf("tty"), "true");  // the first that is merged
  EXPECT_EQ(web->TextOf("user"), "u");
  EXPECT_EQ(web->TextOf("image"), "i");
}

TEST(YamlReaderTest, TagsOfMergingAreKept) {
  const Node map = Read("a: !reset null\nb: !override [1]\nc: !reset []\n");
  EXPECT_EQ(map.Find("a")->tag, Node::Tag::kReset);
  EXPECT_EQ(map.Find("b")->tag, Node::Tag::kOverride);
  EXPECT_EQ(map.Find("c")->tag, Node::Tag::kReset);
}

TEST(YamlReaderTest, PlacesAreKnown) {
  EXPECT_EQ(Read("a:\n  b: 1\n").Find("a")->Find("b")->at.Text(), "f.yaml:2:3");
}

TEST(YamlReaderTest, MistakesNameTheirLine) {
  EXPECT_THAT(Error("a: 1\nb: [1\n"), HasSubstr("yaml: line"));
  EXPECT_THAT(Error("a: 1\nb: 2\na: 3\n"),
              HasSubstr("f.yaml:3:1: mapping key \"a\" already defined at line 1"));
  EXPECT_THAT(Error("- 1\n"), HasSubstr("top-level object must be a mapping"));
  EXPECT_THAT(Error("services:\n  123: {}\n"), HasSubstr("non-string key in services"));
  EXPECT_THAT(Error("a: *none\n"), HasSubstr("yaml: line 1"));
  EXPECT_THAT(Error("a:\n  <<: 5\n"), HasSubstr("needs a mapping"));
}

// yaml-cpp reads such a text as documents without end.
TEST(YamlReaderTest, CommaWhereADocumentBeginsEnds) {
  EXPECT_TRUE(absl::IsResourceExhausted(ReadYaml(", 90]\n    a: [b]\nc: 1\n", "f").status()));
}

TEST(YamlReaderTest, BombsAndDepthsEndEarly) {
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i) {
    absl::StrAppend(&bomb, "a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) absl::StrAppend(&bomb, j ? "," : "", "*a", i - 1);
    bomb += "]\n";
  }
  EXPECT_TRUE(absl::IsResourceExhausted(ReadYaml(bomb, "f").status()));
  EXPECT_FALSE(ReadYaml("a: " + std::string(5000, '[') + std::string(5000, ']'), "f").ok());
  EXPECT_FALSE(ReadYaml("a: " + std::string(200, '[') + std::string(200, ']'), "f").ok());
  EXPECT_TRUE(
      absl::IsResourceExhausted(ReadYaml("a: " + std::string(10 << 20, 'x'), "f").status()));
  EXPECT_FALSE(ReadYaml("a: &a [*a]\n", "f").ok());
}

TEST(YamlReaderTest, BytesThatAreNoUtf8AreRefused) {
  EXPECT_EQ(ReadYaml("a: b\nc: \xff\xff\n", "f.yaml").status().message(),
            "f.yaml:2: yaml: a byte that is not UTF-8; save the file as UTF-8");
}

}  // namespace
}  // namespace gantry::compose
