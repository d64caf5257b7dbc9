#include "supervisor/core/build_cache.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/core/image_testbed.h"
#include "supervisor/metadata/build_cache_store.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr int64_t kCeiling = 1000;

class FakeDirectories : public BuildCacheDirectories {
 public:
  absl::StatusOr<std::vector<Directory>> Directories() override { return directories; }
  absl::StatusOr<bool> RemoveDirectory(const std::string& id) override {
    for (auto one = directories.begin(); one != directories.end(); ++one) {
      if (one->id != id) continue;
      if (one->in_use) return false;
      directories.erase(one);
      return true;
    }
    return false;
  }
  void Add(const std::string& id, int64_t size, int64_t used, bool in_use = false) {
    Directory one;
    one.id = id;
    one.type = "exec.cachemount";
    one.size_bytes = size;
    one.last_used_at = absl::FromUnixSeconds(used);
    one.in_use = in_use;
    directories.push_back(one);
  }
  std::vector<Directory> directories;
};

class BuildCacheTest : public testing::Test {
 protected:
  void SetUp() override { cache_.Include(&directories_); }
  void Record(const std::string& ns, const std::string& id, int64_t blob, int64_t unpacked,
              int64_t used, int depth = 1) {
    record::v1::BuildCacheRecord record;
    record.set_description(absl::StrCat("RUN ", id));
    record.set_size_bytes(blob);
    record.set_unpacked_size_bytes(unpacked);
    record.set_depth(depth);
    record.mutable_last_used_at()->set_seconds(used);
    ASSERT_TRUE(store_.Put({.ns = ns}, absl::StrCat("sha256:", id), record).ok());
  }
  std::vector<std::string> Ids(const std::string& ns) {
    CallContext context;
    context.ns = ns;
    std::vector<std::string> ids;
    const auto usage = cache_.Usage(context, {});
    EXPECT_TRUE(usage.ok()) << usage.status();
    int64_t total = 0;
    for (const v1::BuildCacheRecord& one : usage->records()) {
      ids.push_back(one.id());
      total += one.size_bytes();
    }
    EXPECT_EQ(usage->total_bytes(), total);
    return ids;
  }

  ImageTestbed bed_;
  FakeDirectories directories_;
  BuildCache cache_{BuildCache::Parts{&bed_.stores, bed_.scheduler.get(), kCeiling}};
  metadata::BuildCacheStore store_{bed_.stores.db};
};

TEST_F(BuildCacheTest, TheLeastRecentlyUsedGoUntilTheCeilingHolds) {
  Record("default", "old", 100, 300, 10);
  Record("default", "middle", 100, 300, 20);
  Record("default", "new", 100, 300, 30);
  ASSERT_TRUE(cache_.KeepCeiling().ok());
  EXPECT_THAT(Ids("default"), ElementsAre("new", "middle"));
  ASSERT_TRUE(cache_.KeepCeiling().ok());
  EXPECT_EQ(Ids("default").size(), 2u);  // 800 of 1000 bytes
}

TEST_F(BuildCacheTest, CacheMountsAndOtherNamespacesCount) {
  Record("default", "a", 100, 200, 30);
  Record("other", "b", 100, 200, 10);
  directories_.Add("mount", 500, 20);
  ASSERT_TRUE(cache_.KeepCeiling().ok());
  // 1100 bytes: the one of the other namespace was used least recently.
  EXPECT_THAT(Ids("other"), ElementsAre("mount"));
  EXPECT_THAT(Ids("default"), ElementsAre("a", "mount"));
  directories_.Add("more", 400, 40);
  ASSERT_TRUE(cache_.KeepCeiling().ok());
  EXPECT_THAT(Ids("default"), ElementsAre("more", "a"));
}

