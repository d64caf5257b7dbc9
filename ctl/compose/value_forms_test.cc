#include "ctl/compose/value_forms.h"

#include "gtest/gtest.h"

namespace gantry::compose {
namespace {

// The text of a string in a form, or what is wrong with it.
std::string In(Form form, const std::string& text, Node::Kind kind = Node::Kind::kString) {
  Node node = Node::String(text);
  node.kind = kind;
  const absl::Status status = PutInForm(node, form);
  return status.ok() ? node.text : std::string(status.message());
}

TEST(ValueFormsTest, Sizes) {
  EXPECT_EQ(In(Form::kBytes, "50M"), "52428800");
  EXPECT_EQ(In(Form::kBytes, "1.5g"), "1610612736");
  EXPECT_EQ(In(Form::kBytes, "-1"), "-1");
  EXPECT_EQ(In(Form::kBytes, "much"), "\"much\": expected a size like 512m or 2g");
}

TEST(ValueFormsTest, Durations) {
  EXPECT_EQ(In(Form::kDuration, "90s"), "1m30s");
  EXPECT_EQ(In(Form::kDuration, "3600s"), "1h0m0s");
  EXPECT_EQ(In(Form::kDuration, "1500ms"), "1.5s");
  EXPECT_EQ(In(Form::kDuration, "1500us"), "1.5ms");
  EXPECT_EQ(In(Form::kDuration, "0s"), "0s");
  EXPECT_EQ(In(Form::kDuration, "soon"), "\"soon\": expected a duration like 90s or 1m30s");
}

TEST(ValueFormsTest, Numbers) {
  EXPECT_EQ(In(Form::kInteger, "010"), "8");
  EXPECT_EQ(In(Form::kInteger, "-5"), "-5");
  EXPECT_EQ(In(Form::kInteger, "1.5"), "\"1.5\": expected a whole number");
  EXPECT_EQ(In(Form::kInteger, ""), "\"\": expected a whole number");
  EXPECT_EQ(In(Form::kDecimal, "0.50"), "0.5");
  EXPECT_EQ(In(Form::kDecimal, "2"), "2");
  EXPECT_EQ(In(Form::kCount, "all"), "-1");
  EXPECT_EQ(In(Form::kText, "1e3", Node::Kind::kNumber), "1000");
  EXPECT_EQ(In(Form::kText, "1.50", Node::Kind::kNumber), "1.5");
  EXPECT_EQ(In(Form::kText, "1.50"), "1.50");
}

TEST(ValueFormsTest, Booleans) {
  EXPECT_EQ(In(Form::kBoolean, "yes"), "true");
  EXPECT_EQ(In(Form::kBoolean, "False"), "false");
  EXPECT_EQ(In(Form::kBoolean, "2"), "\"2\": expected true or false");
}

TEST(ValueFormsTest, Modes) {
  EXPECT_EQ(In(Form::kFileMode, "0440", Node::Kind::kNumber), "0440");
  EXPECT_EQ(In(Form::kFileMode, "288", Node::Kind::kNumber), "0440");
  EXPECT_EQ(In(Form::kFileMode, "400"), "0400");
  EXPECT_EQ(In(Form::kTmpfsMode, "0755", Node::Kind::kNumber), "493");
  EXPECT_EQ(In(Form::kTmpfsMode, "1777"), "1023");
  EXPECT_EQ(In(Form::kFileMode, "99"), "\"99\": expected a mode like 0440");
}

}  // namespace
}  // namespace gantry::compose
