#include "supervisor/core/log_options.h"

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/shim/v1/shim.pb.h"

namespace gantry::core {
namespace {

using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

absl::StatusOr<shim::v1::Log> Apply(const std::map<std::string, std::string>& options) {
  v1::ContainerConfig config;
  (*config.mutable_labels())["tier"] = "front";
  (*config.mutable_labels())["team"] = "a";
  config.add_env("E=1");
  config.add_env("PATH=/bin:/usr/bin");
  config.add_env("EQ=a=b");
  for (const auto& [key, value] : options) (*config.mutable_log()->mutable_options())[key] = value;
  shim::v1::Log log;
  const absl::Status applied = ApplyLogOptions(config, log);
  if (!applied.ok()) return applied;
  return log;
}

TEST(LogOptionsTest, SizesAndCounts) {
  EXPECT_EQ(Apply({{"max-size", "10m"}})->max_size_bytes(), 10 << 20);
  EXPECT_EQ(Apply({{"max-size", "7"}})->max_size_bytes(), 7);
  EXPECT_EQ(Apply({{"max-size", "-1"}})->max_size_bytes(), 0);
  EXPECT_EQ(Apply({{"max-file", "3"}})->max_files(), 3);
  EXPECT_TRUE(Apply({{"mode", "blocking"}})->block_when_full());
  EXPECT_FALSE(Apply({{"mode", "non-blocking"}})->block_when_full());
  EXPECT_TRUE(Apply({{"tag", "x"}, {"compress", "true"}, {"max-buffer-size", "1m"}}).ok());
}

TEST(LogOptionsTest, WhatThereIsNotIsRefusedByItsField) {
  for (const char* bad : {"", "m", "-5m", "1x", "1.5m"})
    EXPECT_EQ(FieldOf(Apply({{"max-size", bad}}).status()), "log.options.max-size") << bad;
  EXPECT_EQ(FieldOf(Apply({{"max-file", "0"}}).status()), "log.options.max-file");
  EXPECT_EQ(FieldOf(Apply({{"nope", "1"}}).status()), "log.options");
  EXPECT_EQ(FieldOf(Apply({{"mode", "other"}}).status()), "log.options");
  EXPECT_EQ(FieldOf(Apply({{"env-regex", "("}}).status()), "log.options.env-regex");
}

TEST(LogOptionsTest, WithoutAChoiceLinesHaveNoAttributes) {
  EXPECT_THAT(Apply({})->attributes(), IsEmpty());
  EXPECT_THAT(Apply({{"max-size", "1m"}})->attributes(), IsEmpty());
}

TEST(LogOptionsTest, AttributesByName) {
  EXPECT_THAT(Apply({{"labels", "tier,absent"}, {"env", "E,EQ"}})->attributes(),
              UnorderedElementsAre(Pair("tier", "front"), Pair("E", "1"), Pair("EQ", "a=b")));
}

TEST(LogOptionsTest, AttributesByPattern) {
  EXPECT_THAT(Apply({{"labels-regex", "^t"}, {"env-regex", "^PA"}})->attributes(),
              UnorderedElementsAre(Pair("tier", "front"), Pair("team", "a"),
                                   Pair("PATH", "/bin:/usr/bin")));
}

}  // namespace
}  // namespace gantry::core
