#include "supervisor/core/container_ids.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/id_map.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/id_choice.h"
#include "supervisor/core/subordinate_ids.h"

namespace gantry::core {
namespace {

using testing::HasSubstr;

TEST(UsernsModeTest, WordsOfDockerAndTheirNeighbours) {
  EXPECT_EQ(ParseUsernsMode("")->kind, UsernsMode::Kind::kDefault);
  EXPECT_EQ(ParseUsernsMode("host")->kind, UsernsMode::Kind::kHost);
  EXPECT_EQ(ParseUsernsMode("remap")->kind, UsernsMode::Kind::kRemap);
  EXPECT_EQ(ParseUsernsMode("remap:web:www")->user, "web:www");
  EXPECT_EQ(ParseUsernsMode("auto")->size, 65536u);
  EXPECT_EQ(ParseUsernsMode("auto:size=1000")->size, 1000u);
  for (const char* bad : {"private", "hosts", "remap:", "remapx", "auto:", "auto:size=0",
                          "auto:size=-1", "auto:size=4294967296", "auto:1000", "container:x"})
    EXPECT_FALSE(ParseUsernsMode(bad).ok()) << bad;
}

class SubordinateIdsTest : public testing::Test {
 protected:
  void Write(const char* file, const std::string& text) {
    ASSERT_TRUE(WriteFile(directory_.Join(file), text).ok());
  }
  std::string Etc() const { return directory_.path(); }
  std::string Why(const std::string& setting) {
    return std::string(RemapOf(Etc(), setting).status().message());
  }
  TempDir directory_;
};

TEST_F(SubordinateIdsTest, BlocksOfAUserAreStackedFromIdZeroOn) {
  Write("subuid", "other:1:2\nweb:100000:1000\nweb:300000:65536\n");
  Write("subgid", "web:200000:65536\n");
  const absl::StatusOr<IdMaps> maps = RemapOf(Etc(), "web");
  ASSERT_TRUE(maps.ok()) << maps.status();
  EXPECT_EQ(maps->uids, (std::vector<IdRange>{{0, 100000, 1000}, {1000, 300000, 65536}}));
  EXPECT_EQ(maps->gids, (std::vector<IdRange>{{0, 200000, 65536}}));
}

TEST_F(SubordinateIdsTest, DefaultIsDockremapAndAGroupMayBeNamed) {
  Write("subuid", "dockremap:100000:65536\n");
  Write("subgid", "dockremap:200000:65536\nstaff:300000:65536\n");
  EXPECT_EQ(RemapOf(Etc(), "default")->gids.front().host_id, 200000u);
  EXPECT_EQ(RemapOf(Etc(), "dockremap:staff")->gids.front().host_id, 300000u);
}

TEST_F(SubordinateIdsTest, NumbersAndNamesMeanTheSameUser) {
  Write("passwd", "root:x:0:0::/:/bin/sh\nweb:x:1001:1001::/:/bin/sh\n");
  Write("group", "web:x:1001:\n");
  Write("subuid", "1001:100000:65536\n");
  Write("subgid", "web:200000:65536\n");
  for (const char* setting : {"web", "1001", "web:1001", "1001:web"})
    EXPECT_TRUE(RemapOf(Etc(), setting).ok()) << setting << RemapOf(Etc(), setting).status();
}

TEST_F(SubordinateIdsTest, AUserWithoutIdsIsToldWhatToAdd) {
  EXPECT_THAT(Why("default"), HasSubstr("dockremap:100000:65536"));
  Write("subuid", "web:100000:65536\n");
  EXPECT_THAT(Why("web"), HasSubstr("/subgid gives no ids to web"));
}

// Each of these would make a process of the container one of somebody else on the host.
TEST_F(SubordinateIdsTest, HostileNumbersMakeNoMap) {
  Write("subgid", "web:200000:65536\n");
  for (const char* line : {"web:0:65536", "web:4294967295:1", "web:4294967290:100", "web:-1:65536",
                           "web:+5:10", "web:100000:0", "web:100000:4294967296", "web:100000",
                           "web:1000 00:5", "web::65536", "web:100000:65536\nweb:100010:10"}) {
    Write("subuid", std::string(line) + "\n");
    const absl::StatusOr<IdMaps> maps = RemapOf(Etc(), "web");
    EXPECT_FALSE(maps.ok()) << line << " -> " << PrintIdRanges(maps->uids);
  }
  for (const char* setting : {"", ":", "web:", ":web", "a:b:c"})
    EXPECT_FALSE(RemapOf(Etc(), setting).ok()) << setting;
}

TEST(FreeIdsTest, TheFirstGapThatIsLargeEnough) {
  const std::vector<IdBlock> blocks = {{1000, 100}, {5000, 1000}};
  EXPECT_EQ(FreeIds(blocks, {}, 100).value(), 1000u);
  EXPECT_EQ(FreeIds(blocks, {{1000, 10}}, 90).value(), 1010u);
  EXPECT_EQ(FreeIds(blocks, {{1000, 10}}, 91).value(), 5000u);
  EXPECT_EQ(FreeIds(blocks, {{5300, 100}, {5000, 200}, {900, 150}}, 100).value(), 5200u);
  EXPECT_EQ(FreeIds(blocks, {{5000, 2000}}, 101).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(FreeIds({{4294967000, 500}}, {}, 400).ok());
}

TEST_F(SubordinateIdsTest, AutoGivesEachContainerIdsThatNoOtherHas) {
  Write("subuid", "containers:1000000:200000\n");
  Write("subgid", "containers:1000000:200000\n");
  std::vector<IdMaps> recorded;
  IdChoice choice({"", "containers", [&recorded] { return recorded; }, Etc()});
  const UsernsMode mode = *ParseUsernsMode("auto");
  absl::StatusOr<IdChoice::Chosen> first = choice.Choose(mode);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->ids().uids, (std::vector<IdRange>{{0, 1000000, 65536}}));
  // Held, though no record has it yet.
  absl::StatusOr<IdChoice::Chosen> second = choice.Choose(mode);
  EXPECT_EQ(second->ids().uids.front().host_id, 1065536u);
  recorded.push_back(first->ids());
  first = IdChoice::Chosen();
  absl::StatusOr<IdChoice::Chosen> third = choice.Choose(mode);
  EXPECT_EQ(third->ids().uids.front().host_id, 1131072u);
  EXPECT_EQ(choice.Choose(mode).status().code(), absl::StatusCode::kResourceExhausted);
  second = IdChoice::Chosen();
  EXPECT_EQ(choice.Choose(mode)->ids().uids.front().host_id, 1065536u);
}

TEST_F(SubordinateIdsTest, TheDaemonsSettingIsForContainersThatDoNotChoose) {
  Write("subuid", "web:100000:65536\ndockremap:300000:65536\n");
  Write("subgid", "web:100000:65536\ndockremap:300000:65536\n");
  IdChoice none({"", "containers", nullptr, Etc()});
  EXPECT_TRUE(none.Choose(*ParseUsernsMode(""))->ids().empty());
  EXPECT_EQ(none.Choose(*ParseUsernsMode("remap"))->ids().uids.front().host_id, 300000u);
  IdChoice web({"web", "containers", nullptr, Etc()});
  EXPECT_EQ(web.Choose(*ParseUsernsMode(""))->ids().uids.front().host_id, 100000u);
  EXPECT_TRUE(web.Choose(*ParseUsernsMode("host"))->ids().empty());
  EXPECT_EQ(web.Choose(*ParseUsernsMode("remap:dockremap"))->ids().uids.front().host_id, 300000u);
}

TEST(CheckWithIdsTest, WhatNeedsTheHostsUserNamespaceIsRefusedInDockersWords) {
  v1::ContainerConfig config;
  config.set_privileged(true);
  EXPECT_THAT(std::string(CheckWithIds(config).message()),
              HasSubstr("privileged mode is incompatible with user namespaces"));
  config.Clear();
  config.set_network_mode("host");
  EXPECT_THAT(std::string(CheckWithIds(config).message()),
              HasSubstr("cannot share the host's network namespace when user namespaces are "
                        "enabled"));
  config.Clear();
  config.set_pid_mode("host");
  EXPECT_FALSE(CheckWithIds(config).ok());
  config.set_pid_mode("");
  EXPECT_TRUE(CheckWithIds(config).ok());
}

TEST(IdRangesTest, BothDirectionsAndWhatIsRefused) {
  const std::vector<IdRange> ranges = {{0, 100000, 10}, {10, 200000, 5}};
  EXPECT_EQ(HostIdOf(ranges, 12), 200002u);
  EXPECT_EQ(HostIdOf(ranges, 15), std::nullopt);
  EXPECT_EQ(ContainerIdOf(ranges, 100009), 9u);
  EXPECT_EQ(ContainerIdOf(ranges, 0), std::nullopt);
  EXPECT_TRUE(CheckIdRanges("ids", ranges).ok());
  for (const std::vector<IdRange>& bad :
       std::vector<std::vector<IdRange>>{{},
                                         {{1, 100000, 10}},                   // no root
                                         {{0, 100000, 0}},                    // nothing
                                         {{0, 0, 10}},                        // the host's root
                                         {{0, 4294967290, 10}},               // beyond the last id
                                         {{0, 100000, 10}, {5, 200000, 10}},  // twice inside
                                         {{0, 100000, 10}, {10, 100005, 10}}})  // twice outside
    EXPECT_FALSE(CheckIdRanges("ids", bad).ok()) << PrintIdRanges(bad);
}

}  // namespace
}  // namespace gantry::core
