#include "supervisor/metadata/snapshot_namespace.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "content-store/local_store.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/overlay_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "snapshotter/snapshotter_conformance.h"
#include "supervisor/metadata/content_namespace.h"

namespace gantry::metadata {
namespace {

using snapshot::Snapshotter;
using snapshot::SnapshotterCase;
using snapshot::SnapshotterConformance;

std::unique_ptr<snapshot::SnapshotIndex> Index(Database& db, const std::string& prefix) {
  return snapshot::SnapshotIndex::Open(db.rocks(), db.snapshot_family(), prefix).value();
}

// Between two other namespaces in key order, which must not show.
struct OverOverlay {
  explicit OverOverlay(const std::string& directory)
      : db(Database::Open(directory).value()),
        below(snapshot::OverlaySnapshotter::Open(
                  {.root = directory + "/overlay", .mount_options = {}}, Index(*db, "overlay"))
                  .value()) {
    for (const char* other : {"a/key", "z/key"}) EXPECT_TRUE(below->Prepare(other, "", {}).ok());
  }

  std::unique_ptr<Database> db;
  std::unique_ptr<snapshot::OverlaySnapshotter> below;
  SnapshotNamespace ns{*below, "overlayfs", *db, Scope{.ns = "default"}};
};

INSTANTIATE_TEST_SUITE_P(SnapshotNamespace, SnapshotterConformance,
                         testing::Values(SnapshotterCase{
                             .name = "Namespace",
                             .make =
                                 [](const std::string& directory) {
                                   auto all = std::make_shared<OverOverlay>(directory);
                                   return std::shared_ptr<Snapshotter>(all, &all->ns);
                                 }}),
                         [](const auto& info) { return info.param.name; });

class SnapshotNamespaceTest : public testing::Test {
 protected:
  SnapshotNamespaceTest() { snapshotters_.Add("native", *below_); }

  SnapshotNamespace In(const std::string& ns, const std::string& lease = "") {
    return SnapshotNamespace::Create(snapshotters_, "native", *db_, Scope{.ns = ns, .lease = lease})
        .value();
  }

  std::string Leased(const std::string& ns, const std::string& id) {
    auto resources = leases_.ListResources(Scope{.ns = ns}, id);
    EXPECT_TRUE(resources.ok()) << resources.status();
    std::string text;
    for (const LeaseResource& resource : *resources)
      text += resource.type + ":" + resource.id + " ";
    return text;
  }

  void MakeLease(const std::string& ns, const std::string& id) {
    record::v1::Lease lease;
    lease.set_id(id);
    ASSERT_TRUE(leases_.Create(Scope{.ns = ns}, lease).ok());
  }

