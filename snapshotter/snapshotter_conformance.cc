#include "snapshotter/snapshotter_conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/file.h"

namespace gantry::snapshot {
namespace {

using absl::StatusCode;

std::string NewDirectory() {
  std::string path = testing::TempDir() + "/snapshotter.XXXXXX";
  return mkdtemp(path.data()) == nullptr ? std::string() : path;
}

void Write(const std::string& path, const std::string& text) {
  const absl::Status status = WriteFile(path, text);
  EXPECT_TRUE(status.ok()) << status;
}

std::string Read(const std::string& path) {
  return ReadFile(path, 1 << 20).value_or("(unreadable)");
}

bool Exists(const std::string& path) {
  struct stat stat;
  return lstat(path.c_str(), &stat) == 0;
}

std::vector<std::string> AllNames(Snapshotter& snapshotter) {
  std::vector<std::string> names;
  EXPECT_TRUE(snapshotter
                  .Walk([&](const Info& info) {
                    names.push_back(info.name);
                    return absl::OkStatus();
                  })
                  .ok());
  return names;
}

}  // namespace

SnapshotterConformance::SnapshotterConformance() : directory_(NewDirectory()) {
  if (geteuid() == 0) snapshotter_ = GetParam().make(directory_ + "/root");
}

SnapshotterConformance::~SnapshotterConformance() {
  snapshotter_.reset();
  if (!directory_.empty()) RemoveTree(directory_).IgnoreError();
}

void SnapshotterConformance::SetUp() {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  ASSERT_NE(snapshotter_, nullptr);
}

void SnapshotterConformance::With(const std::vector<Mount>& mounts,
                                  const std::function<void(const std::string& root)>& work) {
  std::string target = directory_ + "/mnt.XXXXXX";
  ASSERT_NE(mkdtemp(target.data()), nullptr);
  {
    const absl::StatusOr<ScopedMount> mounted = ScopedMount::Create(mounts, target);
    ASSERT_TRUE(mounted.ok()) << mounted.status();
    work(target);
  }
  ASSERT_EQ(rmdir(target.c_str()), 0) << "still mounted: " << target;
}

void SnapshotterConformance::CommitLayer(const std::string& name, const std::string& parent,
                                         const std::function<void(const std::string& root)>& work) {
  const absl::StatusOr<std::vector<Mount>> mounts =
      snapshotter().Prepare(name + "-active", parent, {});
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  With(*mounts, work);
  const absl::Status committed =
      snapshotter().Commit(name, name + "-active", {.labels = {}, .parent = "", .sync = false});
  ASSERT_TRUE(committed.ok()) << committed;
}

TEST_P(SnapshotterConformance, PreparedSnapshotIsWritable) {
  const absl::StatusOr<std::vector<Mount>> mounts = snapshotter().Prepare("a", "", {{"l", "v"}});
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  With(*mounts, [](const std::string& root) { Write(root + "/file", "hello"); });
  With(snapshotter().Mounts("a").value(),
       [](const std::string& root) { EXPECT_EQ(Read(root + "/file"), "hello"); });
  const absl::StatusOr<Info> info = snapshotter().Stat("a");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->kind, Kind::kActive);
  EXPECT_EQ(info->name, "a");
  EXPECT_EQ(info->parent, "");
  EXPECT_EQ(info->labels, (Labels{{"l", "v"}}));
}

