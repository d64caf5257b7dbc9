#include "base/engine/value.h"

#include <gtest/gtest.h>

namespace gantry::engine {
namespace {

TEST(ValueTest, JsonKeepsTheOrderOfFields) {
  Value value;
  value.Set("zebra", 1).Set("ant", "x").Set("zebra", 2);
  EXPECT_EQ(value.ToJson(), R"({"zebra":2,"ant":"x"})");
}

TEST(ValueTest, PrettyJsonIsDockers) {
  Value value;
  value.Set("Env", Value::Strings({"A=1"})).Set("Empty", Value::EmptyList()).Set("Null", Value());
  EXPECT_EQ(
      value.ToPrettyJson(4),
      "{\n    \"Env\": [\n        \"A=1\"\n    ],\n    \"Empty\": [],\n    \"Null\": null\n}");
}

TEST(ValueTest, QuotesControlCharacters) {
  EXPECT_EQ(JsonQuote("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\n\\u0001\"");
}

TEST(ValueTest, ReadsWhatItWrites) {
  const std::string text =
      R"({"s":"é\n","n":-12,"big":18446744073709551615,"d":1.5,"t":true,"f":false,"z":null,"l":[1,[2]]})";
  const auto value = Value::FromJson(text);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->ToJson(), text);
}

TEST(ValueTest, ReadsUnicodeEscapesWithSurrogates) {
  const auto value = Value::FromJson(R"("\u00e9\ud83d\ude00")");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->string(), "é😀");
}

TEST(ValueTest, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "\"a", "{\"a\":1,}", "-"}) {
    EXPECT_FALSE(Value::FromJson(text).ok()) << text;
  }
}

TEST(ValueTest, RefusesAbsurdNesting) {
  EXPECT_FALSE(Value::FromJson(std::string(100000, '[')).ok());
}

TEST(ValueTest, NothingThatIsReadIsInvalidUtf8) {
  EXPECT_EQ(Value::FromJson("\"caf\xe9\"")->string(), "caf\xef\xbf\xbd");
  EXPECT_FALSE(Value::FromJson(R"("\ud800")").ok());
}

TEST(ValueTest, TheLastOfTwoEqualKeysCounts) {
  EXPECT_EQ(Value::FromJson(R"({"a":1,"b":2,"a":3})")->ToJson(), R"({"a":3,"b":2})");
}

TEST(ValueTest, AKeyThatOccursTwiceCanBeRefused) {
  const auto strict = Value::SameKeys::kRefused;
  EXPECT_EQ(Value::FromJson(R"({"a":{"b":1,"c":2,"b":3}})", strict).status(),
            absl::InvalidArgumentError("JSON: the key \"b\" occurs twice in one object"));
  EXPECT_TRUE(Value::FromJson(R"([{"a":1},{"a":2}])", strict).ok());
}

TEST(ValueTest, ManyFieldsAreReadInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += "\"k" + std::to_string(i) + "\":0,";
  text += "\"last\":1}";
  const auto value = Value::FromJson(text);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->object().fields.size(), 200001u);
}

TEST(ValueTest, TruthIsGos) {
  EXPECT_FALSE(Value().Truth());
  EXPECT_FALSE(Value(0).Truth());
  EXPECT_FALSE(Value("").Truth());
  EXPECT_FALSE(Value::EmptyList().Truth());
  EXPECT_TRUE(Value("x").Truth());
  EXPECT_TRUE(Value(-1).Truth());
}

TEST(ValueTest, TextIsGos) {
  Value map;
  map.Set("a", 1);
  EXPECT_EQ(map.Text(), "map[a:1]");
  EXPECT_EQ(Value::Strings({"x", "y"}).Text(), "[x y]");
  EXPECT_EQ(Value().Text(), "<no value>");
  EXPECT_EQ(Value(0.1).Text(), "0.1");
}

}  // namespace
}  // namespace gantry::engine
