// Both snapshotters against the conformance suite, and what each promises beyond it; the index
// under them.
#include <fcntl.h>
#include <rocksdb/db.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/overlay_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "snapshotter/snapshotter_conformance.h"

namespace gantry::snapshot {
namespace {

std::unique_ptr<rocksdb::DB> OpenDatabase(const std::string& path) {
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(options, path, &db);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return std::unique_ptr<rocksdb::DB>(db);
}

std::unique_ptr<SnapshotIndex> OpenIndex(rocksdb::DB& db, const std::string& prefix) {
  return SnapshotIndex::Open(&db, db.DefaultColumnFamily(), prefix).value();
}

// The snapshotter, and after it the database that it uses.
template <typename T>
std::shared_ptr<Snapshotter> Bundle(std::unique_ptr<rocksdb::DB> db,
                                    std::unique_ptr<T> snapshotter) {
  Snapshotter* raw = snapshotter.get();
  const auto keep = std::make_shared<std::pair<std::unique_ptr<rocksdb::DB>, std::unique_ptr<T>>>(
      std::move(db), std::move(snapshotter));
  return std::shared_ptr<Snapshotter>(keep, raw);
}

std::shared_ptr<Snapshotter> MakeOverlay(const std::string& directory) {
  EXPECT_TRUE(MakeDirectories(directory).ok());
  std::unique_ptr<rocksdb::DB> db = OpenDatabase(directory + "/db");
  absl::StatusOr<std::unique_ptr<OverlaySnapshotter>> snapshotter = OverlaySnapshotter::Open(
      {.root = directory + "/overlay", .mount_options = {}}, OpenIndex(*db, "overlay"));
  EXPECT_TRUE(snapshotter.ok()) << snapshotter.status();
  return Bundle(std::move(db), *std::move(snapshotter));
}

std::shared_ptr<Snapshotter> MakeNative(const std::string& directory) {
  EXPECT_TRUE(MakeDirectories(directory).ok());
  std::unique_ptr<rocksdb::DB> db = OpenDatabase(directory + "/db");
  absl::StatusOr<std::unique_ptr<NativeSnapshotter>> snapshotter =
      NativeSnapshotter::Open(directory + "/native", OpenIndex(*db, "native"));
  EXPECT_TRUE(snapshotter.ok()) << snapshotter.status();
  return Bundle(std::move(db), *std::move(snapshotter));
}

INSTANTIATE_TEST_SUITE_P(Snapshotters, SnapshotterConformance,
                         testing::Values(SnapshotterCase{.name = "Overlay", .make = MakeOverlay},
                                         SnapshotterCase{.name = "Native", .make = MakeNative}),
                         [](const testing::TestParamInfo<SnapshotterCase>& info) {
                           return info.param.name;
                         });

class OverlaySnapshotterTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    db_ = OpenDatabase(directory_.Join("db"));
    Reopen({});
  }
  void Reopen(std::vector<std::string> mount_options) {
    snapshotter_.reset();
    absl::StatusOr<std::unique_ptr<OverlaySnapshotter>> opened = OverlaySnapshotter::Open(
        {.root = directory_.Join("root"), .mount_options = std::move(mount_options)},
        OpenIndex(*db_, "overlay"));
    ASSERT_TRUE(opened.ok()) << opened.status();
    snapshotter_ = *std::move(opened);
  }
  std::string Path(const std::string& rest) const {
    return directory_.Join("root/snapshots/" + rest);
  }
  static std::vector<std::string> Trailing(std::vector<std::string> options) {
    if (access("/sys/module/overlay/parameters/index", F_OK) == 0) options.push_back("index=off");
    return options;
  }

  TempDir directory_;
  std::unique_ptr<rocksdb::DB> db_;
  std::unique_ptr<OverlaySnapshotter> snapshotter_;
};

