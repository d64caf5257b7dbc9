#include "base/engine/volume_request_json.h"

#include <gtest/gtest.h>

#include "base/field_error.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::engine {
namespace {

TEST(VolumeRequestTest, CreateTakesAllThatDockerSends) {
  const auto request = CreateVolumeFromDocument(*Value::FromJson(
      R"({"Name":"v","Driver":"local","DriverOpts":{"type":"tmpfs"},"Labels":{"a":"b"}})"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->name(), "v");
  EXPECT_EQ(request->driver(), "local");
  EXPECT_EQ(request->options().at("type"), "tmpfs");
  EXPECT_EQ(request->labels().at("a"), "b");
}

TEST(VolumeRequestTest, NoBodyIsAnAnonymousVolume) {
  const auto request = CreateVolumeFromDocument(Value());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->name(), "");
}

TEST(VolumeRequestTest, NamesTheFieldThatIsWrong) {
  EXPECT_EQ(FieldOf(CreateVolumeFromDocument(*Value::FromJson(R"({"Name":1})")).status()), "Name");
  EXPECT_EQ(FieldOf(CreateVolumeFromDocument(*Value::FromJson(R"({"Labels":{"a":1}})")).status()),
            "Labels.a");
  EXPECT_EQ(
      FieldOf(CreateVolumeFromDocument(*Value::FromJson(R"({"ClusterVolumeSpec":{}})")).status()),
      "ClusterVolumeSpec");
}

}  // namespace
}  // namespace gantry::engine
