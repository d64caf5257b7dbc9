#include "supervisor/api/docker/version_table.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::api::docker {
namespace {

std::string Container(ApiVersion version) {
  return ForVersion(Document::kContainer, version,
                    *engine::Value::FromJson(
                        R"({"HostConfig":{"CgroupnsMode":"host","Annotations":{"a":"b"},)"
                        R"("Mounts":[{"Type":"bind","BindOptions":{"CreateMountpoint":true,)"
                        R"("Propagation":"shared"}}]},"NetworkSettings":{"Networks":{"x":)"
                        R"({"NetworkID":"1","DNSNames":["a"]},"y":null}}})"))
      .ToJson();
}

TEST(VersionTableTest, OlderVersionsLackWhatCameLater) {
  EXPECT_EQ(Container({1, 40}),
            R"({"HostConfig":{"Mounts":[{"Type":"bind","BindOptions":{"Propagation":"shared"}}]},)"
            R"("NetworkSettings":{"Networks":{"x":{"NetworkID":"1"},"y":null}}})");
  EXPECT_EQ(Container({1, 43}),
            R"({"HostConfig":{"CgroupnsMode":"host","Annotations":{"a":"b"},"Mounts":[{"Type":)"
            R"("bind","BindOptions":{"CreateMountpoint":true,"Propagation":"shared"}}]},)"
            R"("NetworkSettings":{"Networks":{"x":{"NetworkID":"1"},"y":null}}})");
}

TEST(VersionTableTest, NewerVersionsLackWhatWasDropped) {
  const auto info = [](ApiVersion version) {
    return ForVersion(Document::kInfo, version,
                      *engine::Value::FromJson(R"({"BridgeNfIptables":true,"CDISpecDirs":["/a"],)"
                                               R"("RuncCommit":{"ID":"1","Expected":"1"}})"))
        .ToJson();
  };
  EXPECT_EQ(info({1, 43}), R"({"BridgeNfIptables":true,"RuncCommit":{"ID":"1","Expected":"1"}})");
  EXPECT_EQ(info({1, 49}),
            R"({"BridgeNfIptables":true,"CDISpecDirs":["/a"],"RuncCommit":{"ID":"1"}})");
  EXPECT_EQ(info({1, 50}), R"({"CDISpecDirs":["/a"],"RuncCommit":{"ID":"1"}})");
  const auto registries = [](ApiVersion version) {
    return ForVersion(Document::kInfo, version,
                      *engine::Value::FromJson(
                          R"({"RegistryConfig":{"AllowNondistributableArtifactsCIDRs":[],)"
                          R"("AllowNondistributableArtifactsHostnames":[],"Mirrors":[]}})"))
        .ToJson();
  };
  EXPECT_THAT(registries({1, 46}), testing::HasSubstr("ArtifactsHostnames"));
  EXPECT_EQ(registries({1, 47}), R"({"RegistryConfig":{"Mirrors":[]}})");
}

TEST(VersionTableTest, SaysOfAFieldWhetherAVersionHasIt) {
  constexpr char kPriority[] = "NetworkSettings.Networks.*.GwPriority";
  EXPECT_FALSE(HasField(Document::kContainerSummary, {1, 47}, kPriority));
  EXPECT_TRUE(HasField(Document::kContainerSummary, {1, 48}, kPriority));
  EXPECT_TRUE(HasField(Document::kContainerSummary, {1, 24}, "Id"));
}

TEST(VersionTableTest, TheNewestHasEverything) {
  EXPECT_NE(Container(kNewest).find("DNSNames"), std::string::npos);
}

}  // namespace
}  // namespace gantry::api::docker