TEST_F(OverlaySnapshotterTest, MountsAreTheExpectedOnes) {
  const auto mounts = [](const absl::StatusOr<std::vector<Mount>>& result) {
    return result.value().at(0);
  };
  // 1, 2, 3 are the ids of the layers.
  EXPECT_EQ(
      mounts(snapshotter_->Prepare("a1", "", {})),
      (Mount{.type = "bind", .source = Path("1/fs"), .target = "", .options = {"rw", "rbind"}}));
  ASSERT_TRUE(snapshotter_->Commit("c1", "a1", {}).ok());
  EXPECT_EQ(mounts(snapshotter_->Prepare("a2", "c1", {})),
            (Mount{.type = "overlay",
                   .source = "overlay",
                   .target = "",
                   .options = Trailing({"workdir=" + Path("2/work"), "upperdir=" + Path("2/fs"),
                                        "lowerdir=" + Path("1/fs")})}));
  ASSERT_TRUE(snapshotter_->Commit("c2", "a2", {}).ok());
  EXPECT_EQ(
      mounts(snapshotter_->View("v0", "", {})),
      (Mount{.type = "bind", .source = Path("3/fs"), .target = "", .options = {"ro", "rbind"}}));
  EXPECT_EQ(
      mounts(snapshotter_->View("v1", "c1", {})),
      (Mount{.type = "bind", .source = Path("1/fs"), .target = "", .options = {"ro", "rbind"}}));
  EXPECT_EQ(mounts(snapshotter_->View("v2", "c2", {})),
            (Mount{.type = "overlay",
                   .source = "overlay",
                   .target = "",
                   .options = Trailing({"lowerdir=" + Path("2/fs") + ":" + Path("1/fs")})}));
  EXPECT_EQ(mounts(snapshotter_->Mounts("v2")), mounts(snapshotter_->Mounts("v2")));
}

TEST_F(OverlaySnapshotterTest, ConfiguredOptionsComeLast) {
  Reopen({"metacopy=off"});
  ASSERT_TRUE(snapshotter_->Prepare("a", "", {}).ok());
  ASSERT_TRUE(snapshotter_->Commit("c", "a", {}).ok());
  const std::vector<std::string> options =
      snapshotter_->Prepare("b", "c", {}).value().at(0).options;
  EXPECT_EQ(std::vector<std::string>(options.begin() + 3, options.end()),
            Trailing({"metacopy=off"}));
}

TEST_F(OverlaySnapshotterTest, IdMapsAreTheFirstOptions) {
  const Mount mount = snapshotter_
                          ->Prepare("a", "",
                                    {{"containerd.io/snapshot/uidmapping", "0:1000:65536"},
                                     {"containerd.io/snapshot/gidmapping", "0:2000:65536"}})
                          .value()
                          .at(0);
  EXPECT_EQ(mount.options, (std::vector<std::string>{"uidmap=0:1000:65536", "gidmap=0:2000:65536",
                                                     "rw", "rbind"}));
  struct stat stat;
  ASSERT_EQ(::stat(mount.source.c_str(), &stat), 0);
  EXPECT_EQ(stat.st_uid, 1000u);
  EXPECT_EQ(stat.st_gid, 2000u);
}

