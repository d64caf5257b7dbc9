#include "supervisor/gc/disk_usage.h"

#include <string>

#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "supervisor/gc/world.h"

namespace gantry::gc {
namespace {

class DiskUsageTest : public testing::Test {
 protected:
  DiskUsage Measure() {
    auto usage = MeasureDiskUsage(*world_.db, world_.pool, world_.snapshotters, clock_);
    EXPECT_TRUE(usage.ok()) << usage.status();
    return usage.value_or(DiskUsage());
  }

  static std::string Owners(const std::vector<Node>& owners) {
    std::string text;
    for (const std::string& name : World::Names(owners)) text += name + " ";
    return text;
  }

  TempDir dir_;
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  World world_{dir_.path(), clock_};
};

TEST_F(DiskUsageTest, EveryBlobOnDiskIsCountedOnceWithAllItsOwners) {
  const content::Digest layer = world_.Blob("layer", {}, "a");
  world_.Blob("layer", {}, "b");
  const content::Digest manifest =
      world_.Blob("manifest", {{"containerd.io/gc.ref.content.l.0", layer.str()}}, "a");
  world_.Image("one", manifest, {}, "a");
  world_.Image("two", manifest, {}, "a");
  world_.Image("other", layer, {}, "b");
  ASSERT_TRUE(content::WriteBlob(*world_.files, "r", "orphan").ok());
  world_.Blob("garbage", {}, "b");
  const DiskUsage usage = Measure();
  ASSERT_EQ(usage.blobs.size(), 4u);
  int64_t sum = 0;
  for (const BlobUsage& blob : usage.blobs) {
    sum += blob.size_bytes;
    if (blob.digest == layer) {
      EXPECT_EQ(Owners(blob.owners), "image:one image:other image:two ");
    } else if (blob.digest == manifest) {
      EXPECT_EQ(Owners(blob.owners), "image:one image:two ");
    } else {
      EXPECT_TRUE(blob.collectable);
      EXPECT_EQ(Owners(blob.owners), "");
    }
  }
  EXPECT_EQ(sum, 5 + 8 + 6 + 7);
}

TEST_F(DiskUsageTest, WhatIsCollectableIsWhatACollectionFrees) {
  const content::Digest kept = world_.Blob("kept");
  world_.Image("x", kept);
  world_.Blob("garbage 1");
  world_.Blob("garbage 22");
  int64_t collectable = 0;
  for (const BlobUsage& blob : Measure().blobs)
    collectable += blob.collectable ? blob.size_bytes : 0;
  EXPECT_EQ(collectable, 19);
  EXPECT_EQ(world_.Collect().freed_bytes(), 19);
}

TEST_F(DiskUsageTest, FilesThatSnapshotsShareAreCountedOnceWithAllTheirOwners) {
  for (const std::string ns : {"a", "b"}) {
    const content::Digest blob = world_.Blob("layer", {}, ns);
    if (ns == "a") {
      world_.Layer("chain", blob, {}, ns);
    } else {
      ASSERT_TRUE(world_.Snapshots(ns).Share("chain", {}).ok());
    }
    world_.Image("image " + ns,
                 world_.Blob("manifest",
                             {{"containerd.io/gc.ref.content.l.0", blob.str()},
                              {"containerd.io/gc.ref.snapshot.native", "chain"}},
                             ns),
                 {}, ns);
  }
  DiskUsage usage = Measure();
  ASSERT_EQ(usage.snapshots.size(), 2u);
  EXPECT_EQ(usage.snapshots[0].directory, usage.snapshots[1].directory);
  EXPECT_GE(usage.snapshots[0].size_bytes, 8192);
  EXPECT_EQ(Owners(usage.snapshots[0].owners), "image:image a image:image b ");
  EXPECT_EQ(usage.snapshots[1].size_bytes, 0);
  EXPECT_EQ(usage.snapshots[1].inodes, 0);

  // The bytes go over to the one that stays.
  ASSERT_TRUE(world_.images.Delete(metadata::Scope{.ns = "a"}, "image a").ok());
  usage = Measure();
  EXPECT_TRUE(usage.snapshots[0].collectable);
  EXPECT_EQ(usage.snapshots[0].size_bytes, 0);
  EXPECT_FALSE(usage.snapshots[1].collectable);
  EXPECT_GE(usage.snapshots[1].size_bytes, 8192);
  EXPECT_EQ(Owners(usage.snapshots[1].owners), "image:image b ");
}

TEST_F(DiskUsageTest, SnapshotsAndIngestsNameTheirOwners) {
  world_.Committed("base", "");
  ASSERT_TRUE(world_.Snapshots().Prepare("c", "base", {}).ok());
  world_.Container("c", "c");
  world_.Lease("l");
  {
    auto ingest =
        world_.Content("default", "l").OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}});
    ASSERT_TRUE((*ingest)->Append("12345").ok());
  }
  const DiskUsage usage = Measure();
  ASSERT_EQ(usage.snapshots.size(), 2u);
  EXPECT_EQ(usage.snapshots[0].snapshot.name, "base");
  EXPECT_FALSE(usage.snapshots[0].active);
  EXPECT_EQ(Owners(usage.snapshots[0].owners), "container:c ");
  EXPECT_TRUE(usage.snapshots[1].active);
  EXPECT_FALSE(usage.snapshots[1].collectable);
  ASSERT_EQ(usage.ingests.size(), 1u);
  EXPECT_EQ(usage.ingests[0].size_bytes, 5);
  EXPECT_EQ(Owners(usage.ingests[0].owners), "lease:l ");
}

}  // namespace
}  // namespace gantry::gc
