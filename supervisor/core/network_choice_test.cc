#include "supervisor/core/network_choice.h"

#include "gtest/gtest.h"

#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::core {
namespace {

TEST(NetworkChoiceTest, NothingAndDefaultAreNone) {
  for (const char* mode : {"", "default", "none"}) {
    const absl::StatusOr<NetworkChoice> choice = ParseNetworkMode(mode);
    ASSERT_TRUE(choice.ok()) << mode;
    EXPECT_EQ(choice->kind, NetworkChoice::Kind::kNone) << mode;
    EXPECT_EQ(choice->Print(), "none") << mode;
  }
}

TEST(NetworkChoiceTest, HostAndAnotherContainerPrintAsTheyWereParsed) {
  EXPECT_TRUE(ParseNetworkMode("host")->host());
  EXPECT_EQ(ParseNetworkMode("host")->Print(), "host");
  const NetworkChoice shared = ParseNetworkMode("container:web").value();
  EXPECT_EQ(shared.kind, NetworkChoice::Kind::kContainer);
  EXPECT_EQ(shared.container, "web");
  EXPECT_EQ(shared.Print(), "container:web");
}

TEST(NetworkChoiceTest, AnyOtherNameIsANetworks) {
  for (const char* mode : {"bridge", "web", "Web_1.x-y", "0a1b2c"}) {
    const absl::StatusOr<NetworkChoice> choice = ParseNetworkMode(mode);
    ASSERT_TRUE(choice.ok()) << choice.status();
    EXPECT_EQ(choice->kind, NetworkChoice::Kind::kNetwork);
    EXPECT_EQ(choice->network, mode);
    EXPECT_EQ(choice->Print(), mode);
  }
}

TEST(NetworkChoiceTest, WhatNoNetworkIsCalledIsAnErrorOfItsField) {
  for (const char* mode : {"my net", "-web", "web/1", "host:1"}) {
    const absl::Status refused = ParseNetworkMode(mode).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << mode;
    EXPECT_EQ(FieldOf(refused), "network_mode");
    EXPECT_NE(refused.message().find(mode), absl::string_view::npos) << refused;
  }
}

TEST(NetworkChoiceTest, PublishedPortsConnectToBridgeUnlessAnotherWasChosen) {
  v1::ContainerConfig config;
  EXPECT_EQ(NetworkOf(config)->kind, NetworkChoice::Kind::kNone);
  config.add_port_bindings()->set_container_port(80);
  EXPECT_EQ(NetworkOf(config)->network, "bridge");
  config.set_network_mode("default");
  EXPECT_EQ(NetworkOf(config)->network, "bridge");
  config.set_network_mode("web");
  EXPECT_EQ(NetworkOf(config)->network, "web");
  config.set_network_mode("none");
  EXPECT_EQ(NetworkOf(config)->kind, NetworkChoice::Kind::kNone);
}

}  // namespace
}  // namespace gantry::core
