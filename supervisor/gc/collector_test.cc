#include "supervisor/gc/collector.h"

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/gc/world.h"
#include "supervisor/metadata/sandbox_store.h"

namespace gantry::gc {
namespace {

using Names = std::vector<std::string>;

class CollectorTest : public testing::Test {
 protected:
  bool Has(const content::Digest& digest, const std::string& ns = "default") {
    return world_.Content(ns).Stat(digest).ok();
  }
  bool HasSnapshot(const std::string& key, const std::string& ns = "default") {
    return world_.Snapshots(ns).Stat(key).ok();
  }
  // What the next collection removes.
  Names Removed() { return World::Names(world_.Collect().removed); }
  std::string In(absl::Duration from_now) {
    return absl::FormatTime(absl::RFC3339_full, clock_.Now() + from_now, absl::UTCTimeZone());
  }

  TempDir dir_;
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  World world_{dir_.path(), clock_};
};

TEST_F(CollectorTest, UnreferencedContentGoesWithItsFile) {
  const content::Digest digest = world_.Blob("garbage");
  const Collection collection = world_.Collect();
  EXPECT_EQ(World::Names(collection.removed), Names{World::NameOf(digest)});
  ASSERT_EQ(collection.blobs.size(), 1u);
  EXPECT_EQ(collection.blobs[0], std::make_pair(digest, int64_t{7}));
  EXPECT_EQ(collection.freed_bytes(), 7);
  EXPECT_FALSE(Has(digest));
  EXPECT_TRUE(absl::IsNotFound(world_.files->Stat(digest).status()));
  EXPECT_EQ(Removed(), Names{});
}

TEST_F(CollectorTest, AnImageKeepsItsTreeAndTheSnapshotsOfItsConfig) {
  const content::Digest layer = world_.Blob("layer");
  world_.Committed("base", "");
  world_.Committed("top", "base");
  const content::Digest config =
      world_.Blob("config", {{"containerd.io/gc.ref.snapshot.native", "top"}});
  const content::Digest manifest =
      world_.Blob("manifest", {{"containerd.io/gc.ref.content.config", config.str()},
                               {"containerd.io/gc.ref.content.l.0", layer.str()}});
  world_.Image("x", manifest);
  EXPECT_EQ(Removed(), Names{});
  ASSERT_TRUE(world_.images.Delete(metadata::Scope{.ns = "default"}, "x").ok());
  EXPECT_EQ(Removed().size(), 5u);
  EXPECT_FALSE(HasSnapshot("base"));
  EXPECT_FALSE(Has(layer));
}

TEST_F(CollectorTest, SnapshotsGoChildrenFirstAndTheirFilesToo) {
  world_.Committed("1", "");
  world_.Committed("2", "1");
  world_.Committed("3", "2");
  const Collection collection = world_.Collect();
  ASSERT_EQ(collection.removed.size(), 3u);
  EXPECT_EQ(collection.removed[0].name, "3");
  EXPECT_EQ(collection.removed[1].name, "2");
  EXPECT_EQ(collection.removed[2].name, "1");
}

TEST_F(CollectorTest, SharedFilesGoWithTheLastNamespaceThatHasThem) {
  const Labels root = {{"containerd.io/gc.root", "yes"}};
  world_.Layer("chain", world_.Blob("layer", root, "a"), root, "a");
  world_.Blob("layer", root, "b");
  ASSERT_TRUE(world_.Snapshots("b").Share("chain", {.source = {}, .labels = root}).ok());
  const std::string file =
      world_.Snapshots("b").View("view", "chain", root).value().front().source + "/file";
  ASSERT_TRUE(world_.Snapshots("a").Update("chain", {}, {}).ok());
  EXPECT_EQ(Removed(), Names{"snapshot:chain"});
  EXPECT_TRUE(HasSnapshot("chain", "b"));
  EXPECT_TRUE(ReadFile(file, 1 << 20).ok());

  ASSERT_TRUE(world_.Snapshots("b").Update("chain", {}, {}).ok());
  EXPECT_EQ(Removed(), Names{});  // the view stands on it
  ASSERT_TRUE(world_.Snapshots("b").Remove("view").ok());
  EXPECT_EQ(Removed(), Names{"snapshot:chain"});
  EXPECT_FALSE(ReadFile(file, 1 << 20).ok());
}

// Calls back on each Now(), which the collector calls with each inventory.
class TellingClock final : public Clock {
 public:
  absl::Time Now() const override {
    if (asked) asked();
    return absl::FromUnixSeconds(1'700'000'000);
  }
  absl::Duration Monotonic() const override { return absl::ZeroDuration(); }

  std::function<void()> asked;
};

// What is swept was seen with the gate closed: a change between the look and the sweep could make
// garbage live.
TEST(CollectorGateTest, WhatIsTakenWasSeenWithTheGateClosed) {
  TempDir dir;
  TellingClock clock;
  World world(dir.path(), clock);
  const content::Digest digest = world.Blob("garbage");
  std::vector<bool> closed;
  clock.asked = [&] {
    closed.push_back(!world.db->gate().EnterExclusive(absl::ZeroDuration()).has_value());
  };
  const Collection collection = world.Collect();
  clock.asked = nullptr;
  EXPECT_EQ(World::Names(collection.removed), Names{World::NameOf(digest)});
  // First a look without the gate, then the collection inside it.
  EXPECT_EQ(closed, (std::vector<bool>{false, true}));
}

TEST_F(CollectorTest, AContainerKeepsItsSnapshotAndAllBelow) {
  world_.Committed("image", "");
  ASSERT_TRUE(world_.Snapshots().Prepare("c", "image", {}).ok());
  world_.Container("c", "c");
  EXPECT_EQ(Removed(), Names{});
  ASSERT_TRUE(world_.containers.Delete(metadata::Scope{.ns = "default"}, "c").ok());
  EXPECT_EQ(Removed(), (Names{"snapshot:c", "snapshot:image"}));
}

TEST_F(CollectorTest, LabelsOfContainersImagesAndSandboxesAreFollowed) {
  const content::Digest by_container = world_.Blob("1"), by_image = world_.Blob("2"),
                        by_sandbox = world_.Blob("3");
  const content::Digest target = world_.Blob("target");
  world_.Container("c", "", {{"containerd.io/gc.ref.content", by_container.str()}});
  world_.Image("i", target, {{"containerd.io/gc.ref.content/x", by_image.str()}});
  metadata::SandboxStore sandboxes(*world_.db, clock_);
  record::v1::Sandbox sandbox;
  sandbox.set_sandbox_id("pod");
  (*sandbox.mutable_labels())["containerd.io/gc.ref.content.0"] = by_sandbox.str();
  ASSERT_TRUE(sandboxes.Create(metadata::Scope{.ns = "default"}, sandbox).ok());
  EXPECT_EQ(Removed(), Names{});
}

TEST_F(CollectorTest, LabelsThatOnlyLookLikeReferencesKeepNothing) {
  const content::Digest digest = world_.Blob("garbage");
  world_.Container("c", "",
                   {{"containerd.io/gc.ref.contentious", digest.str()},
                    {"containerd.io/gc.ref", digest.str()},
                    {"example.com/gc.ref.content", digest.str()}});
  EXPECT_EQ(Removed(), Names{World::NameOf(digest)});
}

TEST_F(CollectorTest, ReferencesDoNotCrossNamespaces) {
  const content::Digest digest = world_.Blob("shared", {}, "a");
  world_.Blob("shared", {}, "b");
  world_.Image("x", digest, {}, "a");
  const Collection collection = world_.Collect();
  EXPECT_EQ(World::Names(collection.removed), Names{World::NameOf(digest)});
  EXPECT_EQ(collection.removed[0].ns, "b");
  EXPECT_TRUE(collection.blobs.empty());
  EXPECT_TRUE(Has(digest, "a"));
  EXPECT_TRUE(world_.files->Stat(digest).ok());
}

TEST_F(CollectorTest, GcRootKeepsContentAndSnapshots) {
  const content::Digest root =
      world_.Blob("root", {{"containerd.io/gc.root", "2026-01-01T00:00:00Z"}});
  world_.Committed("root", "", {{"containerd.io/gc.root", "yes"}});
  EXPECT_EQ(Removed(), Names{});
  ASSERT_TRUE(world_.Content().Update(root, {}, {"labels"}).ok());
  ASSERT_TRUE(world_.Snapshots().Update("root", {}, {"labels"}).ok());
  EXPECT_EQ(Removed().size(), 2u);
}

TEST_F(CollectorTest, ALeaseKeepsWhatItListsUntilItIsDeleted) {
  world_.Lease("l");
  const content::Digest layer = world_.Blob("layer");
  const content::Digest digest =
      world_.Blob("manifest", {{"containerd.io/gc.ref.content", layer.str()}}, "default", "l");
  world_.Committed("snap", "", {}, "default", "l");
  EXPECT_EQ(Removed(), Names{});
  ASSERT_TRUE(world_.leases.Delete(metadata::Scope{.ns = "default"}, "l").ok());
  EXPECT_EQ(Removed().size(), 3u);
}

TEST_F(CollectorTest, AnExpiredLeaseGoesWithWhatItKept) {
  world_.Lease("short", {{"containerd.io/gc.expire", In(absl::Minutes(1))}});
  world_.Lease("malformed", {{"containerd.io/gc.expire", "tomorrow"}});
  const content::Digest digest = world_.Blob("leased", {}, "default", "short");
  EXPECT_EQ(world_.Collect().next_expiry, clock_.Now() + absl::Minutes(1));
  clock_.Advance(absl::Minutes(2));
  const Collection collection = world_.Collect();
  EXPECT_EQ(World::Names(collection.removed), (Names{World::NameOf(digest), "lease:short"}));
  EXPECT_EQ(collection.next_expiry, absl::InfiniteFuture());
  // Its list is gone as well: a lease of the same name starts empty.
  world_.Lease("short");
  EXPECT_TRUE(world_.leases.ListResources(metadata::Scope{.ns = "default"}, "short")->empty());
}

TEST_F(CollectorTest, AFlatLeaseKeepsItsListAndParentsButNotLabels) {
  world_.Lease("flat", {{"containerd.io/gc.flat", "1"}});
  const content::Digest layer = world_.Blob("layer");
  const content::Digest manifest =
      world_.Blob("manifest", {{"containerd.io/gc.ref.content", layer.str()}}, "default", "flat");
  world_.Committed("base", "");
  world_.Committed("top", "base", {{"containerd.io/gc.ref.content", layer.str()}}, "default",
                   "flat");
  EXPECT_EQ(Removed(), Names{World::NameOf(layer)});
  EXPECT_TRUE(Has(manifest));
  EXPECT_TRUE(HasSnapshot("base"));
}

TEST_F(CollectorTest, AnExpiredImageGoesUnlessItIsReferenced) {
  const content::Digest a = world_.Blob("a"), b = world_.Blob("b");
  world_.Image("alone", a, {{"containerd.io/gc.expire", In(absl::Minutes(1))}});
  world_.Image("referenced", b, {{"containerd.io/gc.expire", In(absl::Minutes(1))}});
  world_.Container("c", "", {{"containerd.io/gc.ref.image", "referenced"}});
  EXPECT_EQ(Removed(), Names{});
  clock_.Advance(absl::Hours(1));
  EXPECT_EQ(Removed(), (Names{World::NameOf(a), "image:alone"}));
  EXPECT_TRUE(Has(b));
}

TEST_F(CollectorTest, BackReferencesLiveAsLongAsTheirParent) {
  const content::Digest manifest = world_.Blob("manifest");
  world_.Image("x", manifest);
  const content::Digest referrer =
      world_.Blob("referrer", {{"containerd.io/gc.bref.content", manifest.str()}});
  const content::Digest of_image =
      world_.Blob("of image", {{"containerd.io/gc.bref.image.sig", "x"}});
  world_.Committed("of container", "", {{"containerd.io/gc.bref.container", "c"}});
  world_.Committed("child", "", {{"containerd.io/gc.bref.snapshot.native", "of container"}});
  world_.Container("c", "");
  EXPECT_EQ(Removed(), Names{});
  ASSERT_TRUE(world_.containers.Delete(metadata::Scope{.ns = "default"}, "c").ok());
  EXPECT_EQ(Removed(), (Names{"snapshot:child", "snapshot:of container"}));
  ASSERT_TRUE(world_.images.Delete(metadata::Scope{.ns = "default"}, "x").ok());
  EXPECT_EQ(Removed().size(), 3u);
  EXPECT_FALSE(Has(referrer));
  EXPECT_FALSE(Has(of_image));
}

TEST_F(CollectorTest, AConditionalReferenceHoldsWhileTheSnapshotIsInUse) {
  world_.Committed("cache", "", {{"containerd.io/gc.cond.value-usedat", In(absl::ZeroDuration())}});
  world_.Committed("never used", "");
  const content::Digest config =
      world_.Blob("config", {{"containerd.io/gc.cond.snapshot.native", "usedat<24h|cache"},
                             {"containerd.io/gc.cond.snapshot.native/2", "usedat<24h|never used"}});
  world_.Image("x", config);
  EXPECT_EQ(Removed(), Names{"snapshot:never used"});
  clock_.Advance(absl::Hours(23));
  EXPECT_EQ(Removed(), Names{});
  clock_.Advance(absl::Hours(2));
  EXPECT_EQ(Removed(), Names{"snapshot:cache"});
  EXPECT_TRUE(Has(config));
}

TEST_F(CollectorTest, AnIngestWithoutLeaseLivesADay) {
  metadata::ContentNamespace content = world_.Content();
  {
    auto ingest = content.OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}});
    ASSERT_TRUE(ingest.ok());
    ASSERT_TRUE((*ingest)->Append("bytes").ok());
  }
  clock_.Advance(absl::Hours(23));
  EXPECT_EQ(Removed(), Names{});
  EXPECT_EQ(content.StatIngest("r")->offset_bytes, 5);
  clock_.Advance(absl::Hours(2));
  EXPECT_EQ(Removed(), Names{"ingest:r"});
  EXPECT_TRUE(world_.files->ListIngests()->empty());
}