TEST_F(BuildCacheTest, WhatIsInUseStaysAndTheNextGoes) {
  directories_.Add("used", 900, 10, /*in_use=*/true);
  Record("default", "a", 100, 100, 20);
  ASSERT_TRUE(cache_.KeepCeiling().ok());
  EXPECT_THAT(Ids("default"), ElementsAre("used"));
}

TEST_F(BuildCacheTest, OfOneBuildTheUpperLayersGoFirst) {
  Record("default", "base", 200, 400, 10, 1);
  Record("default", "top", 200, 400, 10, 2);
  ASSERT_TRUE(cache_.KeepCeiling().ok());
  EXPECT_THAT(Ids("default"), ElementsAre("base"));
}

TEST_F(BuildCacheTest, PruneTakesWhatItsFiltersSelect) {
  Record("default", "a", 1, 2, 10);
  directories_.Add("mount", 5, 20);
  directories_.Add("used", 7, 20, /*in_use=*/true);
  CallContext context;
  context.ns = "default";
  v1::PruneBuildCacheRequest request;
  v1::Filter& filter = *request.add_filters();
  filter.set_key("type");
  filter.set_value("exec.cachemount");
  auto pruned = cache_.Prune(context, request);
  ASSERT_TRUE(pruned.ok()) << pruned.status();
  EXPECT_EQ(pruned->space_reclaimed_bytes(), 5);
  EXPECT_THAT(Ids("default"), UnorderedElementsAre("a", "used"));
  filter.set_key("nothing");
  EXPECT_EQ(cache_.Prune(context, request).status().code(), absl::StatusCode::kInvalidArgument);
  request.clear_filters();
  pruned = cache_.Prune(context, request);
  ASSERT_TRUE(pruned.ok()) << pruned.status();
  EXPECT_THAT(Ids("default"), ElementsAre("used"));
}

TEST_F(BuildCacheTest, WhatAnImageSharesGoesOnRequestOnly) {
  oci::Document document;
  oci::Manifest& manifest = document.manifest.emplace();
  manifest.media_type = oci::kOciManifest;
  manifest.config = bed_.Blob(oci::kOciConfig, R"({"os":"linux","architecture":"amd64"})");
  manifest.layers.push_back(bed_.Blob(oci::kOciLayerGzip, "layer"));
  bed_.Record("example.org/app:1", bed_.Blob(oci::kOciManifest, oci::PrintManifest(manifest),
                                             oci::ChildLabels(document)));
  Record("default", "private", 1, 2, 10);
  record::v1::BuildCacheRecord record;
  record.set_digest(manifest.layers[0].digest.str());
  ASSERT_TRUE(store_.Put({.ns = "default"}, "sha256:shared", record).ok());
  CallContext context;
  context.ns = "default";
  const auto usage = cache_.Usage(context, {});
  ASSERT_TRUE(usage.ok()) << usage.status();
  for (const v1::BuildCacheRecord& one : usage->records())
    EXPECT_EQ(one.shared(), one.id() == "shared");
  ASSERT_TRUE(cache_.Prune(context, {}).ok());
  EXPECT_THAT(Ids("default"), ElementsAre("shared"));
  v1::PruneBuildCacheRequest all;
  all.set_all(true);
  ASSERT_TRUE(cache_.Prune(context, all).ok());
  EXPECT_THAT(Ids("default"), ElementsAre());
}

TEST_F(BuildCacheTest, ANamespaceWithRecordsIsNotRemoved) {
  record::v1::Namespace ns;
  ns.set_name("other");
  ASSERT_TRUE(bed_.stores.namespaces.Create(ns).ok());
  Record("other", "a", 1, 1, 10);
  const absl::Status kept = bed_.stores.namespaces.Delete("other");
  EXPECT_EQ(kept.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(kept.message()), testing::HasSubstr("build cache records"));
  ASSERT_TRUE(store_.Remove({.ns = "other"}, "sha256:a").ok());
  EXPECT_TRUE(bed_.stores.namespaces.Delete("other").ok());
}

}  // namespace
}  // namespace gantry::core