TEST_P(SnapshotterConformance, CommittedLayersStack) {
  CommitLayer("one", "", [](const std::string& root) {
    Write(root + "/a", "a1");
    Write(root + "/b", "b1");
    ASSERT_EQ(mkdir((root + "/dir").c_str(), 0750), 0);
    Write(root + "/dir/c", "c1");
  });
  CommitLayer("two", "one", [](const std::string& root) {
    EXPECT_EQ(Read(root + "/a"), "a1");
    Write(root + "/a", "a2");
    ASSERT_EQ(unlink((root + "/b").c_str()), 0);
    ASSERT_TRUE(RemoveTree(root + "/dir").ok());
    ASSERT_EQ(mkdir((root + "/dir").c_str(), 0700), 0);
    Write(root + "/dir/d", "d2");
  });
  With(snapshotter().Prepare("top", "two", {}).value(), [](const std::string& root) {
    EXPECT_EQ(Read(root + "/a"), "a2");
    EXPECT_FALSE(Exists(root + "/b"));
    EXPECT_FALSE(Exists(root + "/dir/c"));
    EXPECT_EQ(Read(root + "/dir/d"), "d2");
  });
  With(snapshotter().View("below", "one", {}).value(), [](const std::string& root) {
    EXPECT_EQ(Read(root + "/a"), "a1");
    EXPECT_EQ(Read(root + "/b"), "b1");
    EXPECT_EQ(Read(root + "/dir/c"), "c1");
  });
  EXPECT_EQ(snapshotter().Stat("two")->parent, "one");
  EXPECT_EQ(snapshotter().Stat("two")->kind, Kind::kCommitted);
  EXPECT_EQ(snapshotter().Stat("two-active").status().code(), StatusCode::kNotFound);
}

TEST_P(SnapshotterConformance, ChangesInOneChildDoNotShowInAnother) {
  CommitLayer("base", "", [](const std::string& root) { Write(root + "/f", "base"); });
  With(snapshotter().Prepare("x", "base", {}).value(),
       [](const std::string& root) { Write(root + "/f", "x"); });
  With(snapshotter().Prepare("y", "base", {}).value(),
       [](const std::string& root) { EXPECT_EQ(Read(root + "/f"), "base"); });
}

TEST_P(SnapshotterConformance, ViewsAreReadOnly) {
  CommitLayer("one", "", [](const std::string& root) { Write(root + "/a", "1"); });
  CommitLayer("two", "one", [](const std::string& root) { Write(root + "/b", "2"); });
  for (const char* parent : {"", "one", "two"}) {
    const std::string key = absl::StrCat("view-", parent);
    const absl::StatusOr<std::vector<Mount>> mounts = snapshotter().View(key, parent, {});
    ASSERT_TRUE(mounts.ok()) << mounts.status();
    With(*mounts, [](const std::string& root) {
      EXPECT_EQ(open((root + "/new").c_str(), O_WRONLY | O_CREAT, 0600), -1);
      EXPECT_EQ(errno, EROFS);
    });
    EXPECT_EQ(snapshotter().Stat(key)->kind, Kind::kView);
    EXPECT_EQ(snapshotter().Stat(key)->parent, parent);
  }
}

