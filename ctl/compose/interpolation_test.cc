#include "ctl/compose/interpolation.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::compose {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class InterpolationTest : public testing::Test {
 protected:
  absl::StatusOr<std::string> Expand(const std::string& text) {
    return Interpolate(
        text,
        [this](const std::string& name) -> std::optional<std::string> {
          const auto found = variables_.find(name);
          return found == variables_.end() ? std::nullopt : std::optional(found->second);
        },
        [this](const std::string& name) { unset_.push_back(name); });
  }

  std::map<std::string, std::string> variables_{{"A", "a"}, {"EMPTY", ""}};
  std::vector<std::string> unset_;
};

TEST_F(InterpolationTest, FormsOfTheSpecification) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"$A", "a"},
      {"x${A}y", "xay"},
      {"${A:-d}", "a"},
      {"${B:-d}", "d"},
      {"${B-d}", "d"},
      {"${EMPTY:-d}", "d"},
      {"${EMPTY-d}", ""},
      {"${A:+y}", "y"},
      {"${EMPTY:+y}", ""},
      {"${EMPTY+y}", "y"},
      {"${B+y}", ""},
      {"${B:-${C:-c}}", "c"},
      {"${B:-x${A}}", "xa"},
      {"$$5", "$5"},
      {"$${A}", "${A}"},
      {"${A:?must}", "a"},
      {"no variables", "no variables"},
  };
  for (const auto& [text, expected] : cases) {
    const absl::StatusOr<std::string> got = Expand(text);
    ASSERT_TRUE(got.ok()) << text << ": " << got.status();
    EXPECT_EQ(*got, expected) << text;
  }
  EXPECT_THAT(unset_, ElementsAre());
}

TEST_F(InterpolationTest, UnsetVariableIsBlankAndSaid) {
  EXPECT_EQ(Expand("[${B}]").value(), "[]");
  EXPECT_THAT(unset_, ElementsAre("B"));
}

TEST_F(InterpolationTest, RequiredVariableThatIsMissingIsNamed) {
  const absl::Status status = Expand("${B:?say a password}").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(status.message(), "required variable B is missing a value: say a password");
  EXPECT_TRUE(absl::IsFailedPrecondition(Expand("${EMPTY:?}").status()));
  EXPECT_TRUE(Expand("${EMPTY?}").ok());
}

TEST_F(InterpolationTest, OtherFormsAreRefused) {
  for (const char* text :
       {"$", "a$ b", "${", "${}", "${1}", "${A", "${A/b/c}", "${#A}", "${A:}", "${A:=d}", "$-"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Expand(text).status())) << text;
  }
}

TEST_F(InterpolationTest, NestingAndGrowthAreBounded) {
  std::string deep;
  for (int i = 0; i < 50; ++i) deep += "${X:-";
  deep += std::string(50, '}');
  EXPECT_FALSE(Expand(deep).ok());
  variables_["BIG"] = std::string(100'000, 'x');
  std::string wide;
  for (int i = 0; i < 20; ++i) wide += "${BIG}";
  EXPECT_TRUE(absl::IsResourceExhausted(Expand(wide).status()));
}

}  // namespace
}  // namespace gantry::compose
