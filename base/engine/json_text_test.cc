#include "base/engine/json_text.h"

#include <cstdint>
#include <map>
#include <string>

#include "gtest/gtest.h"

namespace gantry::engine {
namespace {

TEST(JsonTextTest, SeparatesWhatFollowsSomething) {
  std::string out = "x";
  JsonText json(&out);
  json.OpenObject();
  json.Field("a", "1");
  json.Key("list");
  json.OpenList();
  json.OpenObject();
  json.CloseObject();
  json.OpenList();
  json.CloseList();
  json.Number(int64_t{-7});
  json.Bool(true);
  json.Bool(false);
  json.Null();
  json.Json("{\"k\":0}");
  json.CloseList();
  json.Null("n");
  json.Number("i", INT64_MAX);
  json.Key("m");
  json.StringMap(std::map<std::string, std::string>{{"b", "2"}, {"a", "1"}});
  json.Key("e");
  json.StringMap(std::map<std::string, std::string>());
  json.CloseObject();
  EXPECT_EQ(out,
            "x{\"a\":\"1\",\"list\":[{},[],-7,true,false,null,{\"k\":0}],\"n\":null,"
            "\"i\":9223372036854775807,\"m\":{\"a\":\"1\",\"b\":\"2\"},\"e\":{}}");
}

TEST(JsonTextTest, QuotesWhatJsonDoesNotTakeAsItIs) {
  std::string out;
  AppendJsonQuoted(std::string("\"\\\n\r\t\0\x1f /\x7f", 10), &out);
  EXPECT_EQ(out, "\"\\\"\\\\\\n\\r\\t\\u0000\\u001f /\x7f\"");
  out.clear();
  AppendJsonQuoted("", &out);
  EXPECT_EQ(out, "\"\"");
  out.clear();
  JsonText json(&out);
  json.OpenObject();
  json.Field("a\"b", "c\nd");
  json.CloseObject();
  EXPECT_EQ(out, "{\"a\\\"b\":\"c\\nd\"}");
}

}  // namespace
}  // namespace gantry::engine
