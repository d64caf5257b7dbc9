#include "base/engine/list_rows.h"

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

#include "base/engine/system_json.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::engine {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);
constexpr char kId[] = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

std::string KeysOf(const Value& object) {
  return absl::StrJoin(object.object().fields, " ",
                       [](std::string* out, const auto& field) { *out += field.first; });
}

v1::ImageSummary Image() {
  v1::ImageSummary image;
  image.set_id(kId);
  image.add_repo_tags("host:5000/a/b:1");
  image.add_repo_tags("c:2");
  image.add_repo_digests("c@sha256:77");
  image.set_size_bytes(3000);
  image.mutable_created_at()->set_seconds(1'700'000'000 - 7200);
  return image;
}

TEST(ImageRowsTest, EachTagHasARow) {
  const std::vector<Value> rows = ImageRows(Image(), false, true, kNow);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].Find("Repository")->string(), "host:5000/a/b");
  EXPECT_EQ(rows[0].Find("Tag")->string(), "1");
  EXPECT_EQ(rows[0].Find("Digest")->string(), "<none>");
  EXPECT_EQ(rows[0].Find("ID")->string(), "0123456789ab");
  EXPECT_EQ(rows[0].Find("CreatedSince")->string(), "2 hours ago");
  EXPECT_EQ(rows[0].Find("SharedSize")->string(), "N/A");
  EXPECT_EQ(rows[1].Find("Digest")->string(), "sha256:77");
}

TEST(ImageRowsTest, WhatIsSharedIsNotItsOwn) {
  v1::ImageSummary image = Image();
  image.set_shared_size_bytes(1000);
  const Value row = ImageRows(image, false, true, kNow)[0];
  EXPECT_EQ(row.Find("SharedSize")->string(), "1kB");
  EXPECT_EQ(row.Find("UniqueSize")->string(), "2kB");
}

TEST(HistoryRowTest, TimesHaveNoFractions) {
  v1::ImageHistoryResponse::Entry entry;
  entry.mutable_created_at()->set_seconds(1'699'000'000);
  entry.mutable_created_at()->set_nanos(123);
  const Value row = HistoryRow(entry, /*human=*/false, /*truncate=*/true, kNow);
  EXPECT_EQ(row.Find("CreatedAt")->string(), "2023-11-03T08:26:40Z");
  EXPECT_EQ(row.Find("CreatedSince")->string(), "2023-11-03T08:26:40Z");
  EXPECT_EQ(row.Find("ID")->string(), "<missing>");
  EXPECT_EQ(KeysOf(row), "Comment CreatedAt CreatedBy CreatedSince ID Size");
}

TEST(StatsRowTest, TheContainerIsWhatWasAskedForElseItsId) {
  v1::ContainerStats stats;
  stats.set_id("0123456789abcdef");
  stats.set_name("web");
  EXPECT_EQ(StatsRow(stats, "web", true).Find("Container")->string(), "web");
  EXPECT_EQ(StatsRow(stats, "", true).Find("Container")->string(), "0123456789ab");
}

v1::BuildCacheRecord CacheRecord() {
  v1::BuildCacheRecord record;
  record.set_id("sha256:" + std::string(64, 'a'));
  record.set_type("regular");
  record.set_size_bytes(1500);
  record.mutable_created_at()->set_seconds(absl::ToUnixSeconds(kNow - absl::Hours(3)));
  record.set_uses(2);
  record.set_shared(true);
  return record;
}

TEST(BuildCacheRowTest, SaysWhatPeopleRead) {
  v1::BuildCacheRecord record = CacheRecord();
  Value row = BuildCacheRow(record, /*truncate=*/true, kNow);
  EXPECT_EQ(row.Find("ID")->string(), "sha256:" + std::string(18, 'a'));
  EXPECT_EQ(row.Find("Size")->string(), "1.5kB");
  EXPECT_EQ(row.Find("CreatedSince")->string(), "3 hours ago");
  EXPECT_EQ(row.Find("LastUsedSince")->string(), "") << "it was never used";
  EXPECT_EQ(row.Find("UsageCount")->string(), "2");
  EXPECT_EQ(row.Find("Shared")->string(), "true");
  EXPECT_EQ(row.Find("InUse")->string(), "false");
  record.mutable_last_used_at()->set_seconds(absl::ToUnixSeconds(kNow - absl::Minutes(5)));
  row = BuildCacheRow(record, /*truncate=*/false, kNow);
  EXPECT_EQ(row.Find("ID")->string(), record.id());
  EXPECT_EQ(row.Find("LastUsedSince")->string(), "5 minutes ago");
}

TEST(ContainerRowTest, PlatformIsThatOfTheImageThatWasChosen) {
  v1::ContainerSummary container;
  EXPECT_TRUE(ContainerRow(container, true, kNow).Find("Platform")->is_null());
  container.mutable_image_manifest()->set_platform("linux/arm64/v8");
  const Value row = ContainerRow(container, true, kNow);
  EXPECT_EQ(row.Find("Platform")->ToJson(),
            R"({"architecture":"arm64","os":"linux","variant":"v8"})");
  EXPECT_EQ(row.Find("PlatformText")->string(), "linux/arm64/v8");
}

TEST(DiskUsageDocumentTest, HasDockersKeys) {
  v1::ContainerSummary container;
  container.set_id("0123456789abcdef");
  const Value document = DiskUsageDocument(ImageRows(Image(), false, true, kNow),
                                           {ContainerRow(container, true, kNow)}, {},
                                           {BuildCacheRow(CacheRecord(), true, kNow)});
  EXPECT_EQ(KeysOf(document), "Images Containers Volumes BuildCache");
  EXPECT_EQ(KeysOf(document.Find("BuildCache")->list()[0]),
            "CacheType CreatedSince Description ID InUse LastUsedSince Parent Shared Size "
            "UsageCount");
  EXPECT_EQ(KeysOf(document.Find("Images")->list()[0]),
            "Containers CreatedAt CreatedSince Digest ID Repository SharedSize Size Tag UniqueSize "
            "VirtualSize");
  EXPECT_EQ(KeysOf(document.Find("Containers")->list()[0]),
            "Command CreatedAt ID Image Labels LocalVolumes Mounts Names Networks Ports RunningFor "
            "Size State Status");
}

TEST(InfoDocumentTest, HasDockersKeys) {
  const Value info = InfoDocument(v1::InfoResponse());
  for (const char* key :
       {"Plugins", "CpuCfsPeriod", "Debug", "IndexServerAddress", "RegistryConfig",
        "GenericResources", "Labels", "ExperimentalBuild", "Swarm", "LiveRestoreEnabled",
        "Isolation", "InitBinary", "ContainerdCommit", "RuncCommit", "InitCommit", "CDISpecDirs"}) {
    EXPECT_NE(info.Find(key), nullptr) << key;
  }
  EXPECT_TRUE(info.Find("Warnings")->is_null());
  EXPECT_EQ(info.Find("Swarm")->Find("LocalNodeState")->string(), "inactive");
}

TEST(VersionDocumentTest, HasTheApiVersions) {
  v1::VersionResponse version;
  version.set_version("0.5");
  const Value document = VersionDocument(version);
  EXPECT_EQ(document.Find("ApiVersion")->string(), "1.51");
  EXPECT_EQ(document.Find("MinAPIVersion")->string(), "1.24");
  EXPECT_EQ(document.Find("Version")->string(), "0.5");
  EXPECT_EQ(document.Find("Platform")->Find("Name")->string(), "Gantry");
}

}  // namespace
}  // namespace gantry::engine
