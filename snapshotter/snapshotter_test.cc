// Both snapshotters against the conformance suite, and what each promises beyond it; the index
// under them.
#include <fcntl.h>
#include <rocksdb/db.h>
#include <sys/stat.h>
#include <unistd.h>

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