TEST_F(OverlaySnapshotterTest, DirectoriesHaveTheirModes) {
  ASSERT_TRUE(snapshotter_->Prepare("a", "", {}).ok());
  ASSERT_EQ(chown(Path("1/fs").c_str(), 7, 8), 0);
  ASSERT_TRUE(snapshotter_->Commit("c", "a", {}).ok());
  ASSERT_TRUE(snapshotter_->Prepare("b", "c", {}).ok());
  struct stat stat;
  ASSERT_EQ(::stat(Path("2/fs").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 07777, 0755u);
  EXPECT_EQ(stat.st_uid, 7u);
  EXPECT_EQ(stat.st_gid, 8u);
  ASSERT_EQ(::stat(Path("2/work").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_mode & 0711, 0711u);
}

TEST_F(OverlaySnapshotterTest, WhatNoRecordNamesGoesWithTheNextCleanup) {
  ASSERT_TRUE(snapshotter_->Prepare("keep", "", {}).ok());
  ASSERT_TRUE(snapshotter_->Prepare("removed", "", {}).ok());
  ASSERT_TRUE(snapshotter_->Remove("removed").ok());
  ASSERT_TRUE(MakeDirectories(Path("77/fs")).ok());
  ASSERT_TRUE(MakeDirectories(Path("not-an-id")).ok());
  Reopen({});
  // A start waits for no file, and gives no id out again whose directory is still there.
  EXPECT_EQ(access(Path("2").c_str(), F_OK), 0);
  EXPECT_EQ(MountedDirectories(snapshotter_->Prepare("new", "", {}).value()).at(0), Path("78/fs"));
  CancelToken cancelled;
  cancelled.Cancel();
  EXPECT_EQ(snapshotter_->Cleanup(&cancelled).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(access(Path("2").c_str(), F_OK), 0);
  EXPECT_TRUE(snapshotter_->Cleanup(nullptr).ok());
  EXPECT_EQ(access(Path("1/fs").c_str(), F_OK), 0);
  EXPECT_NE(access(Path("2").c_str(), F_OK), 0);
  EXPECT_NE(access(Path("77").c_str(), F_OK), 0);
  EXPECT_EQ(access(Path("not-an-id").c_str(), F_OK), 0);
}

TEST_F(OverlaySnapshotterTest, RecordsSurviveARestart) {
  ASSERT_TRUE(snapshotter_->Prepare("a", "", {}).ok());
  ASSERT_TRUE(snapshotter_->Commit("c", "a", {.labels = {{"k", "v"}}, .parent = ""}).ok());
  ASSERT_TRUE(snapshotter_->Prepare("b", "c", {}).ok());
  const std::vector<Mount> before = snapshotter_->Mounts("b").value();
  snapshotter_.reset();
  db_.reset();
  db_ = OpenDatabase(directory_.Join("db"));
  Reopen({});
  EXPECT_EQ(snapshotter_->Mounts("b").value(), before);
  EXPECT_EQ(snapshotter_->Stat("c")->labels, (Labels{{"k", "v"}}));
  EXPECT_EQ(snapshotter_->Remove("c").code(), absl::StatusCode::kFailedPrecondition);
  const std::string fresh = MountedDirectories(snapshotter_->Prepare("new", "", {}).value()).at(0);
  EXPECT_NE(fresh, MountedDirectories(before).at(0));
}

TEST_F(OverlaySnapshotterTest, DirectoryLostToAPowerCutIsMadeAgain) {
  ASSERT_TRUE(snapshotter_->Prepare("a", "", {}).ok());
  ASSERT_TRUE(RemoveTree(Path("1")).ok());
  ASSERT_TRUE(snapshotter_->Mounts("a").ok());
  EXPECT_EQ(access(Path("1/fs").c_str(), F_OK), 0);
}

TEST_F(OverlaySnapshotterTest, RootThatWouldBreakMountOptionsIsRefused) {
  for (const std::string& root :
       {directory_.Join("a:b"), directory_.Join("a,b"), std::string("relative")}) {
    EXPECT_EQ(
        OverlaySnapshotter::Open({.root = root, .mount_options = {}}, OpenIndex(*db_, "other"))
            .status()
            .code(),
        absl::StatusCode::kInvalidArgument)
        << root;
  }
}

TEST_F(OverlaySnapshotterTest, RootOnAFileSystemThatCannotIsRefused) {
  if (access("/proc/sys", F_OK) != 0) GTEST_SKIP() << "no /proc";
  // An overlay with an upper directory of its own cannot carry another one's upper directory.
  for (const char* name : {"l", "u", "w", "m"})
    ASSERT_TRUE(MakeDirectories(directory_.Join(name)).ok());
  absl::StatusOr<ScopedMount> below = ScopedMount::Create(
      {{.type = "overlay",
        .source = "overlay",
        .target = "",
        .options = {"lowerdir=" + directory_.Join("l"), "upperdir=" + directory_.Join("u"),
                    "workdir=" + directory_.Join("w")}}},
      directory_.Join("m"));
  ASSERT_TRUE(below.ok()) << below.status();
  const absl::Status status =
      OverlaySnapshotter::Open({.root = directory_.Join("m/root"), .mount_options = {}},
                               OpenIndex(*db_, "other"))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("native snapshotter"), absl::string_view::npos) << status;
}

// Layers whose files two records name.
class SharedFilesTest : public testing::TestWithParam<SnapshotterCase> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    Reopen();
    Commit("a/base", "", "base", "sha256:1");
    Commit("a/top", "a/base", "top", "sha256:2");
    ASSERT_TRUE(snapshotter_->Share("b/base", {.source = "a/base"}).ok());
    ASSERT_TRUE(snapshotter_->Share("b/top", {.source = "a/top", .parent = "b/base"}).ok());
  }
  void Reopen() {
    snapshotter_.reset();
    snapshotter_ = GetParam().make(directory_.Join("root"));
  }
  void Commit(const std::string& name, const std::string& parent, const std::string& file,
              const std::string& layer) {
    const absl::StatusOr<std::vector<Mount>> mounts =
        snapshotter_->Prepare(name + " active", parent, {});
    ASSERT_TRUE(mounts.ok()) << mounts.status();
    ASSERT_TRUE(WriteFile(MountedDirectories(*mounts).at(0) + "/" + file, file).ok());
    ASSERT_TRUE(snapshotter_
                    ->Commit(name, name + " active",
                             {.labels = {}, .parent = "", .sync = true, .layer = layer})
                    .ok());
  }
  // The names in a view of `name`.
  std::vector<std::string> FilesOf(const std::string& name) {
    const absl::StatusOr<std::vector<Mount>> mounts = snapshotter_->View("view", name, {});
    EXPECT_TRUE(mounts.ok()) << mounts.status();
    const std::string at = directory_.Join("mnt");
    EXPECT_TRUE(MakeDirectories(at).ok());
    std::vector<std::string> names;
    {
      const absl::StatusOr<ScopedMount> mounted = ScopedMount::Create(*mounts, at);
      EXPECT_TRUE(mounted.ok()) << mounted.status();
      names = ListDirectory(at).value();
    }
    EXPECT_TRUE(snapshotter_->Remove("view").ok());
    std::sort(names.begin(), names.end());
    return names;
  }
  size_t Directories() {
    const std::string native = directory_.Join("root/native/snapshots");
    return ListDirectory(access(native.c_str(), F_OK) == 0
                             ? native
                             : directory_.Join("root/overlay/snapshots"))
        .value()
        .size();
  }

  const std::vector<std::string> both_ = {"base", "top"};
  TempDir directory_;
  std::shared_ptr<Snapshotter> snapshotter_;
};

