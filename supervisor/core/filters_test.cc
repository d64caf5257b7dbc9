#include "supervisor/core/filters.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using Given = google::protobuf::RepeatedPtrField<v1::Filter>;

Given Make(const std::vector<std::pair<std::string, std::string>>& pairs) {
  Given filters;
  for (const auto& [key, value] : pairs) {
    v1::Filter* filter = filters.Add();
    filter->set_key(key);
    filter->set_value(value);
  }
  return filters;
}

google::protobuf::Map<std::string, std::string> Labels() {
  google::protobuf::Map<std::string, std::string> labels;
  labels["tier"] = "web";
  labels["empty"] = "";
  return labels;
}

bool LabelsFit(const std::vector<std::pair<std::string, std::string>>& pairs) {
  return Filters::Parse(Make(pairs), {})->LabelsMatch(Labels());
}

TEST(FiltersTest, UnknownKeyIsRefusedAndTheKnownOnesAreNamed) {
  const absl::Status status = Filters::Parse(Make({{"bogus", "x"}}), {"name"}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("label, label!, name"));
}

TEST(FiltersTest, ValuesOfAKeyAreAlternatives) {
  const Filters filters = *Filters::Parse(Make({{"name", "a"}, {"name", "b"}}), {"name", "id"});
  const auto is_b = [](const std::string& value) { return value == "b"; };
  const auto is_c = [](const std::string& value) { return value == "c"; };
  EXPECT_TRUE(filters.Any("name", is_b));
  EXPECT_FALSE(filters.Any("name", is_c));
  EXPECT_TRUE(filters.Any("id", is_c));  // not given
  EXPECT_TRUE(filters.Has("name"));
  EXPECT_FALSE(filters.Has("id"));
}

TEST(FiltersTest, LabelsMustAllFit) {
  EXPECT_TRUE(LabelsFit({}));
  EXPECT_TRUE(LabelsFit({{"label", "tier"}}));
  EXPECT_TRUE(LabelsFit({{"label", "tier=web"}, {"label", "empty"}}));
  EXPECT_TRUE(LabelsFit({{"label", "empty="}}));
  EXPECT_FALSE(LabelsFit({{"label", "tier=web"}, {"label", "other"}}));
  EXPECT_FALSE(LabelsFit({{"label", "tier=db"}}));
}

TEST(FiltersTest, UnwantedLabelsMustNotFit) {
  EXPECT_FALSE(LabelsFit({{"label!", "tier"}}));
  EXPECT_FALSE(LabelsFit({{"label!", "tier=web"}}));
  EXPECT_TRUE(LabelsFit({{"label!", "tier=db"}}));
  EXPECT_FALSE(LabelsFit({{"label!", "other"}, {"label!", "tier"}}));
}

TEST(FiltersTest, LabelWithoutANameIsRefused) {
  EXPECT_FALSE(Filters::Parse(Make({{"label", ""}}), {}).ok());
  EXPECT_FALSE(Filters::Parse(Make({{"label!", "=x"}}), {}).ok());
}

TEST(ParseMomentTest, AgesDatesAndSeconds) {
  const absl::Time now = absl::FromUnixSeconds(1000000);
  EXPECT_EQ(*ParseMoment("until", "1h30m", now), now - absl::Minutes(90));
  EXPECT_EQ(*ParseMoment("until", "1234.5", now),
            absl::FromUnixSeconds(1234) + absl::Milliseconds(500));
  EXPECT_EQ(*ParseMoment("until", "1970-01-02T00:00:01Z", now), absl::FromUnixSeconds(86401));
  EXPECT_EQ(*ParseMoment("until", "1970-01-02T02:00:01.5+02:00", now),
            absl::FromUnixSeconds(86401) + absl::Milliseconds(500));
  EXPECT_EQ(*ParseMoment("until", "1970-01-02T00:00:01", now), absl::FromUnixSeconds(86401));
  EXPECT_EQ(*ParseMoment("until", "1970-01-02", now), absl::FromUnixSeconds(86400));
}

TEST(ParseMomentTest, AnythingElseNamesTheKey) {
  const absl::Status status = ParseMoment("until", "yesterday", absl::UnixEpoch()).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("filter until"));
}

TEST(IsAncestorTest, NamesWithAndWithoutRegistryAndTag) {
  constexpr char kId[] = "sha256:0123456789abcdef";
  constexpr char kName[] = "docker.io/library/debian:12";
  EXPECT_TRUE(IsAncestor("debian:12", kName, kId));
  EXPECT_TRUE(IsAncestor("library/debian:12", kName, kId));
  EXPECT_TRUE(IsAncestor(kName, kName, kId));
  EXPECT_FALSE(IsAncestor("debian", kName, kId));
  EXPECT_FALSE(IsAncestor("ebian:12", kName, kId));
  EXPECT_TRUE(IsAncestor("debian", "docker.io/library/debian:latest", kId));
  EXPECT_TRUE(IsAncestor("debian:latest", "debian", kId));
  EXPECT_TRUE(IsAncestor("host:5000/debian", "host:5000/debian:latest", kId));
}

TEST(IsAncestorTest, BeginningsOfIds) {
  EXPECT_TRUE(IsAncestor("0123", "x", "sha256:0123456789abcdef"));
  EXPECT_TRUE(IsAncestor("sha256:0123", "x", "sha256:0123456789abcdef"));
  EXPECT_FALSE(IsAncestor("1234", "x", "sha256:0123456789abcdef"));
  EXPECT_FALSE(IsAncestor("", "x", "sha256:0123456789abcdef"));
}

}  // namespace
}  // namespace gantry::core
