#include "supervisor/core/device_requests.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::core {
namespace {

v1::ContainerConfig With(const std::string& driver, int count, const std::vector<std::string>& ids,
                         const std::vector<std::string>& capabilities) {
  v1::ContainerConfig config;
  v1::DeviceRequest& request = *config.add_device_requests();
  request.set_driver(driver);
  request.set_count(count);
  for (const std::string& id : ids) request.add_device_ids(id);
  if (!capabilities.empty()) {
    v1::StringList& all = *request.add_capabilities();
    for (const std::string& one : capabilities) all.add_values(one);
  }
  return config;
}

using Names = std::vector<std::string>;

TEST(RequestedDevicesTest, GpusAreDevicesOfNvidiasKind) {
  EXPECT_EQ(*RequestedDevices(With("", -1, {}, {"gpu"})), Names{"nvidia.com/gpu=all"});
  EXPECT_EQ(*RequestedDevices(With("nvidia", 2, {}, {})),
            (Names{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}));
  EXPECT_EQ(*RequestedDevices(With("", 0, {}, {"gpu", "utility"})), Names{"nvidia.com/gpu=0"});
  EXPECT_EQ(*RequestedDevices(With("", 0, {"3", "GPU-1a"}, {"gpu"})),
            (Names{"nvidia.com/gpu=3", "nvidia.com/gpu=GPU-1a"}));
  EXPECT_EQ(*RequestedDevices(With("cdi", 0, {"v.com/c=x"}, {})), Names{"v.com/c=x"});
}

TEST(RequestedDevicesTest, WhatNobodyServesIsRefusedInDockersWords) {
  const absl::Status unknown = RequestedDevices(With("", 1, {}, {"tpu"})).status();
  EXPECT_TRUE(absl::StrContains(unknown.message(),
                                "could not select device driver \"\" with capabilities: [[tpu]]"))
      << unknown;
  EXPECT_EQ(FieldOf(unknown), "device_requests");
  EXPECT_FALSE(RequestedDevices(With("cdi", 0, {}, {})).ok());
  EXPECT_FALSE(RequestedDevices(With("cdi", 1, {"v.com/c=x"}, {})).ok());
  EXPECT_FALSE(RequestedDevices(With("", 1, {"0"}, {"gpu"})).ok());
  EXPECT_FALSE(RequestedDevices(With("", -2, {}, {"gpu"})).ok());
  EXPECT_FALSE(RequestedDevices(With("", 1 << 30, {}, {"gpu"})).ok());
}

TEST(CheckDevicesTest, ADeviceThatNoFileDescribes) {
  TempDir dir;
  const oci::cdi::DeviceFiles files({dir.path()});
  EXPECT_TRUE(CheckDevices(v1::ContainerConfig(), files).ok());
  const absl::Status gpu = CheckDevices(With("", -1, {}, {"gpu"}), files);
  EXPECT_TRUE(absl::StrContains(gpu.message(), "could not select device driver")) << gpu;
  EXPECT_TRUE(absl::StrContains(gpu.message(), "nvidia-ctk")) << gpu;
  EXPECT_TRUE(absl::StrContains(gpu.message(), dir.path())) << gpu;
  const absl::Status named = CheckDevices(With("cdi", 0, {"v.com/c=x"}, {}), files);
  EXPECT_EQ(FieldOf(named), "device_requests");
  EXPECT_FALSE(absl::StrContains(named.message(), "nvidia")) << named;
}

TEST(AddDevicesTest, AFileIsReadAtTheStart) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir.path() + "/gpu.yaml",
                        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n"
                        "  containerEdits:\n    env: [GPU=all]\n")
                  .ok());
  const oci::cdi::DeviceFiles files({dir.path()});
  oci::RuntimeSpec spec;
  ASSERT_TRUE(AddDevices(With("", -1, {}, {"gpu"}), files, spec).ok());
  EXPECT_EQ(spec.env(), Names{"GPU=all"});
}

}  // namespace
}  // namespace gantry::core
