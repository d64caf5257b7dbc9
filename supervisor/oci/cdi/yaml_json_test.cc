#include "supervisor/oci/cdi/yaml_json.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace gantry::oci::cdi {
namespace {

using nlohmann::json;

TEST(ParseYamlTest, ScalarsAreOfTheTypeTheyLookLike) {
  const absl::StatusOr<json> read = ParseYaml(
      "a: 12\nb: -3\nc: \"12\"\nd: true\ne: yes\nf: 0666\ng: 0x1f\nh: 1.5\ni: ~\nj: 22:22\n"
      "k: 18446744073709551615\nl: 08\nm: v1.0\n",
      "x.yaml");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, json::parse(R"({"a":12,"b":-3,"c":"12","d":true,"e":"yes","f":438,"g":31,
                                   "h":1.5,"i":null,"j":"22:22","k":18446744073709551615,"l":8,
                                   "m":"v1.0"})"));
}

TEST(ParseYamlTest, ListsAndMapsInBothStyles) {
  const absl::StatusOr<json> read =
      ParseYaml("a:\n- {b: [1, 2], c: d}\n- - x\n  - y\ne: {}\n", "x.yaml");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, json::parse(R"({"a":[{"b":[1,2],"c":"d"},["x","y"]],"e":{}})"));
}

TEST(ParseYamlTest, JsonIsYaml) {
  const absl::StatusOr<json> read = ParseYaml(R"({"a": ["b", 1, null]})", "x.yaml");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, json::parse(R"({"a":["b",1,null]})"));
}

TEST(ParseYamlTest, AnAliasIsRefusedWithItsLine) {
  const absl::Status status = ParseYaml("a: &x [1]\nb: *x\n", "x.yaml").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "x.yaml:2: an alias")) << status;
}

TEST(ParseYamlTest, AKeyTwiceIsRefused) {
  EXPECT_EQ(ParseYaml("a: 1\na: 2\n", "x").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ParseYamlTest, OneDocumentOnly) {
  EXPECT_EQ(ParseYaml("a: 1\n---\nb: 2\n", "x").status().code(),
            absl::StatusCode::kInvalidArgument);
}

// yaml-cpp finds empty documents in this for ever.
TEST(ParseYamlTest, ATextWithoutEndEnds) { EXPECT_FALSE(ParseYaml("a: 1\n, \n", "x").ok()); }

TEST(ParseYamlTest, DepthAndNumberOfValuesAreBounded) {
  EXPECT_EQ(ParseYaml(std::string(200, '[') + std::string(200, ']'), "x").status().code(),
            absl::StatusCode::kResourceExhausted);
  std::string wide = "a: [";
  for (int i = 0; i < 60000; ++i) wide += "1,";
  EXPECT_EQ(ParseYaml(wide + "1]", "x").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ParseYaml(std::string(2 << 20, ' '), "x").status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ParseYamlTest, BytesThatAreNoUtf8AreRefused) {
  EXPECT_FALSE(ParseYaml("a: \xff\xfe", "x").ok());
}

}  // namespace
}  // namespace gantry::oci::cdi
