#include "supervisor/core/container_set.h"

#include <functional>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/life.pb.h"

namespace gantry::core {
namespace {

v1::ContainerConfig Config() {
  v1::ContainerConfig config;
  config.set_image("web");
  config.add_command("sh");
  config.add_env("A=1");
  config.add_env("B=2");
  (*config.mutable_labels())["team"] = "x";
  config.set_network_mode("gantry0");
  v1::PortBinding* const port = config.add_port_bindings();
  port->set_container_port(80);
  port->set_host_port("8080");
  return config;
}

TEST(ApplySetTest, LabelsAndStopSettingsAreInForceAtOnce) {
  v1::ContainerConfig config = Config();
  v1::SetContainerRequest request;
  (*request.mutable_labels())["tier"] = "front";
  request.add_remove_labels("team");
  request.set_stop_signal("INT");
  request.set_stop_timeout_seconds(3);
  v1::SetContainerResponse response;
  ASSERT_TRUE(ApplySet(request, /*runs=*/true, config, response).ok());
  EXPECT_EQ(config.labels().size(), 1u);
  EXPECT_EQ(config.labels().at("tier"), "front");
  EXPECT_EQ(config.stop_signal(), "INT");
  EXPECT_EQ(response.changes_size(), 4);
  for (const auto& change : response.changes()) EXPECT_TRUE(change.done()) << change.what();
}

TEST(ApplySetTest, AProcessKeepsWhatItWasStartedWith) {
  v1::SetContainerRequest request;
  request.add_env("A=9");
  request.add_remove_env("B");
  request.mutable_command()->add_values("top");
  request.set_working_dir("/srv");
  for (const bool runs : {true, false}) {
    v1::ContainerConfig config = Config();
    v1::SetContainerResponse response;
    ASSERT_TRUE(ApplySet(request, runs, config, response).ok());
    ASSERT_EQ(config.env_size(), 1);
    EXPECT_EQ(config.env(0), "A=9");
    EXPECT_EQ(config.command(0), "top");
    EXPECT_EQ(config.working_dir(), "/srv");
    EXPECT_EQ(response.changes_size(), 4);
    for (const auto& change : response.changes()) {
      EXPECT_EQ(change.done(), !runs) << change.what();
      EXPECT_EQ(change.why().empty(), !runs) << change.what();
    }
  }
}

TEST(ApplySetTest, PortsAreMeantByWhatIsGivenOfThem) {
  v1::ContainerConfig config = Config();
  v1::SetContainerRequest request;
  request.add_unpublish()->set_container_port(80);
  v1::PortBinding* const added = request.add_publish();
  added->set_container_port(81);
  added->set_host_port("8081");
  v1::SetContainerResponse response;
  ASSERT_TRUE(ApplySet(request, true, config, response).ok());
  ASSERT_EQ(config.port_bindings_size(), 1);
  EXPECT_EQ(config.port_bindings(0).container_port(), 81u);
  EXPECT_EQ(response.changes(0).what(), "no port 80/tcp");
  v1::SetContainerRequest absent;
  absent.add_unpublish()->set_container_port(80);
  EXPECT_EQ(FieldOf(ApplySet(absent, true, config, response)), "unpublish");
}

TEST(ApplySetTest, AMountReplacesThatAtItsPlace) {
  v1::ContainerConfig config = Config();
  v1::Mount* const old = config.add_mounts();
  old->set_type(v1::Mount::BIND);
  old->set_source("/old");
  old->set_target("/data");
  v1::SetContainerRequest request;
  v1::Mount* const added = request.add_mounts();
  added->set_type(v1::Mount::BIND);
  added->set_source("/new");
  added->set_target("/data");
  v1::SetContainerResponse response;
  ASSERT_TRUE(ApplySet(request, true, config, response).ok());
  ASSERT_EQ(config.mounts_size(), 1);
  EXPECT_EQ(config.mounts(0).source(), "/new");
  EXPECT_EQ(response.changes(0).what(), "mount /data");
  EXPECT_TRUE(response.changes(0).done());
  v1::SetContainerRequest none;
  none.add_remove_mounts("/other");
  EXPECT_EQ(FieldOf(ApplySet(none, true, config, response)), "remove_mounts");
  added->set_propagation("rshared");
  EXPECT_EQ(FieldOf(ApplySet(request, true, config, response)), "mounts");
}

TEST(ApplySetTest, WhatIsWrongIsRefusedByItsField) {
  const std::pair<const char*, std::function<void(v1::SetContainerRequest&)>> kWrong[] = {
      {"env", [](v1::SetContainerRequest& r) { r.add_env("NOVALUE"); }},
      {"env", [](v1::SetContainerRequest& r) { r.add_env("=x"); }},
      {"labels", [](v1::SetContainerRequest& r) { (*r.mutable_labels())[""] = "x"; }},
      {"working_dir", [](v1::SetContainerRequest& r) { r.set_working_dir("srv"); }},
      {"command", [](v1::SetContainerRequest& r) { r.mutable_command(); }},
      {"log.driver", [](v1::SetContainerRequest& r) { r.mutable_log()->set_driver("nope"); }},
  };
  for (const auto& [field, change] : kWrong) {
    v1::ContainerConfig config = Config();
    v1::SetContainerRequest request;
    change(request);
    v1::SetContainerResponse response;
    EXPECT_EQ(FieldOf(ApplySet(request, true, config, response)), field);
  }
}

TEST(ApplySetTest, OnlyTheCollectorOfALogCanBeMovedAtOnce) {
  v1::SetContainerRequest request;
  (*request.mutable_log()->mutable_options())["max-size"] = "1m";
  v1::ContainerConfig config = Config();
  v1::SetContainerResponse response;
  ASSERT_TRUE(ApplySet(request, true, config, response).ok());
  EXPECT_FALSE(response.changes(0).done());
  config.mutable_log()->set_driver("syslog");
  (*request.mutable_log()->mutable_options())["syslog-address"] = "udp://127.0.0.1:1";
  response.Clear();
  ASSERT_TRUE(ApplySet(request, true, config, response).ok());
  EXPECT_TRUE(response.changes(0).done());
}

}  // namespace
}  // namespace gantry::core