TEST_F(CollectorTest, AnIngestUnderALeaseLivesAsLongAsTheLease) {
  world_.Lease("l");
  ASSERT_TRUE(world_.Content("default", "l")
                  .OpenIngest({.ref = "r", .total_bytes = 0, .expected = {}})
                  .ok());
  clock_.Advance(absl::Hours(48));
  EXPECT_EQ(Removed(), Names{});
  ASSERT_TRUE(world_.leases.Delete(metadata::Scope{.ns = "default"}, "l").ok());
  EXPECT_EQ(Removed(), Names{"ingest:r"});
}

TEST_F(CollectorTest, DeletedContentLeavesNoFileBehind) {
  const content::Digest digest = world_.Blob("gone");
  ASSERT_TRUE(world_.Content().Delete(digest).ok());
  EXPECT_TRUE(world_.files->Stat(digest).ok());
  EXPECT_EQ(world_.Collect().blobs.size(), 1u);
  EXPECT_TRUE(absl::IsNotFound(world_.files->Stat(digest).status()));
}

TEST_F(CollectorTest, AFullSweepFindsFilesThatNoRecordEverNamed) {
  ASSERT_TRUE(content::WriteBlob(*world_.files, "r", "orphan").ok());
  EXPECT_TRUE(world_.Collect(false).blobs.empty());
  EXPECT_EQ(world_.Collect(true).blobs.size(), 1u);
}

