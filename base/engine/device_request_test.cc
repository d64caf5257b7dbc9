#include "base/engine/device_request.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/engine/config_json.h"
#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::engine {
namespace {

TEST(AddDeviceTest, PathsAndCdiNamesAreTold) {
  v1::ContainerConfig config;
  ASSERT_TRUE(AddDevice("/dev/null:/dev/x:r", config).ok());
  ASSERT_TRUE(AddDevice("vendor.com/class=a", config).ok());
  ASSERT_TRUE(AddDevice("vendor.com/class=b:c", config).ok());
  ASSERT_EQ(config.resources().devices_size(), 1);
  EXPECT_EQ(config.resources().devices(0).container_path(), "/dev/x");
  ASSERT_EQ(config.device_requests_size(), 1);
  EXPECT_EQ(config.device_requests(0).driver(), "cdi");
  ASSERT_EQ(config.device_requests(0).device_ids_size(), 2);
  EXPECT_EQ(config.device_requests(0).device_ids(1), "vendor.com/class=b:c");
  EXPECT_FALSE(AddDevice("null", config).ok());
  // A file may be named so.
  ASSERT_TRUE(AddDevice("/dev/a=b", config).ok());
  EXPECT_EQ(config.resources().devices(1).host_path(), "/dev/a=b");
}

TEST(ParseGpusTest, DockersForms) {
  EXPECT_EQ(ParseGpus("all")->count(), -1);
  EXPECT_EQ(ParseGpus("2")->count(), 2);
  const absl::StatusOr<v1::DeviceRequest> ids = ParseGpus("\"device=0,GPU-1\"");
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(ids->count(), 0);
  ASSERT_EQ(ids->device_ids_size(), 2);
  EXPECT_EQ(ids->device_ids(1), "GPU-1");
  const absl::StatusOr<v1::DeviceRequest> whole =
      ParseGpus("driver=nvidia,\"capabilities=utility,compute\",count=all,options=a=b");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->driver(), "nvidia");
  EXPECT_EQ(whole->count(), -1);
  ASSERT_EQ(whole->capabilities_size(), 1);
  EXPECT_EQ(whole->capabilities(0).values_size(), 3);
  EXPECT_EQ(whole->capabilities(0).values(2), "gpu");
  EXPECT_EQ(whole->options().at("a"), "b");
  EXPECT_EQ(ParseGpus("capabilities=utility")->count(), 1);
}

TEST(ParseGpusTest, WhatHasNoSenseIsRefused) {
  for (const char* text : {"", "some", "-2", "all,all", "count=1,device=0", "device=", "color=red",
                           "99999999999", "options==x"})
    EXPECT_FALSE(ParseGpus(text).ok()) << text;
}

TEST(DeviceRequestJsonTest, ReadsWhatItWrites) {
  const std::string body =
      R"({"Image":"x","HostConfig":{"DeviceRequests":[)"
      R"({"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":{}},)"
      R"({"Driver":"cdi","Count":0,"DeviceIDs":["v.com/c=x"],"Capabilities":null,"Options":null}]}})";
  const absl::StatusOr<v1::ContainerConfig> config = ConfigFromJson(body);
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->device_requests_size(), 2);
  EXPECT_EQ(DeviceRequestsDocument(*config).ToJson(),
            R"([{"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":{}},)"
            R"({"Driver":"cdi","Count":0,"DeviceIDs":["v.com/c=x"],"Capabilities":null,)"
            R"("Options":null}])");
  EXPECT_TRUE(DeviceRequestsDocument(v1::ContainerConfig()).is_null());
}

TEST(DeviceRequestJsonTest, AWrongFieldIsNamed) {
  const absl::Status status =
      ConfigFromJson(R"({"Image":"x","HostConfig":{"DeviceRequests":[{"Capabilities":["gpu"]}]}})")
          .status();
  EXPECT_EQ(FieldOf(status), "HostConfig.DeviceRequests[0].Capabilities[0]") << status;
}

}  // namespace
}  // namespace gantry::engine
