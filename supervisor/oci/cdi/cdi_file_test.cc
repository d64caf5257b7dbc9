#include "supervisor/oci/cdi/cdi_file.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace gantry::oci::cdi {
namespace {

using nlohmann::json;

json Whole() {
  return json::parse(R"({
    "cdiVersion": "0.7.0", "kind": "vendor.com/net.card", "annotations": {"a": "b"},
    "containerEdits": {"env": ["ALL=1"]},
    "devices": [{"name": "0", "annotations": {"c": "d"}, "containerEdits": {
      "env": ["CARD=0"],
      "deviceNodes": [{"path": "/dev/card0", "hostPath": "/dev/null", "type": "c", "major": 1,
                       "minor": 3, "fileMode": 432, "permissions": "rw", "uid": 5, "gid": 6}],
      "mounts": [{"hostPath": "/usr/lib/card", "containerPath": "/opt/card", "type": "bind",
                  "options": ["ro", "bind"]}],
      "hooks": [{"hookName": "createContainer", "path": "/usr/bin/hook", "args": ["hook", "x"],
                 "env": ["A=b"], "timeout": 3}],
      "additionalGids": [44],
      "intelRdt": {"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50",
                   "enableCMT": true, "enableMBM": true}}}]})");
}

absl::Status StatusOf(const json& document) { return ParseCdiFile(document, "f.json").status(); }

TEST(ParseCdiFileTest, EveryMemberIsRead) {
  const absl::StatusOr<CdiFile> file = ParseCdiFile(Whole(), "f.json");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->kind, "vendor.com/net.card");
  EXPECT_EQ(file->edits.env, std::vector<std::string>{"ALL=1"});
  ASSERT_EQ(file->devices.size(), 1u);
  const ContainerEdits& edits = file->devices[0].edits;
  EXPECT_EQ(file->devices[0].name, "0");
  EXPECT_EQ(edits.env, std::vector<std::string>{"CARD=0"});
  ASSERT_EQ(edits.device_nodes.size(), 1u);
  EXPECT_EQ(edits.device_nodes[0].path, "/dev/card0");
  EXPECT_EQ(edits.device_nodes[0].host_path, "/dev/null");
  EXPECT_EQ(edits.device_nodes[0].file_mode, 0660u);
  EXPECT_EQ(edits.device_nodes[0].permissions, "rw");
  EXPECT_EQ(edits.device_nodes[0].uid, 5u);
  ASSERT_EQ(edits.mounts.size(), 1u);
  EXPECT_EQ(edits.mounts[0].container_path, "/opt/card");
  ASSERT_EQ(edits.hooks.size(), 1u);
  EXPECT_EQ(edits.hooks[0].name, "createContainer");
  EXPECT_EQ(edits.hooks[0].timeout_seconds, 3);
  EXPECT_EQ(edits.additional_gids, std::vector<uint32_t>{44});
  ASSERT_TRUE(edits.intel_rdt.has_value());
  EXPECT_EQ(edits.intel_rdt->clos_id, "gold");
  EXPECT_TRUE(edits.intel_rdt->enable_mbm);
}

// What stands at `pointer` replaced by `value`.
json With(const char* pointer, const json& value) {
  json changed = Whole();
  changed[json::json_pointer(pointer)] = value;
  return changed;
}

TEST(ParseCdiFileTest, WhatHasNoSenseIsRefusedWithItsPlace) {
  const std::string edits = "/devices/0/containerEdits/";
  const struct {
    std::string pointer;
    json value;
    const char* says;
  } cases[] = {
      {"/cdiVersion", "1.2.0", "is unknown"},
      {"/cdiVersion", "0.2.0", "is unknown"},
      {"/cdiVersion", "one", "is not a version"},
      {"/cdiVersion", "0.6.0", "came with 0.7.0"},
      {"/kind", "vendor.com", "VENDOR/CLASS"},
      {"/kind", "-x/y", "VENDOR/CLASS"},
      {"/kind", 7, "not a string"},
      {"/devices", json::array(), "no devices"},
      {"/devices/0/name", "a b", "is not a name"},
      {"/devices/0/name", "", "is not a name"},
      {"/devices/0/containerEdits", json::object(), "change nothing"},
      {edits + "more", 1, "\"more\" is unknown"},
      {edits + "env", json::array({"=x"}), "NAME=value"},
      {edits + "deviceNodes/0/path", "dev/x", "not absolute"},
      {edits + "deviceNodes/0/type", "x", "not b, c, u or p"},
      {edits + "deviceNodes/0/permissions", "rwx", "\"rwm\""},
      {edits + "deviceNodes/0/fileMode", 4096, "twelve bits"},
      {edits + "mounts/0/containerPath", "x", "not absolute"},
      {edits + "mounts/0/hostPath", "", "missing"},
      {edits + "hooks/0/hookName", "postmortem", "unknown"},
      {edits + "hooks/0/path", "hook", "not absolute"},
      {edits + "hooks/0/timeout", 0, "above 0"},
      {edits + "additionalGids", json::array({-1}), "list of numbers"},
      {edits + "intelRdt/closID", "../x", "is not a name for a directory"},
  };
  for (const auto& one : cases) {
    const absl::Status status = StatusOf(With(one.pointer.c_str(), one.value));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << one.pointer;
    EXPECT_TRUE(absl::StrContains(status.message(), one.says)) << one.pointer << ": " << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "f.json")) << status;
  }
}

TEST(ParseCdiFileTest, ADeviceNameTwiceIsRefused) {
  json twice = Whole();
  twice["devices"].push_back(twice["devices"][0]);
  EXPECT_TRUE(absl::StrContains(StatusOf(twice).message(), "twice"));
}

TEST(ParseCdiFileTest, AnOldVersionDoesWithoutWhatCameLater) {
  json old = json::parse(R"({"cdiVersion":"0.3.0","kind":"v.com/c",
      "devices":[{"name":"a","containerEdits":{"env":["A=b"]}}]})");
  EXPECT_TRUE(StatusOf(old).ok()) << StatusOf(old);
  old["devices"][0]["name"] = "0";
  EXPECT_TRUE(absl::StrContains(StatusOf(old).message(), "0.5.0"));
}

TEST(IsDeviceNameTest, NamesAndPathsAreTold) {
  for (const char* name : {"vendor.com/class=name", "nvidia.com/gpu=all", "nvidia.com/gpu=0:1",
                           "v/c=0", "vendor.com/net.card=GPU-1a.b_c"})
    EXPECT_TRUE(IsDeviceName(name)) << name;
  for (const char* path : {"/dev/null", "/dev/a=b", "vendor/class", "v/c/d=e", "=x", "v/c=", "",
                           "v/c=a b", "v/c=a-", "1v/c=a"})
    EXPECT_FALSE(IsDeviceName(path)) << path;
}

}  // namespace
}  // namespace gantry::oci::cdi