TEST_F(CollectorTest, AChangeInProgressStopsTheCollectorAndNotTheOthers) {
  world_.Blob("garbage");
  metadata::Transaction stuck = world_.db->Begin();
  EXPECT_TRUE(absl::IsUnavailable(
      world_.collector.Collect({.full_sweep = false, .gate_timeout = absl::Milliseconds(10)})
          .status()));
  world_.Container("c", "");
}

TEST_F(CollectorTest, WhereNothingIsDeadNobodyIsStopped) {
  world_.Image("x", world_.Blob("target"));
  metadata::Transaction in_progress = world_.db->Begin();
  const Collection collection = world_.Collect();
  EXPECT_EQ(collection.objects, 2);
  EXPECT_EQ(collection.pause, absl::ZeroDuration());
}

TEST_F(CollectorTest, FilesOfOtherRoomsAreSweptWithEachRun) {
  int swept = 0;
  absl::Status answer;
  world_.collector.AlsoSweep([&] {
    ++swept;
    return answer;
  });
  EXPECT_EQ(Removed(), Names{});
  EXPECT_EQ(swept, 1);
  answer = absl::ResourceExhaustedError("too many open files");
  const auto collection = world_.collector.Collect({});
  ASSERT_TRUE(collection.ok()) << collection.status();
  EXPECT_EQ(collection->leftovers, std::vector<absl::Status>{answer});
  EXPECT_EQ(swept, 2);
}

TEST_F(CollectorTest, ADamagedRecordStopsTheCollectionBeforeAnythingIsLost) {
  const content::Digest digest = world_.Blob("garbage");
  ASSERT_TRUE(world_.db
                  ->Run([](metadata::Transaction& tx) {
                    return tx.Put(metadata::Family::kImages, metadata::MakeKey("default", "broken"),
                                  "\xff\xff");
                  })
                  .ok());
  EXPECT_TRUE(absl::IsDataLoss(world_.collector.Collect().status()));
  EXPECT_TRUE(Has(digest));
}

}  // namespace
}  // namespace gantry::gc
