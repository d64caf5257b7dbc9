#include "ctl/compose/print_yaml.h"

#include "gtest/gtest.h"

#include "ctl/compose/present.h"
#include "ctl/compose/yaml_reader.h"

namespace gantry::compose {
namespace {

std::string Shown(const std::string& text) {
  Node map = Node::Map();
  map.Set("k", Node::String(text));
  std::string yaml = PrintYaml(map);
  return yaml.substr(3, yaml.size() - 4);
}

TEST(PrintYamlTest, TextThatReadsAsSomethingElseIsQuoted) {
  for (const char* text : {"yes", "Off", "N", "true", "null", "12", "0x1F", "0o17", "1_000", "1e3",
                           ".5", "22:22", "2001-01-01", ".inf", "+1"})
    EXPECT_EQ(Shown(text), std::string("\"") + text + "\"");
  for (const char* text : {"b", "1.2.3", "8080:80", "-a", "a#b", "it's", "v1", "no-way", "1:2:x"})
    EXPECT_EQ(Shown(text), text);
}

TEST(PrintYamlTest, IndicatorsAreQuoted) {
  EXPECT_EQ(Shown("a: b"), "'a: b'");
  EXPECT_EQ(Shown("a #b"), "'a #b'");
  EXPECT_EQ(Shown("*a"), "'*a'");
  EXPECT_EQ(Shown("---"), "'---'");
  EXPECT_EQ(Shown(" a"), "' a'");
  EXPECT_EQ(Shown("'a': b"), "'''a'': b'");
  EXPECT_EQ(Shown("a\tb"), "\"a\\tb\"");
  EXPECT_EQ(Shown("a\x01z"), "\"a\\x01z\"");
  EXPECT_EQ(Shown(""), "\"\"");
}

TEST(PrintYamlTest, LinesAreLiteral) {
  EXPECT_EQ(Shown("a\nb"), "|-\n  a\n  b");
  EXPECT_EQ(Shown("a\n\nb\n"), "|\n  a\n\n  b");
  EXPECT_EQ(Shown("a\n\n"), "|+\n  a\n");
  EXPECT_EQ(Shown(" a\nb"), "|2-\n   a\n  b");
  EXPECT_EQ(Shown("a \nb"), "\"a \\nb\"");
}

// Values of env files may hold any bytes.
TEST(PrintYamlTest, BytesThatAreNoUtf8AreEscaped) {
  EXPECT_EQ(Shown("a\xff"), "\"a\\xFF\"");
  EXPECT_EQ(Shown("\xf0\x9f\x98\x80"), "\"\\U0001F600\"");
  EXPECT_EQ(Shown("\xe2\x98\x83"), "\xe2\x98\x83");
}

TEST(PrintYamlTest, DollarsAreDoubled) { EXPECT_EQ(Shown("a$b"), "a$$b"); }

// What is printed reads back as the same values.
TEST(PrintYamlTest, ReadsBack) {
  Node list = Node::List();
  for (const char* text :
       {"",   "\n", "\n\n", " \n",     "a\nb ",      "\t\n", "\\",    "\"",  "'",      "# a", "- ",
        "? ", ": ", "a:",   "a: b\nc", "\xc3\xbc\n", "{}",   "[]",    "!a",  "&a",     "|",   ">",
        "%",  "@",  "`",    "~",       "0",          "-",    "--- a", "...", "a\r\nb", "\x7f"})
    list.Append(Node::String(text));
  Node map = Node::Map();
  map.Set("list", list);
  const auto read = ReadYaml(PrintYaml(map, {.escape_dollars = false}), "x");
  ASSERT_TRUE(read.ok()) << read.status();
  const Node* back = (*read)[0].Find("list");
  ASSERT_NE(back, nullptr);
  ASSERT_EQ(back->items.size(), list.items.size());
  for (size_t i = 0; i < list.items.size(); ++i) EXPECT_EQ(back->items[i].text, list.items[i].text);
}

TEST(PresentTest, SortsNumbersByTheirValue) {
  EXPECT_TRUE(NaturalLess("web2", "web10"));
  EXPECT_FALSE(NaturalLess("web10", "web2"));
  EXPECT_TRUE(NaturalLess("a", "ab"));
  EXPECT_TRUE(NaturalLess("a-b", "ab"));
  EXPECT_FALSE(NaturalLess("a", "a"));
}

TEST(PresentTest, KeysHaveTheirOrderAndDefaultsAreLeftOut) {
  const auto read = ReadYaml(
      "user: '0'\nprivileged: false\nimage: x\ninit: false\nlabels: {b: '1', a: ''}\n"
      "ports: []\ncommand: []\nx-a: 1\nprofiles: [p]\n",
      "x");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(PrintYaml(Present((*read)[0], "services.web")),
            "profiles:\n  - p\ncommand: []\nimage: x\ninit: false\nlabels:\n  a: \"\"\n"
            "  b: \"1\"\nuser: \"0\"\nx-a: 1\n");
}

}  // namespace
}  // namespace gantry::compose
