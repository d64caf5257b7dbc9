#include "supervisor/oci/cdi/apply_edits.h"

#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "supervisor/oci/runtime_spec.h"

namespace gantry::oci::cdi {
namespace {

using nlohmann::json;

RuntimeSpec Base() {
  return *RuntimeSpec::Parse(R"({"ociVersion":"1.0.2",
    "process":{"args":["x"],"cwd":"/","env":["A=old"],"user":{"uid":1000,"gid":1000}},
    "mounts":[{"destination":"/usr/lib/x","type":"bind","source":"/x","options":["rbind"]}],
    "linux":{"devices":[{"path":"/dev/card0","type":"c","major":9,"minor":9}],
             "resources":{"devices":[{"allow":false,"access":"rwm"}]}}})");
}

TEST(ApplyEditsTest, VariablesReplaceThoseOfTheSameName) {
  RuntimeSpec spec = Base();
  ContainerEdits edits;
  edits.env = {"A=new", "B=1"};
  ASSERT_TRUE(ApplyEdits(edits, spec).ok());
  EXPECT_EQ(spec.env(), (std::vector<std::string>{"A=new", "B=1"}));
}

TEST(ApplyEditsTest, ADeviceNodeIsTheUsersAndMayBeUsed) {
  RuntimeSpec spec = Base();
  ContainerEdits edits;
  edits.device_nodes.push_back({.path = "/dev/card0", .host_path = "/dev/null"});
  ASSERT_TRUE(ApplyEdits(edits, spec).ok());
  const json& part = spec.document()["linux"];
  EXPECT_EQ(part["devices"],
            json::parse(R"([{"path":"/dev/card0","type":"c","major":1,"minor":3,"fileMode":438,
                             "uid":1000,"gid":1000}])"));
  EXPECT_EQ(part["resources"]["devices"][1],
            json::parse(R"({"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"})"));
}

TEST(ApplyEditsTest, WhatAFileSaysOfANodeIsNotLookedUp) {
  RuntimeSpec spec = Base();
  ContainerEdits edits;
  edits.device_nodes.push_back({.path = "/dev/none",
                                .host_path = "/dev/no such node",
                                .type = "b",
                                .major = 7,
                                .minor = 1,
                                .file_mode = 0600,
                                .permissions = "r",
                                .uid = 0,
                                .gid = 6});
  ASSERT_TRUE(ApplyEdits(edits, spec).ok());
  EXPECT_EQ(spec.document()["linux"]["devices"][1],
            json::parse(R"({"path":"/dev/none","type":"b","major":7,"minor":1,"fileMode":384,
                            "uid":0,"gid":6})"));
  EXPECT_EQ(spec.document()["linux"]["resources"]["devices"][1]["access"], "r");
}

TEST(ApplyEditsTest, ANodeThatTheHostDoesNotHave) {
  RuntimeSpec spec = Base();
  ContainerEdits edits;
  edits.device_nodes.push_back({.path = "/dev/no such node"});
  EXPECT_EQ(ApplyEdits(edits, spec).code(), absl::StatusCode::kNotFound);
  edits.device_nodes[0] = {.path = "/dev/null", .type = "b"};
  EXPECT_EQ(ApplyEdits(edits, spec).code(), absl::StatusCode::kInvalidArgument);
  edits.device_nodes[0] = {.path = "/dev"};
  EXPECT_EQ(ApplyEdits(edits, spec).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ApplyEditsTest, NoMountHidesAnother) {
  RuntimeSpec spec = Base();
  ContainerEdits edits;
  edits.mounts.push_back({.host_path = "/host/usr", .container_path = "/usr"});
  edits.mounts.push_back({.host_path = "tmpfs",
                          .container_path = "/usr/lib/x",
                          .type = "tmpfs",
                          .options = {"nosuid"}});
  ASSERT_TRUE(ApplyEdits(edits, spec).ok());
  EXPECT_EQ(spec.document()["mounts"], json::parse(R"([
    {"destination":"/usr","type":"bind","source":"/host/usr","options":["rbind"]},
    {"destination":"/usr/lib/x","type":"tmpfs","source":"tmpfs","options":["nosuid"]}])"));
}

TEST(ApplyEditsTest, HooksGroupsAndCacheAllocation) {
  RuntimeSpec spec = Base();
  ContainerEdits edits;
  edits.hooks.push_back({.name = "createContainer",
                         .path = "/bin/hook",
                         .args = {"hook"},
                         .env = {},
                         .timeout_seconds = 5});
  edits.additional_gids = {44, 44, 0};
  edits.intel_rdt.emplace();
  edits.intel_rdt->clos_id = "gold";
  ASSERT_TRUE(ApplyEdits(edits, spec).ok());
  EXPECT_EQ(
      spec.document()["hooks"],
      json::parse(R"({"createContainer":[{"path":"/bin/hook","args":["hook"],"timeout":5}]})"));
  EXPECT_EQ(spec.document()["process"]["user"]["additionalGids"], json::parse("[44]"));
  EXPECT_EQ(spec.document()["linux"]["intelRdt"], json::parse(R"({"closID":"gold"})"));
}

TEST(ApplyEditsTest, AnInterfaceIsRefused) {
  RuntimeSpec spec = Base();
  ContainerEdits edits;
  edits.net_devices = {"eth7"};
  EXPECT_EQ(ApplyEdits(edits, spec).code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace gantry::oci::cdi
