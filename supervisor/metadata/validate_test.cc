#include "supervisor/metadata/validate.h"

#include <string>

#include "gtest/gtest.h"

namespace gantry::metadata {
namespace {

TEST(ValidateIdentifierTest, AcceptsWordsWithSingleSeparators) {
  for (const char* text :
       {"a", "default", "k8s.io", "plugins.moby", "a-b_c.d", "0", "A9",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345"}) {
    EXPECT_TRUE(ValidateIdentifier("namespace", text).ok()) << text;
  }
}

TEST(ValidateIdentifierTest, RefusesWhatContainerdRefuses) {
  const std::string with_nul("a\0b", 3);
  const std::string long_text(77, 'a');
  const std::string very_long(4096, 'a');
  for (const std::string& text :
       {std::string(), std::string("-a"), std::string("a-"), std::string("a..b"),
        std::string("a/b"), std::string(".."), std::string("a b"), std::string("\xc3\xa4"),
        with_nul, long_text, very_long}) {
    const absl::Status status = ValidateIdentifier("container id", text);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_NE(status.message().find("container id"), absl::string_view::npos);
    EXPECT_LT(status.message().size(), 300u);
  }
}

TEST(ValidateNameTest, AllowsSpacesAndSlashesButNoNul) {
  EXPECT_TRUE(ValidateName("snapshot key", "extract-1-a sha256:00/..").ok());
  EXPECT_TRUE(ValidateName("snapshot key", std::string(4096, 'x')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateName("snapshot key", std::string(4097, 'x'))));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateName("snapshot key", std::string("a\0b", 3))));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateName("snapshot key", "")));
}

TEST(ValidateLabelTest, KeyAndValueShareTheLimit) {
  EXPECT_TRUE(ValidateLabel("key", std::string(4093, 'v')).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateLabel("key", std::string(4094, 'v'))));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateLabel("", "v")));
}

TEST(ApplyLabelUpdateTest, WithoutFieldsReplacesAll) {
  LabelMap labels = {{"old", "1"}};
  ASSERT_TRUE(ApplyLabelUpdate("image", {{"new", "2"}, {"empty", ""}}, {}, labels).ok());
  EXPECT_EQ(labels, (LabelMap{{"new", "2"}}));
}

TEST(ApplyLabelUpdateTest, FieldNamesOneKeyWithAllItsDotsAndSlashes) {
  LabelMap labels = {{"keep", "1"}, {"containerd.io/gc.ref/x", "old"}};
  ASSERT_TRUE(ApplyLabelUpdate("image", {{"containerd.io/gc.ref/x", "new"}, {"ignored", "3"}},
                               {"labels.containerd.io/gc.ref/x"}, labels)
                  .ok());
  EXPECT_EQ(labels, (LabelMap{{"keep", "1"}, {"containerd.io/gc.ref/x", "new"}}));
}

TEST(ApplyLabelUpdateTest, AbsentOrEmptyValueRemoves) {
  LabelMap labels = {{"a", "1"}, {"b", "2"}, {"c", "3"}};
  ASSERT_TRUE(ApplyLabelUpdate("image", {{"b", ""}}, {"labels.a", "labels.b"}, labels).ok());
  EXPECT_EQ(labels, (LabelMap{{"c", "3"}}));
}

TEST(ApplyLabelUpdateTest, UnknownFieldChangesNothing) {
  LabelMap labels = {{"a", "1"}};
  EXPECT_TRUE(absl::IsInvalidArgument(
      ApplyLabelUpdate("image", {{"a", "2"}}, {"labels.a", "size"}, labels)));
  EXPECT_TRUE(
      absl::IsInvalidArgument(ApplyLabelUpdate("image", {{"a", "2"}}, {"labels."}, labels)));
  EXPECT_EQ(labels, (LabelMap{{"a", "1"}}));
}

TEST(ApplyLabelUpdateTest, OversizedLabelChangesNothing) {
  LabelMap labels = {{"a", "1"}};
  EXPECT_TRUE(absl::IsInvalidArgument(
      ApplyLabelUpdate("image", {{"b", std::string(5000, 'x')}}, {}, labels)));
  EXPECT_EQ(labels, (LabelMap{{"a", "1"}}));
}

}  // namespace
}  // namespace gantry::metadata
