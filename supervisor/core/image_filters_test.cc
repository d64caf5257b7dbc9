#include "supervisor/core/image_filters.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1000000);

absl::StatusOr<ImageFilters> Parse(const std::vector<std::pair<std::string, std::string>>& pairs) {
  google::protobuf::RepeatedPtrField<v1::Filter> filters;
  for (const auto& [key, value] : pairs) {
    v1::Filter* filter = filters.Add();
    filter->set_key(key);
    filter->set_value(value);
  }
  return ImageFilters::Parse(filters, kNow, [](const std::string& image) {
    return image == "ref" ? absl::StatusOr<absl::Time>(absl::FromUnixSeconds(500))
                          : absl::NotFoundError(absl::StrCat("no such image: ", image));
  });
}

v1::ImageSummary Image(const std::vector<std::string>& tags, int64_t created_seconds = 0) {
  v1::ImageSummary image;
  for (const std::string& tag : tags) image.add_repo_tags(tag);
  if (!tags.empty()) image.add_repo_digests("bb@sha256:1");
  image.mutable_created_at()->set_seconds(created_seconds);
  (*image.mutable_labels())["tier"] = "front";
  return image;
}

bool Takes(const std::vector<std::pair<std::string, std::string>>& filters,
           v1::ImageSummary image) {
  absl::StatusOr<ImageFilters> parsed = Parse(filters);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed->Take(image);
}

TEST(ImageFiltersTest, WhatIsNotKnownIsRefusedBeforeAnyImage) {
  EXPECT_THAT(std::string(Parse({{"bogus", "x"}}).status().message()), HasSubstr("bogus"));
  EXPECT_THAT(std::string(Parse({{"dangling", "maybe"}}).status().message()), HasSubstr("maybe"));
  EXPECT_THAT(std::string(Parse({{"until", "soon"}}).status().message()), HasSubstr("soon"));
  EXPECT_EQ(Parse({{"since", "gone"}}).status().code(), absl::StatusCode::kNotFound);
}

TEST(ImageFiltersTest, AReferenceLeavesOnlyNamesThatFit) {
  v1::ImageSummary image = Image({"bb:one", "bb:two", "x/y:1"});
  ASSERT_TRUE(Parse({{"reference", "bb:two"}})->Take(image));
  EXPECT_THAT(image.repo_tags(), ElementsAre("bb:two"));
  EXPECT_THAT(image.repo_digests(), ElementsAre("bb@sha256:1"));

  image = Image({"bb:one", "bb:two", "x/y:1"});
  ASSERT_TRUE(Parse({{"reference", "x/*"}})->Take(image));
  EXPECT_THAT(image.repo_tags(), ElementsAre("x/y:1"));
  EXPECT_THAT(image.repo_digests(), ElementsAre());

  image = Image({"bb:one", "bb:two", "x/y:1"});
  ASSERT_TRUE(Parse({{"reference", "bb"}, {"reference", "x/y"}})->Take(image));
  EXPECT_THAT(image.repo_tags(), ElementsAre("bb:one", "bb:two", "x/y:1"));

  EXPECT_FALSE(Takes({{"reference", "b"}}, Image({"bb:one"})));
  EXPECT_FALSE(Takes({{"reference", "*"}}, Image({})));
  EXPECT_TRUE(Takes({{"reference", "host:5000/*"}}, Image({"host:5000/x:1"})));
}

TEST(ImageFiltersTest, AllLabelsMustHold) {
  EXPECT_TRUE(Takes({{"label", "tier"}}, Image({"bb:one"})));
  EXPECT_TRUE(Takes({{"label", "tier=front"}}, Image({"bb:one"})));
  EXPECT_FALSE(Takes({{"label", "tier=back"}}, Image({"bb:one"})));
  EXPECT_FALSE(Takes({{"label", "tier"}, {"label", "other"}}, Image({"bb:one"})));
  EXPECT_FALSE(Takes({{"label!", "tier"}}, Image({"bb:one"})));
  EXPECT_TRUE(Takes({{"label!", "tier=back"}}, Image({"bb:one"})));
  EXPECT_THAT(std::string(Parse({{"label", "=x"}}).status().message()), HasSubstr("=x"));
}

TEST(ImageFiltersTest, DanglingMeansWithoutTag) {
  EXPECT_TRUE(Takes({{"dangling", "true"}}, Image({})));
  EXPECT_FALSE(Takes({{"dangling", "1"}}, Image({"bb:one"})));
  EXPECT_TRUE(Takes({{"dangling", "false"}}, Image({"bb:one"})));
}

TEST(ImageFiltersTest, TimesAreCompared) {
  EXPECT_TRUE(Takes({{"before", "ref"}}, Image({"bb:one"}, 499)));
  EXPECT_FALSE(Takes({{"before", "ref"}}, Image({"bb:one"}, 500)));
  EXPECT_TRUE(Takes({{"since", "ref"}}, Image({"bb:one"}, 501)));
  EXPECT_FALSE(Takes({{"since", "ref"}}, Image({"bb:one"}, 500)));
  EXPECT_TRUE(Takes({{"until", "1h"}}, Image({"bb:one"}, 1000000 - 3601)));
  EXPECT_FALSE(Takes({{"until", "1h"}}, Image({"bb:one"}, 1000000 - 3599)));
  EXPECT_FALSE(Takes({{"until", "1h"}, {"since", "ref"}}, Image({"bb:one"}, 400)));
  // The same moments as for containers: a date, seconds since 1970.
  EXPECT_TRUE(Takes({{"until", "1970-01-02"}}, Image({"bb:one"}, 86399)));
  EXPECT_FALSE(Takes({{"until", "86400"}}, Image({"bb:one"}, 86401)));
}

}  // namespace
}  // namespace gantry::core