INSTANTIATE_TEST_SUITE_P(Snapshotters, SharedFilesTest,
                         testing::Values(SnapshotterCase{.name = "Overlay", .make = MakeOverlay},
                                         SnapshotterCase{.name = "Native", .make = MakeNative}),
                         [](const testing::TestParamInfo<SnapshotterCase>& info) {
                           return info.param.name;
                         });

TEST_P(SharedFilesTest, BothRecordsShowTheSameFiles) {
  EXPECT_EQ(FilesOf("a/top"), both_);
  EXPECT_EQ(FilesOf("b/top"), both_);
  EXPECT_EQ(FilesOf("b/base"), std::vector<std::string>{"base"});
  EXPECT_EQ(Directories(), 2u);
  const Info info = snapshotter_->Stat("b/top").value();
  EXPECT_EQ(info.kind, Kind::kCommitted);
  EXPECT_EQ(info.parent, "b/base");
  EXPECT_EQ(info.layer, "sha256:2");
  EXPECT_EQ(info.directory, snapshotter_->Stat("a/top")->directory);
  EXPECT_EQ(snapshotter_->Usage("b/top")->size_bytes, snapshotter_->Usage("a/top")->size_bytes);
}

TEST_P(SharedFilesTest, FilesGoWithTheLastRecord) {
  ASSERT_TRUE(snapshotter_->Remove("a/top").ok());
  ASSERT_TRUE(snapshotter_->Remove("a/base").ok());
  ASSERT_TRUE(snapshotter_->Cleanup(nullptr).ok());
  EXPECT_EQ(FilesOf("b/top"), both_);
  Reopen();
  ASSERT_TRUE(snapshotter_->Cleanup(nullptr).ok());
  EXPECT_EQ(FilesOf("b/top"), both_);
  EXPECT_EQ(snapshotter_->Remove("b/base").code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(snapshotter_->Remove("b/top").ok());
  ASSERT_TRUE(snapshotter_->Remove("b/base").ok());
  ASSERT_TRUE(snapshotter_->Cleanup(nullptr).ok());
  EXPECT_EQ(Directories(), 0u);
}

TEST_P(SharedFilesTest, ChildrenHoldTheirOwnParentOnly) {
  ASSERT_TRUE(snapshotter_->Prepare("b/container", "b/top", {}).ok());
  EXPECT_EQ(snapshotter_->Remove("b/top").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(snapshotter_->Remove("a/top").ok());
  EXPECT_TRUE(snapshotter_->Remove("a/base").ok());
  ASSERT_TRUE(snapshotter_->Cleanup(nullptr).ok());
  const Info container = snapshotter_->Stat("b/container").value();
  EXPECT_NE(container.directory, snapshotter_->Stat("b/top")->directory);
  ASSERT_TRUE(snapshotter_->Commit("b/image", "b/container", {}).ok());
  EXPECT_EQ(FilesOf("b/image"), both_);
  // Nothing that is made now may take the place of files that are in use.
  Reopen();
  Commit("c", "", "c", "");
  EXPECT_EQ(FilesOf("b/image"), both_);
}

TEST_P(SharedFilesTest, WhatCannotBeSharedIsRefused) {
  const auto share = [this](const std::string& name, const std::string& source,
                            const std::string& parent) {
    return snapshotter_->Share(name, {.source = source, .parent = parent}).code();
  };
  EXPECT_EQ(share("b/top", "a/top", "b/base"), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(share("n", "nowhere", ""), absl::StatusCode::kNotFound);
  EXPECT_EQ(share("n", "a/top", "nowhere"), absl::StatusCode::kNotFound);
  Commit("unnamed", "", "x", "");
  EXPECT_EQ(share("n", "unnamed", ""), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(snapshotter_->Prepare("active", "", {}).ok());
  EXPECT_EQ(share("n", "active", ""), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(snapshotter_->Share("n", {.source = "a/top", .parent = "active"}).ok());
  EXPECT_EQ(snapshotter_->Stat("n").status().code(), absl::StatusCode::kNotFound);
}

class SnapshotIndexTest : public testing::Test {
 protected:
  TempDir directory_;
  std::unique_ptr<rocksdb::DB> db_ = OpenDatabase(directory_.Join("db"));
  std::unique_ptr<SnapshotIndex> index_ = OpenIndex(*db_, "a");

  uint64_t Create(const std::string& key, const std::string& parent) {
    return index_->Create(index_->ReserveId(), Kind::kActive, key, parent, {}).value().id;
  }
};

TEST_F(SnapshotIndexTest, KeepsEveryField) {
  const uint64_t base = Create("base-active", "");
  ASSERT_TRUE(index_
                  ->Commit("base", "base-active", {.size_bytes = 12345678901, .inodes = 7},
                           {.labels = {{"a", "b"}}, .parent = ""})
                  .ok());
  const uint64_t child = Create("child", "base");
  const SnapshotRecord record = index_->Get("base").value();
  EXPECT_EQ(record.id, base);
  EXPECT_EQ(record.info.kind, Kind::kCommitted);
  EXPECT_EQ(record.usage.size_bytes, 12345678901);
  EXPECT_EQ(record.usage.inodes, 7);
  EXPECT_EQ(record.info.labels, (Labels{{"a", "b"}}));
  EXPECT_NE(child, base);
  EXPECT_EQ(index_->Get("child")->ancestors, std::vector<uint64_t>{base});
  EXPECT_EQ(index_->Get("child")->info.parent, "base");
}

TEST_F(SnapshotIndexTest, IndexesUnderDifferentPrefixesDoNotMix) {
  const std::unique_ptr<SnapshotIndex> other = OpenIndex(*db_, "b");
  Create("k", "");
  EXPECT_EQ(other->Get("k").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(other->Create(other->ReserveId(), Kind::kActive, "k", "", {}).ok());
  int visited = 0;
  EXPECT_TRUE(index_
                  ->Walk([&](const SnapshotRecord&) {
                    ++visited;
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_EQ(visited, 1);
}

TEST_F(SnapshotIndexTest, RecordsThatShareNothingAreWrittenAsBefore) {
  const auto stored = [this](const char* key) {
    std::string value;
    EXPECT_TRUE(db_->Get(rocksdb::ReadOptions(), key, &value).ok());
    return static_cast<int>(value.at(0));
  };
  Create("base-active", "");
  ASSERT_TRUE(index_->Commit("base", "base-active", {}, {}).ok());
  Create("layer-active", "");
  CommitOptions layer;
  layer.layer = "sha256:1";
  ASSERT_TRUE(index_->Commit("layer", "layer-active", {}, layer).ok());
  Create("child", "base");
  ASSERT_TRUE(index_->Share("shared", {.source = "layer"}).ok());
  Create("on shared", "shared");
  EXPECT_EQ(stored("a/k/base"), 1);
  EXPECT_EQ(stored("a/k/child"), 1);
  EXPECT_EQ(stored("a/k/layer"), 2);
  EXPECT_EQ(stored("a/k/shared"), 2);
  EXPECT_EQ(stored("a/k/on shared"), 2);
  const SnapshotRecord child = index_->Get("on shared").value();
  EXPECT_EQ(child.parent_id, index_->Get("shared")->id);
  EXPECT_EQ(child.ancestors, std::vector<uint64_t>{index_->Get("layer")->id});
}

TEST_F(SnapshotIndexTest, AFileIsAnOrphanWhenNoRecordNamesIt) {
  const uint64_t directory = Create("active", "");
  CommitOptions layer;
  layer.layer = "sha256:1";
  ASSERT_TRUE(index_->Commit("one", "active", {}, layer).ok());
  const uint64_t two = index_->Share("two", {.source = "one"})->id;
  EXPECT_NE(two, directory);
  ASSERT_TRUE(index_->Remove("one").ok());
  EXPECT_EQ(index_->Orphans({directory, two}).value(), std::vector<uint64_t>{two});
  EXPECT_GT(OpenIndex(*db_, "a")->ReserveId(), two);
  ASSERT_TRUE(index_->Remove("two").ok());
  EXPECT_EQ(index_->Orphans({directory}).value(), std::vector<uint64_t>{directory});
}

TEST_F(SnapshotIndexTest, DamagedRecordsAreReported) {
  Create("k", "");
  std::string value;
  ASSERT_TRUE(db_->Get(rocksdb::ReadOptions(), "a/k/k", &value).ok());
  for (size_t keep = 0; keep < value.size(); ++keep) {
    ASSERT_TRUE(db_->Put(rocksdb::WriteOptions(), "a/k/k", value.substr(0, keep)).ok());
    EXPECT_EQ(index_->Get("k").status().code(), absl::StatusCode::kDataLoss) << keep;
  }
  ASSERT_TRUE(db_->Put(rocksdb::WriteOptions(), "a/k/k", value + "x").ok());
  EXPECT_EQ(index_->Get("k").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(index_->Orphans({1}).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(SnapshotIndexTest, ReservedIdsAreNoOrphans) {
  const uint64_t reserved = index_->ReserveId();
  const uint64_t recorded = Create("k", "");
  EXPECT_EQ(index_->Orphans({reserved, recorded, 99}).value(), std::vector<uint64_t>{99});
  index_->Forget(reserved);
  EXPECT_EQ(index_->Orphans({reserved, recorded}).value(), std::vector<uint64_t>{reserved});
}

TEST_F(SnapshotIndexTest, IdsInUseAreNotHandedOut) {
  index_->SkipIds(41);
  EXPECT_EQ(index_->ReserveId(), 42u);
  Create("k", "");
  EXPECT_GT(OpenIndex(*db_, "a")->ReserveId(), index_->Get("k")->id);
}

}  // namespace
}  // namespace gantry::snapshot