TEST_P(SnapshotterConformance, ViewCannotBeCommitted) {
  CommitLayer("one", "", [](const std::string&) {});
  ASSERT_TRUE(snapshotter().View("v", "one", {}).ok());
  EXPECT_EQ(snapshotter().Commit("name", "v", {}).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(snapshotter().Stat("v").ok());
}

TEST_P(SnapshotterConformance, CommittedSnapshotCannotBeCommittedOrMounted) {
  CommitLayer("one", "", [](const std::string&) {});
  EXPECT_EQ(snapshotter().Commit("again", "one", {}).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(snapshotter().Mounts("one").status().code(), StatusCode::kFailedPrecondition);
}

TEST_P(SnapshotterConformance, OnlyCommittedSnapshotsAreParents) {
  ASSERT_TRUE(snapshotter().Prepare("active", "", {}).ok());
  EXPECT_EQ(snapshotter().Prepare("x", "active", {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(snapshotter().View("x", "active", {}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(snapshotter().Prepare("x", "nowhere", {}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(snapshotter().View("x", "nowhere", {}).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(snapshotter().Stat("x").status().code(), StatusCode::kNotFound);
}

TEST_P(SnapshotterConformance, KeysAndNamesShareOneSpace) {
  CommitLayer("taken", "", [](const std::string&) {});
  ASSERT_TRUE(snapshotter().Prepare("active", "", {}).ok());
  for (const char* key : {"taken", "active"}) {
    EXPECT_EQ(snapshotter().Prepare(key, "", {}).status().code(), StatusCode::kAlreadyExists);
    EXPECT_EQ(snapshotter().View(key, "taken", {}).status().code(), StatusCode::kAlreadyExists);
  }
  EXPECT_EQ(snapshotter().Commit("taken", "active", {}).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(snapshotter().Stat("active")->kind, Kind::kActive);
}

TEST_P(SnapshotterConformance, UnknownKeysAreNotFound) {
  EXPECT_EQ(snapshotter().Stat("x").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(snapshotter().Usage("x").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(snapshotter().Mounts("x").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(snapshotter().Remove("x").code(), StatusCode::kNotFound);
  EXPECT_EQ(snapshotter().Commit("name", "x", {}).code(), StatusCode::kNotFound);
  EXPECT_EQ(snapshotter().Update("x", {}, {}).status().code(), StatusCode::kNotFound);
}

TEST_P(SnapshotterConformance, KeysAreOpaqueText) {
  const std::string bytes("bin\x01\xff ary", 9);
  for (const std::string& key :
       {std::string("../../../etc"), std::string("/"), std::string(".."), std::string("-rf"),
        std::string("extract-123-abcd sha256:00"), bytes, std::string(1000, 'k')}) {
    const absl::StatusOr<std::vector<Mount>> mounts = snapshotter().Prepare(key, "", {});
    ASSERT_TRUE(mounts.ok()) << mounts.status();
    EXPECT_EQ(snapshotter().Stat(key)->name, key);
    EXPECT_TRUE(snapshotter().Remove(key).ok());
  }
  EXPECT_EQ(snapshotter().Prepare("", "", {}).status().code(), StatusCode::kInvalidArgument);
}

TEST_P(SnapshotterConformance, LabelsOfCommitReplaceThoseOfTheKey) {
  ASSERT_TRUE(snapshotter().Prepare("k", "", {{"active", "1"}}).ok());
  ASSERT_TRUE(snapshotter().Commit("n", "k", {.labels = {{"committed", "2"}}, .parent = ""}).ok());
  EXPECT_EQ(snapshotter().Stat("n")->labels, (Labels{{"committed", "2"}}));
}

TEST_P(SnapshotterConformance, UpdateChangesLabelsOnly) {
  ASSERT_TRUE(snapshotter().Prepare("k", "", {{"a", "1"}, {"b", "2"}}).ok());
  absl::StatusOr<Info> info =
      snapshotter().Update("k", {{"b", "3"}, {"ignored", "x"}}, {"labels.b"});
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->labels, (Labels{{"a", "1"}, {"b", "3"}}));
  EXPECT_EQ(info->kind, Kind::kActive);
  EXPECT_GE(info->updated_at, info->created_at);
  info = snapshotter().Update("k", {{"c", "4"}}, {});
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->labels, (Labels{{"c", "4"}}));
  EXPECT_EQ(snapshotter().Update("k", {}, {"parent"}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(snapshotter().Stat("k")->labels, (Labels{{"c", "4"}}));
}

TEST_P(SnapshotterConformance, RemoveTakesLeavesOnly) {
  CommitLayer("one", "", [](const std::string&) {});
  CommitLayer("two", "one", [](const std::string&) {});
  ASSERT_TRUE(snapshotter().Prepare("top", "two", {}).ok());
  ASSERT_TRUE(snapshotter().View("view", "one", {}).ok());
  EXPECT_EQ(snapshotter().Remove("one").code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(snapshotter().Remove("two").code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(snapshotter().Remove("top").ok());
  EXPECT_TRUE(snapshotter().Remove("two").ok());
  EXPECT_EQ(snapshotter().Remove("one").code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(snapshotter().Remove("view").ok());
  EXPECT_TRUE(snapshotter().Remove("one").ok());
  EXPECT_TRUE(AllNames(snapshotter()).empty());
  EXPECT_TRUE(snapshotter().Cleanup(nullptr).ok());
}

TEST_P(SnapshotterConformance, RemovedKeyCanBeUsedAgainAndIsEmpty) {
  With(snapshotter().Prepare("k", "", {}).value(),
       [](const std::string& root) { Write(root + "/f", "old"); });
  ASSERT_TRUE(snapshotter().Remove("k").ok());
  With(snapshotter().Prepare("k", "", {}).value(),
       [](const std::string& root) { EXPECT_FALSE(Exists(root + "/f")); });
  EXPECT_TRUE(snapshotter().Cleanup(nullptr).ok());
  With(snapshotter().Mounts("k").value(),
       [](const std::string& root) { EXPECT_FALSE(Exists(root + "/f")); });
}

TEST_P(SnapshotterConformance, CleanupSparesWhatIsInUse) {
  With(snapshotter().Prepare("keep", "", {}).value(),
       [](const std::string& root) { Write(root + "/f", "kept"); });
  With(snapshotter().Prepare("drop", "", {}).value(),
       [](const std::string& root) { Write(root + "/f", "gone"); });
  CommitLayer("layer", "", [](const std::string& root) { Write(root + "/l", "layer"); });
  ASSERT_TRUE(snapshotter().Remove("drop").ok());
  ASSERT_TRUE(snapshotter().Cleanup(nullptr).ok());
  With(snapshotter().Mounts("keep").value(),
       [](const std::string& root) { EXPECT_EQ(Read(root + "/f"), "kept"); });
  With(snapshotter().View("v", "layer", {}).value(),
       [](const std::string& root) { EXPECT_EQ(Read(root + "/l"), "layer"); });
}

TEST_P(SnapshotterConformance, CleanupBesidePrepareLosesNothing) {
  std::atomic<bool> stop{false};
  std::thread cleaner([&] {
    while (!stop) EXPECT_TRUE(snapshotter().Cleanup(nullptr).ok());
  });
  for (int i = 0; i < 50; ++i) {
    const absl::StatusOr<std::vector<Mount>> mounts =
        snapshotter().Prepare(absl::StrCat("k", i), "", {});
    EXPECT_TRUE(mounts.ok()) << mounts.status();
    if (mounts.ok()) {
      EXPECT_TRUE(Exists(MountedDirectories(*mounts).at(0))) << i;
    }
  }
  stop = true;
  cleaner.join();
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(
        Exists(MountedDirectories(snapshotter().Mounts(absl::StrCat("k", i)).value()).at(0)))
        << i;
  }
}

TEST_P(SnapshotterConformance, OneOfManyPreparesOfAKeyWins) {
  std::atomic<int> won{0};
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const absl::Status status = snapshotter().Prepare("same", "", {}).status();
      if (status.ok()) ++won;
      if (absl::IsAlreadyExists(status)) ++lost;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won.load(), 1);
  EXPECT_EQ(lost.load(), 7);
}

TEST_P(SnapshotterConformance, WalkVisitsInKeyOrderAndStopsWhenToldTo) {
  for (const char* key : {"c", "a", "b"}) ASSERT_TRUE(snapshotter().Prepare(key, "", {}).ok());
  EXPECT_EQ(AllNames(snapshotter()), (std::vector<std::string>{"a", "b", "c"}));
  int visited = 0;
  EXPECT_EQ(snapshotter()
                .Walk([&](const Info&) {
                  ++visited;
                  return absl::CancelledError("enough");
                })
                .code(),
            StatusCode::kCancelled);
  EXPECT_EQ(visited, 1);
}

TEST_P(SnapshotterConformance, WalkVisitorMayUseTheSnapshotter) {
  for (const char* key : {"a", "b"}) ASSERT_TRUE(snapshotter().Prepare(key, "", {}).ok());
  EXPECT_TRUE(
      snapshotter().Walk([&](const Info& info) { return snapshotter().Remove(info.name); }).ok());
  EXPECT_TRUE(AllNames(snapshotter()).empty());
}

TEST_P(SnapshotterConformance, UsageCountsHardLinksOnce) {
  const absl::StatusOr<std::vector<Mount>> mounts = snapshotter().Prepare("k", "", {});
  ASSERT_TRUE(mounts.ok());
  const Usage empty = snapshotter().Usage("k").value();
  With(*mounts, [](const std::string& root) {
    Write(root + "/f", std::string(100000, 'x'));
    ASSERT_EQ(link((root + "/f").c_str(), (root + "/g").c_str()), 0);
    ASSERT_EQ(link((root + "/f").c_str(), (root + "/h").c_str()), 0);
  });
  const Usage active = snapshotter().Usage("k").value();
  EXPECT_EQ(active.inodes, empty.inodes + 1);
  ASSERT_TRUE(snapshotter().Commit("n", "k", {}).ok());
  const Usage committed = snapshotter().Usage("n").value();
  EXPECT_EQ(committed.inodes, empty.inodes + 1);
  // Blocks may be allocated late, but committing has written them.
  EXPECT_GE(committed.size_bytes, empty.size_bytes + 100000);
  EXPECT_LT(committed.size_bytes, empty.size_bytes + 200000);
}

TEST_P(SnapshotterConformance, UsageOfASparseFileIsWhatItOccupies) {
  With(snapshotter().Prepare("k", "", {}).value(), [](const std::string& root) {
    Write(root + "/f", "x");
    ASSERT_EQ(truncate((root + "/f").c_str(), 1 << 30), 0);
  });
  ASSERT_TRUE(snapshotter().Commit("n", "k", {}).ok());
  EXPECT_LT(snapshotter().Usage("n").value().size_bytes, 1 << 20);
}

TEST_P(SnapshotterConformance, AttributesComeThroughLayers) {
  CommitLayer("one", "", [](const std::string& root) {
    Write(root + "/suid", "x");
    ASSERT_EQ(chown((root + "/suid").c_str(), 1000, 1001), 0);
    ASSERT_EQ(chmod((root + "/suid").c_str(), 04755), 0);
    ASSERT_EQ(setxattr((root + "/suid").c_str(), "user.note", "hi", 2, 0), 0);
    // A version 2 capability set: cap_net_raw, effective.
    const char capability[20] = {1, 0, 0, 2, 0, 0x20};
    Write(root + "/ping", "x");
    ASSERT_EQ(setxattr((root + "/ping").c_str(), "security.capability", capability,
                       sizeof(capability), 0),
              0);
    ASSERT_EQ(symlink("/nowhere", (root + "/link").c_str()), 0);
    ASSERT_EQ(mknod((root + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
    ASSERT_EQ(mkfifo((root + "/pipe").c_str(), 0640), 0);
    Write(root + "/l1", "linked");
    ASSERT_EQ(link((root + "/l1").c_str(), (root + "/l2").c_str()), 0);
    const timespec times[2] = {{.tv_sec = 11, .tv_nsec = 12},
                               {.tv_sec = 1000000000, .tv_nsec = 123456789}};
    ASSERT_EQ(utimensat(AT_FDCWD, (root + "/l1").c_str(), times, 0), 0);
  });
  With(snapshotter().Prepare("top", "one", {}).value(), [](const std::string& root) {
    struct stat stat;
    ASSERT_EQ(lstat((root + "/suid").c_str(), &stat), 0);
    EXPECT_EQ(stat.st_mode & 07777, 04755u);
    EXPECT_EQ(stat.st_uid, 1000u);
    EXPECT_EQ(stat.st_gid, 1001u);
    char value[64];
    EXPECT_EQ(getxattr((root + "/suid").c_str(), "user.note", value, sizeof(value)), 2);
    EXPECT_EQ(getxattr((root + "/ping").c_str(), "security.capability", value, sizeof(value)), 20);
    EXPECT_EQ(value[5], 0x20);
    ASSERT_EQ(lstat((root + "/link").c_str(), &stat), 0);
    EXPECT_TRUE(S_ISLNK(stat.st_mode));
    ASSERT_EQ(lstat((root + "/null").c_str(), &stat), 0);
    EXPECT_TRUE(S_ISCHR(stat.st_mode));
    EXPECT_EQ(stat.st_rdev, makedev(1, 3));
    ASSERT_EQ(lstat((root + "/pipe").c_str(), &stat), 0);
    EXPECT_TRUE(S_ISFIFO(stat.st_mode));
    struct stat other;
    ASSERT_EQ(lstat((root + "/l1").c_str(), &stat), 0);
    ASSERT_EQ(lstat((root + "/l2").c_str(), &other), 0);
    EXPECT_EQ(stat.st_ino, other.st_ino);
    EXPECT_EQ(stat.st_mtim.tv_sec, 1000000000);
    EXPECT_EQ(stat.st_mtim.tv_nsec, 123456789);
  });
}

TEST_P(SnapshotterConformance, MoreThanAHundredParentsMount) {
  std::string parent;
  for (int i = 0; i < 110; ++i) {
    const std::string key = absl::StrCat("active", i);
    const std::string name = absl::StrCat("layer", i);
    const absl::StatusOr<std::vector<Mount>> mounts = snapshotter().Prepare(key, parent, {});
    ASSERT_TRUE(mounts.ok()) << mounts.status();
    Write(MountedDirectories(*mounts).at(0) + "/f" + std::to_string(i), "x");
    ASSERT_TRUE(snapshotter().Commit(name, key, {.labels = {}, .parent = "", .sync = false}).ok());
    parent = name;
  }
  const auto check = [](const std::string& root) {
    for (int i = 0; i < 110; ++i) EXPECT_TRUE(Exists(root + "/f" + std::to_string(i))) << i;
  };
  With(snapshotter().View("view", parent, {}).value(), check);
  With(snapshotter().Prepare("top", parent, {}).value(), [&](const std::string& root) {
    check(root);
    Write(root + "/new", "x");
  });
}

TEST_P(SnapshotterConformance, RebaseMovesAParentlessSnapshotOntoAParent) {
  CommitLayer("base", "", [](const std::string& root) { Write(root + "/a", "base"); });
  With(snapshotter().Prepare("k", "", {}).value(),
       [](const std::string& root) { Write(root + "/b", "top"); });
  const absl::Status status = snapshotter().Commit("n", "k", {.labels = {}, .parent = "base"});
  if (!snapshotter().CanRebase()) {
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_TRUE(snapshotter().Stat("k").ok());
    return;
  }
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(snapshotter().Stat("n")->parent, "base");
  EXPECT_EQ(snapshotter().Remove("base").code(), StatusCode::kFailedPrecondition);
  With(snapshotter().View("v", "n", {}).value(), [](const std::string& root) {
    EXPECT_EQ(Read(root + "/a"), "base");
    EXPECT_EQ(Read(root + "/b"), "top");
  });
}

TEST_P(SnapshotterConformance, RebaseNeedsAnEmptyAndAKnownParent) {
  CommitLayer("one", "", [](const std::string&) {});
  CommitLayer("other", "", [](const std::string&) {});
  ASSERT_TRUE(snapshotter().Prepare("stacked", "one", {}).ok());
  EXPECT_EQ(snapshotter().Commit("n", "stacked", {.labels = {}, .parent = "other"}).code(),
            StatusCode::kFailedPrecondition);
  EXPECT_TRUE(snapshotter().Commit("n", "stacked", {.labels = {}, .parent = "one"}).ok());
  if (!snapshotter().CanRebase()) return;
  ASSERT_TRUE(snapshotter().Prepare("k", "", {}).ok());
  EXPECT_EQ(snapshotter().Commit("m", "k", {.labels = {}, .parent = "nowhere"}).code(),
            StatusCode::kNotFound);
  ASSERT_TRUE(snapshotter().Prepare("active", "", {}).ok());
  EXPECT_EQ(snapshotter().Commit("m", "k", {.labels = {}, .parent = "active"}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(snapshotter().Stat("k").ok());
}

}  // namespace gantry::snapshot
