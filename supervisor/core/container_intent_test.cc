#include "supervisor/core/container_intent.h"

#include "gtest/gtest.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"

namespace gantry::core {
namespace {

TEST(ContainerIntentTest, LabelsAreTheRecordsOwn) {
  v1::ContainerConfig config;
  config.set_image("bb");
  (*config.mutable_labels())["asked"] = "1";
  record::v1::Container record;
  *record.mutable_labels() = config.labels();
  WriteIntent(config, record);
  // Another door changes them: one goes, one comes.
  record.mutable_labels()->clear();
  (*record.mutable_labels())["set-later"] = "2";
  const std::optional<v1::ContainerConfig> read = ReadIntent(record);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->image(), "bb");
  EXPECT_EQ(read->labels().size(), 1u);
  EXPECT_EQ(read->labels().at("set-later"), "2");
}

TEST(ContainerIntentTest, ALabelWithoutAValueIsKeptThoughTheRecordHasNone) {
  v1::ContainerConfig config;
  (*config.mutable_labels())["flag"] = "";
  (*config.mutable_labels())["valued"] = "1";
  record::v1::Container record;
  (*record.mutable_labels())["valued"] = "1";
  WriteIntent(config, record);
  EXPECT_EQ(ReadIntent(record)->labels().at("flag"), "");
  EXPECT_EQ(ReadIntent(record)->labels().size(), 2u);
  // Another door gives it one.
  (*record.mutable_labels())["flag"] = "set";
  EXPECT_EQ(ReadIntent(record)->labels().at("flag"), "set");
}

TEST(ContainerIntentTest, ALabelThatIsTooLongForTheRecordIsKept) {
  v1::ContainerConfig config;
  (*config.mutable_labels())["long"] = std::string(5000, 'x');
  (*config.mutable_labels())["short"] = "1";
  record::v1::Container record;
  for (const auto& [name, value] : config.labels()) {
    if (RecordHolds(name, value)) (*record.mutable_labels())[name] = value;
  }
  EXPECT_EQ(record.labels().size(), 1u);
  WriteIntent(config, record);
  EXPECT_EQ(ReadIntent(record)->labels().at("long"), std::string(5000, 'x'));
  EXPECT_EQ(ReadIntent(record)->labels().at("short"), "1");
}

TEST(ContainerIntentTest, WhatIsNotOursHasNone) {
  record::v1::Container record;
  EXPECT_FALSE(ReadIntent(record).has_value());
  (*record.mutable_extensions())["gantry"].set_type_url("something.else");
  EXPECT_FALSE(ReadIntent(record).has_value());
}

}  // namespace
}  // namespace gantry::core