  TempDir dir_;
  std::unique_ptr<Database> db_ = Database::Open(dir_.path()).value();
  std::unique_ptr<snapshot::NativeSnapshotter> below_ =
      snapshot::NativeSnapshotter::Open(dir_.path() + "/native", Index(*db_, "native")).value();
  Snapshotters snapshotters_;
  LeaseStore leases_{*db_, Clock::Real()};
};

TEST_F(SnapshotNamespaceTest, KeysAreTheNamespacesOwn) {
  SnapshotNamespace a = In("a"), b = In("b");
  ASSERT_TRUE(a.Prepare("key", "", {{"of", "a"}}).ok());
  EXPECT_TRUE(absl::IsNotFound(b.Stat("key").status()));
  EXPECT_TRUE(absl::IsNotFound(b.Remove("key")));
  EXPECT_TRUE(absl::IsNotFound(b.Prepare("child", "key", {}).status()));
  ASSERT_TRUE(b.Prepare("key", "", {}).ok());
  ASSERT_TRUE(a.Commit("layer", "key", {}).ok());
  ASSERT_TRUE(a.Prepare("top", "layer", {}).ok());
  EXPECT_EQ(a.Stat("top")->parent, "layer");
  std::string seen;
  ASSERT_TRUE(a.Walk([&seen](const snapshot::Info& info) {
                 seen += info.name + "<" + info.parent + " ";
                 return absl::OkStatus();
               }).ok());
  EXPECT_EQ(seen, "layer< top<layer ");
}

TEST_F(SnapshotNamespaceTest, AnUnknownSnapshotterIsInvalidAndTheMessageListsThoseThereAre) {
  for (const char* name : {"", "zfs"}) {
    const absl::Status status =
        SnapshotNamespace::Create(snapshotters_, name, *db_, Scope{.ns = "a"}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_NE(status.message().find("native"), absl::string_view::npos);
  }
}

TEST_F(SnapshotNamespaceTest, TheLeaseFollowsASnapshotFromKeyToName) {
  MakeLease("a", "l");
  SnapshotNamespace leased = In("a", "l");
  ASSERT_TRUE(leased.Prepare("key", "", {}).ok());
  EXPECT_EQ(Leased("a", "l"), "snapshots/native:key ");
  ASSERT_TRUE(leased.Commit("layer", "key", {}).ok());
  EXPECT_EQ(Leased("a", "l"), "snapshots/native:layer ");
  ASSERT_TRUE(leased.View("view", "layer", {}).ok());
  ASSERT_TRUE(leased.Remove("view").ok());
  EXPECT_EQ(Leased("a", "l"), "snapshots/native:layer ");
}

TEST_F(SnapshotNamespaceTest, PreparingWhatIsCommittedAlreadySaysSoAndLeasesIt) {
  SnapshotNamespace plain = In("a");
  ASSERT_TRUE(plain.Prepare("key", "", {}).ok());
  const snapshot::Labels target = {{"containerd.io/snapshot.ref", "sha256:chain"}};
  ASSERT_TRUE(plain.Prepare("first", "", target).ok());
  ASSERT_TRUE(plain.Commit("sha256:chain", "first", {}).ok());
  MakeLease("a", "l");
  SnapshotNamespace leased = In("a", "l");
  EXPECT_TRUE(absl::IsAlreadyExists(leased.Prepare("second", "", target).status()));
  EXPECT_TRUE(absl::IsNotFound(plain.Stat("second").status()));
  EXPECT_EQ(Leased("a", "l"), "snapshots/native:sha256:chain ");
}

// Two layers of an image, "base" and "top", that namespace "a" has unpacked; every namespace named
// here holds the blobs that Hold() gave it.
class SharedLayersTest : public SnapshotNamespaceTest {
 protected:
  SharedLayersTest() {
    SnapshotNamespace a = In("a");
    Layer(a, "base", "", "blob 1");
    Layer(a, "top", "base", "blob 2");
    EXPECT_TRUE(In("b").Prepare("of its own", "", {}).ok());
  }
  static std::string Digest(const std::string& blob) {
    return content::Digest::Sha256Of(blob).str();
  }
  static void Layer(SnapshotNamespace& snapshots, const std::string& name,
                    const std::string& parent, const std::string& blob) {
    ASSERT_TRUE(snapshots.Prepare("active " + name, parent, {}).ok());
    snapshot::CommitOptions options;
    if (!blob.empty()) options.layer = Digest(blob);
    ASSERT_TRUE(snapshots.Commit(name, "active " + name, options).ok());
  }
  void Hold(const std::string& ns, const std::string& blob) {
    ContentNamespace store(pool_, *db_, Clock::Real(), Scope{.ns = ns});
    ASSERT_TRUE(content::WriteBlob(store, "ref", blob).ok());
  }
  uint64_t DirectoryOf(const std::string& ns, const std::string& name) {
    return In(ns).Stat(name).value().directory;
  }

  std::unique_ptr<content::LocalStore> files_ =
      content::LocalStore::Open(dir_.path() + "/content").value();
  BlobPool pool_{*files_, *db_};
};

TEST_F(SharedLayersTest, ANamespaceThatHoldsTheBlobsSharesTheDirectories) {
  Hold("b", "blob 1");
  Hold("b", "blob 2");
  MakeLease("b", "l");
  SnapshotNamespace b = In("b", "l");
  ASSERT_TRUE(b.Share("base", {}).ok());
  ASSERT_TRUE(b.Share("top", {.source = {}, .parent = "base", .labels = {{"l", "v"}}}).ok());
  for (const char* name : {"base", "top"})
    EXPECT_EQ(DirectoryOf("a", name), DirectoryOf("b", name));
  EXPECT_EQ(b.Stat("top")->parent, "base");
  EXPECT_EQ(b.Stat("top")->labels, (snapshot::Labels{{"l", "v"}}));
  EXPECT_EQ(Leased("b", "l"), "snapshots/native:base snapshots/native:top ");
  EXPECT_TRUE(absl::IsAlreadyExists(b.Share("base", {})));
  // Each namespace's record is its own.
  EXPECT_TRUE(In("a").Remove("top").ok());
  EXPECT_TRUE(b.Stat("top").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(b.Remove("base")));
}

TEST_F(SharedLayersTest, ANamespaceWithoutTheBlobGetsNothing) {
  EXPECT_TRUE(absl::IsNotFound(In("b").Share("base", {})));
  Hold("b", "blob 2");
  EXPECT_TRUE(absl::IsNotFound(In("b").Share("base", {})));
  Hold("c", "blob 1");
  EXPECT_TRUE(absl::IsNotFound(In("b").Share("base", {})));
  EXPECT_TRUE(absl::IsNotFound(In("b").Stat("base").status()));
  // One that has unpacked the same layer from another blob does hold the content.
  EXPECT_TRUE(In("b").Share("base", {.source = {}, .layer = Digest("other compression")}).ok());
  EXPECT_EQ(In("b").Stat("base")->layer, Digest("other compression"));
}

TEST_F(SharedLayersTest, OnlyALayerOnTheSameParentIsShared) {
  for (const char* blob : {"blob 1", "blob 2"}) Hold("b", blob);
  SnapshotNamespace b = In("b"), c = In("c");
  EXPECT_TRUE(absl::IsNotFound(b.Share("top", {})));  // there it stands on "base"
  EXPECT_TRUE(absl::IsNotFound(b.Share("top", {.source = {}, .parent = "base"})));
  EXPECT_TRUE(absl::IsInvalidArgument(b.Share("base", {.source = "a/base"})));
  // What a client committed under any name it likes was compared with nothing.
  Layer(c, "claimed", "", "");
  EXPECT_TRUE(absl::IsNotFound(b.Share("claimed", {})));
  Layer(b, "base", "", "");
  EXPECT_FALSE(b.Share("top", {.source = {}, .parent = "base"}).ok());
  EXPECT_TRUE(absl::IsNotFound(b.Stat("top").status()));
}

TEST_F(SharedLayersTest, PrepareWithATargetSharesItAndSaysThatItIsThere) {
  const auto target = [](const char* name) {
    return snapshot::Labels{{"containerd.io/snapshot.ref", name}};
  };
  SnapshotNamespace b = In("b");
  EXPECT_TRUE(b.Prepare("without blob", "", target("base")).ok());
  Hold("b", "blob 1");
  EXPECT_TRUE(absl::IsAlreadyExists(b.Prepare("k", "", target("base")).status()));
  EXPECT_EQ(DirectoryOf("b", "base"), DirectoryOf("a", "base"));
  EXPECT_EQ(b.Stat("base")->labels, target("base"));
  EXPECT_TRUE(b.Prepare("k", "base", target("top")).ok());
}

TEST_F(SnapshotNamespaceTest, AnUnknownLeaseIsNotFoundAndNothingIsMade) {
  EXPECT_TRUE(absl::IsNotFound(In("a", "missing").Prepare("key", "", {}).status()));
  EXPECT_TRUE(absl::IsNotFound(In("a").Stat("key").status()));
}

TEST_F(SnapshotNamespaceTest, ALeaseThatEndedDoesNotStopARemoval) {
  MakeLease("a", "l");
  SnapshotNamespace leased = In("a", "l");
  ASSERT_TRUE(leased.Prepare("key", "", {}).ok());
  ASSERT_TRUE(leases_.Delete(Scope{.ns = "a"}, "l").ok());
  EXPECT_TRUE(leased.Remove("key").ok());
  EXPECT_TRUE(absl::IsNotFound(In("a").Stat("key").status()));
}

TEST_F(SnapshotNamespaceTest, BadKeysAndLabelsAreInvalid) {
  SnapshotNamespace a = In("a");
  EXPECT_TRUE(absl::IsInvalidArgument(a.Prepare("", "", {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(a.Prepare(std::string("a\0b", 3), "", {}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(a.Prepare("key", "", {{"k", std::string(5000, 'v')}}).status()));
  EXPECT_TRUE(absl::IsNotFound(a.Stat("key").status()));
  ASSERT_TRUE(a.Prepare("key", "", {{"empty", ""}, {"k", "v"}}).ok());
  EXPECT_EQ(a.Stat("key")->labels, (snapshot::Labels{{"k", "v"}}));
}

}  // namespace
}  // namespace gantry::metadata
