#include "snapshotter/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "base/user_namespace.h"
#include "snapshotter/id_mapped.h"

namespace gantry::snapshot {
namespace {

class MountTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    Make("target");
  }
  void TearDown() override {
    if (geteuid() == 0) UnmountAll(Target(), /*lazy=*/true).IgnoreError();
  }
  std::string Make(const std::string& name) {
    const std::string path = directory_.Join(name);
    EXPECT_TRUE(MakeDirectories(path, 0755).ok());
    return path;
  }
  std::string Target() const { return directory_.Join("target"); }
  bool IsMounted(const std::string& path) const {
    return absl::StrContains(ReadFile("/proc/self/mountinfo", 16 << 20).value(),
                             absl::StrCat(" ", path, " "));
  }

  TempDir directory_;
};

TEST_F(MountTest, BindShowsItsSource) {
  const std::string source = Make("source");
  ASSERT_TRUE(WriteFile(source + "/f", "x").ok());
  ASSERT_TRUE(
      MountAll({{.type = "bind", .source = source, .target = "", .options = {"rw", "rbind"}}},
               Target())
          .ok());
  EXPECT_EQ(ReadFile(Target() + "/f", 10).value(), "x");
  ASSERT_TRUE(UnmountAll(Target(), false).ok());
  EXPECT_FALSE(IsMounted(Target()));
}

TEST_F(MountTest, FlagsAreSetOnABind) {
  const std::string source = Make("source");
  ASSERT_TRUE(MountAll({{.type = "bind",
                         .source = source,
                         .target = "",
                         .options = {"rbind", "ro", "nosuid", "nodev", "noexec"}}},
                       Target())
                  .ok());
  struct statvfs stat;
  ASSERT_EQ(statvfs(Target().c_str(), &stat), 0);
  EXPECT_TRUE(stat.f_flag & ST_RDONLY);
  EXPECT_TRUE(stat.f_flag & ST_NOSUID);
  EXPECT_TRUE(stat.f_flag & ST_NODEV);
  EXPECT_TRUE(stat.f_flag & ST_NOEXEC);
  EXPECT_EQ(open((Target() + "/new").c_str(), O_WRONLY | O_CREAT, 0600), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(MountTest, OtherOptionsGoToTheFileSystem) {
  ASSERT_TRUE(MountAll({{.type = "tmpfs",
                         .source = "tmpfs",
                         .target = "",
                         .options = {"size=64k", "nodev", "mode=700"}}},
                       Target())
                  .ok());
  struct statvfs stat;
  ASSERT_EQ(statvfs(Target().c_str(), &stat), 0);
  EXPECT_EQ(stat.f_blocks * stat.f_frsize, 65536u);
  EXPECT_TRUE(stat.f_flag & ST_NODEV);
}

TEST_F(MountTest, LoopMountsTheFileSystemInAFile) {
  const std::string image = directory_.Join("image");
  ASSERT_TRUE(WriteFile(image, std::string(4 << 20, '\0')).ok());
  Command make;
  make.argv = {"/sbin/mkfs.ext4", "-q", image};
  const absl::StatusOr<CommandResult> made = RunCommand(make);
  if (absl::IsNotFound(made.status())) GTEST_SKIP() << "needs mkfs.ext4";
  ASSERT_TRUE(made.ok() && made->status.ok());
  const std::string at = Target();
  ASSERT_TRUE(MountAll({{"ext4", image, "", {"loop"}}}, at).ok());
  EXPECT_TRUE(WriteFile(at + "/kept", "x").ok());
  ASSERT_TRUE(UnmountAll(at, false).ok());
  // The device has gone with the mount: the file can be attached anew, also for reading only.
  ASSERT_TRUE(MountAll({{"ext4", image, "", {"loop", "ro"}}}, at).ok());
  EXPECT_EQ(ReadFile(at + "/kept", 10).value_or(""), "x");
  EXPECT_FALSE(WriteFile(at + "/other", "x").ok());
  ASSERT_TRUE(UnmountAll(at, false).ok());
  const absl::Status missing = MountAll({{"ext4", directory_.Join("none"), "", {"loop"}}}, at);
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound) << missing;
}

TEST_F(MountTest, FailureNamesTheMountAndLeavesNothing) {
  const std::string source = Make("source");
  const absl::Status status =
      MountAll({{.type = "bind", .source = source, .target = "", .options = {}},
                {.type = "bind", .source = "/does/not/exist", .target = "", .options = {}}},
               Target());
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(status.message(), "/does/not/exist")) << status;
  EXPECT_FALSE(IsMounted(Target()));
}

TEST_F(MountTest, MalformedIdMapIsInvalid) {
  for (const char* map : {"uidmap=0:1000", "uidmap=a:b:c", "uidmap=0:1:0", "uidmap=-1:0:1"}) {
    EXPECT_EQ(
        MountAll({{.type = "bind", .source = "/", .target = "", .options = {map, "gidmap=0:0:1"}}},
                 Target())
            .code(),
        absl::StatusCode::kInvalidArgument)
        << map;
  }
  EXPECT_EQ(
      MountAll({{.type = "bind", .source = "/", .target = "", .options = {"uidmap=0:1000:1"}}},
               Target())
          .code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(MountTest, TargetInsideIsResolvedBelowTheRoot) {
  const std::string lower = Make("lower");
  const std::string source = Make("source");
  const std::string outside = Make("outside");
  ASSERT_TRUE(WriteFile(source + "/f", "x").ok());
  // Absolute within the tree: leads to <lower>/<outside>, not to <outside>.
  ASSERT_TRUE(MakeDirectories(lower + outside).ok());
  ASSERT_EQ(symlink(outside.c_str(), (lower + "/sub").c_str()), 0);
  ASSERT_TRUE(MountAll({{.type = "bind", .source = lower, .target = "", .options = {"rw"}},
                        {.type = "bind", .source = source, .target = "/sub", .options = {"ro"}}},
                       Target())
                  .ok());
  EXPECT_FALSE(IsMounted(outside));
  EXPECT_EQ(ReadFile(Target() + outside + "/f", 10).value(), "x");
  EXPECT_TRUE(UnmountAll(Target(), false).ok());
  EXPECT_FALSE(
      absl::StrContains(ReadFile("/proc/self/mountinfo", 16 << 20).value(), directory_.path()));
}

TEST_F(MountTest, UnsyncedOverlayMountsAgainAndAgain) {
  const Mount overlay = {.type = "overlay",
                         .source = "overlay",
                         .target = "",
                         .options = {"lowerdir=" + Make("lower"), "upperdir=" + Make("upper"),
                                     "workdir=" + Make("work")}};
  for (const std::string written : {"first", "second"}) {
    ASSERT_TRUE(MountAllUnsynced({overlay}, Target()).ok());
    const std::string mounts = ReadFile("/proc/self/mountinfo", 16 << 20).value();
    const size_t line = mounts.find(absl::StrCat(" ", Target(), " "));
    ASSERT_NE(line, std::string::npos);
    EXPECT_TRUE(absl::StrContains(mounts.substr(line, mounts.find('\n', line) - line), "volatile"));
    ASSERT_TRUE(WriteFile(absl::StrCat(Target(), "/", written), "x").ok());
    ASSERT_TRUE(UnmountAll(Target(), false).ok());
    EXPECT_EQ(ReadFile(absl::StrCat(directory_.Join("upper"), "/", written), 10).value(), "x");
  }
  // A read-only overlay has nothing to sync, and a failure is that of the mount asked for.
  ASSERT_TRUE(MountAllUnsynced({{.type = "overlay",
                                 .source = "overlay",
                                 .target = "",
                                 .options = {"lowerdir=" + Make("lower") + ":" + Make("other")}}},
                               Target())
                  .ok());
  ASSERT_TRUE(UnmountAll(Target(), false).ok());
  const absl::Status failed = MountAllUnsynced(
      {{.type = "overlay", .source = "overlay", .target = "", .options = {"lowerdir=/none"}}},
      Target());
  EXPECT_TRUE(absl::StrContains(failed.message(), Target())) << failed;
}

TEST_F(MountTest, UnmountOfWhatIsNotMountedIsSuccess) {
  EXPECT_TRUE(UnmountAll(Target(), false).ok());
  EXPECT_TRUE(UnmountAll(directory_.Join("absent"), false).ok());
}

TEST_F(MountTest, BusyMountIsUnmountedLazilyOnly) {
  ASSERT_TRUE(
      MountAll({{.type = "tmpfs", .source = "tmpfs", .target = "", .options = {}}}, Target()).ok());
  const int busy = open(Target().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_GE(busy, 0);
  EXPECT_EQ(UnmountAll(Target(), false).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(UnmountAll(Target(), true).ok());
  EXPECT_FALSE(IsMounted(Target()));
  close(busy);
}

TEST_F(MountTest, ScopedMountEndsWithItsScope) {
  {
    absl::StatusOr<ScopedMount> mounted = ScopedMount::Create(
        {{.type = "tmpfs", .source = "tmpfs", .target = "", .options = {}}}, Target());
    ASSERT_TRUE(mounted.ok());
    const ScopedMount moved = *std::move(mounted);
    EXPECT_TRUE(IsMounted(Target()));
  }
  EXPECT_FALSE(IsMounted(Target()));
}

TEST_F(MountTest, IdMappedBindShiftsOwners) {
  ASSERT_EQ(mount("tmpfs", Make("fs").c_str(), "tmpfs", 0, nullptr), 0);
  const std::string source = directory_.Join("fs");
  ASSERT_TRUE(WriteFile(source + "/f", "x").ok());
  const absl::Status status =
      MountAll({{.type = "bind",
                 .source = source,
                 .target = "",
                 .options = {"uidmap=0:1000:10", "gidmap=0:2000:10", "rw", "rbind"}}},
               Target());
  EXPECT_TRUE(status.ok()) << status;
  struct stat stat;
  EXPECT_EQ(::stat((Target() + "/f").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_uid, 1000u);
  EXPECT_EQ(stat.st_gid, 2000u);
  EXPECT_TRUE(UnmountAll(Target(), false).ok());
  umount2(source.c_str(), MNT_DETACH);
}

TEST_F(MountTest, IdMappedOverlayShiftsOwnersOfLowerLayers) {
  ASSERT_EQ(mount("tmpfs", Make("fs").c_str(), "tmpfs", 0, nullptr), 0);
  const std::string lower = Make("fs/lower");
  ASSERT_TRUE(WriteFile(lower + "/f", "x").ok());
  const absl::Status status =
      MountAll({{.type = "overlay",
                 .source = "overlay",
                 .options = {"uidmap=0:1000:10", "gidmap=0:2000:10", "workdir=" + Make("fs/work"),
                             "upperdir=" + Make("fs/upper"), "lowerdir=" + lower}}},
               Target());
  EXPECT_TRUE(status.ok()) << status;
  struct stat stat = {};
  EXPECT_EQ(::stat((Target() + "/f").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_uid, 1000u);
  EXPECT_EQ(stat.st_gid, 2000u);
  EXPECT_TRUE(UnmountAll(Target(), false).ok());
  umount2(directory_.Join("fs").c_str(), MNT_DETACH);
}

TEST_F(MountTest, WithItsUpperDirectoryMappedFilesKeepTheirIdsOnDisk) {
  ASSERT_EQ(mount("tmpfs", Make("fs").c_str(), "tmpfs", 0, nullptr), 0);
  const std::string lower = Make("fs/lower");
  ASSERT_TRUE(WriteFile(lower + "/gone", "x").ok());
  ASSERT_TRUE(WriteFile(lower + "/kept", "x").ok());
  ASSERT_EQ(chown((lower + "/kept").c_str(), 5, 6), 0);
  const std::vector<Mount> mounts =
      WithIds({{.type = "overlay",
                .source = "overlay",
                .options = {"workdir=" + Make("fs/one/work"), "upperdir=" + Make("fs/one/upper"),
                            "lowerdir=" + lower}}},
              {{{0, 1000, 10}}, {{0, 2000, 10}}});
  const absl::Status status = MountAll(mounts, Target());
  ASSERT_TRUE(status.ok()) << status;
  std::thread([&] {
    // As the namespace's root would, whose files these are.
    ASSERT_TRUE(ActAsRootOf({{{0, 1000, 10}}, {{0, 2000, 10}}}).ok());
    EXPECT_EQ(unlink((Target() + "/gone").c_str()), 0) << strerror(errno);
    EXPECT_EQ(mkdir((Target() + "/made").c_str(), 0755), 0) << strerror(errno);
    EXPECT_EQ(chmod((Target() + "/kept").c_str(), 0600), 0) << strerror(errno);
  }).join();
  struct stat stat = {};
  EXPECT_EQ(::stat((Target() + "/kept").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_uid, 1005u);
  const std::string upper = directory_.Join("fs/one/upper");
  EXPECT_EQ(::stat((upper + "/kept").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_uid, 5u);
  EXPECT_EQ(stat.st_gid, 6u);
  EXPECT_EQ(::stat((upper + "/made").c_str(), &stat), 0);
  EXPECT_EQ(stat.st_uid, 0u);
  EXPECT_EQ(stat.st_gid, 0u);
  EXPECT_EQ(::stat((upper + "/gone").c_str(), &stat), 0);
  EXPECT_TRUE(S_ISCHR(stat.st_mode));
  EXPECT_TRUE(UnmountAll(Target(), false).ok());
  umount2(directory_.Join("fs").c_str(), MNT_DETACH);
}

TEST_F(MountTest, AFileSystemThatCannotMapIdsIsNamedWithTheWayOut) {
  // procfs, which no kernel lets be mapped.
  const absl::Status status =
      MountAll(WithIds({{.type = "bind", .source = "/proc", .options = {"rbind"}}},
                       {{{0, 1000, 10}}, {{0, 2000, 10}}}),
               Target());
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("/proc"));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("--userns host"));
}

class LongOverlayTest : public MountTest, public testing::WithParamInterface<LongOverlay> {};

TEST_P(LongOverlayTest, OptionsLongerThanAPageMount) {
  ASSERT_EQ(mount("tmpfs", Make("fs").c_str(), "tmpfs", 0, nullptr), 0);
  std::string lowers;
  for (int i = 0; i < 200; ++i) {
    const std::string lower =
        Make(absl::StrCat("fs/a-directory-with-a-long-name/snapshots/", i, "/fs"));
    ASSERT_TRUE(WriteFile(absl::StrCat(lower, "/f", i), "x").ok());
    absl::StrAppend(&lowers, lowers.empty() ? "" : ":", lower);
  }
  ASSERT_GT(lowers.size(), 4096u);
  const Mount mount{.type = "overlay",
                    .source = "overlay",
                    .target = "",
                    .options = {"workdir=" + Make("fs/work"), "upperdir=" + Make("fs/upper"),
                                "lowerdir=" + lowers}};
  const absl::Status status = MountLongOverlay(mount, Target(), GetParam());
  EXPECT_TRUE(status.ok()) << status;
  for (int i = 0; i < 200; ++i)
    EXPECT_EQ(access(absl::StrCat(Target(), "/f", i).c_str(), F_OK), 0) << i;
  EXPECT_TRUE(WriteFile(Target() + "/new", "x").ok());
  EXPECT_TRUE(UnmountAll(Target(), false).ok());
  umount2(directory_.Join("fs").c_str(), MNT_DETACH);
}

INSTANTIATE_TEST_SUITE_P(Styles, LongOverlayTest,
                         testing::Values(LongOverlay::kAppend, LongOverlay::kRelative));

TEST_F(MountTest, MountedDirectoriesAreTopmostFirst) {
  EXPECT_EQ(MountedDirectories(
                {{.type = "overlay",
                  .source = "overlay",
                  .target = "",
                  .options = {"workdir=/w", "upperdir=/u", "lowerdir=/b:/a\\:x", "index=off"}}}),
            (std::vector<std::string>{"/u", "/b", "/a:x"}));
  EXPECT_EQ(MountedDirectories({{.type = "bind", .source = "/s", .target = "", .options = {"ro"}}}),
            (std::vector<std::string>{"/s"}));
  EXPECT_TRUE(
      MountedDirectories({{.type = "erofs", .source = "/s", .target = "", .options = {}}}).empty());
}

}  // namespace
}  // namespace gantry::snapshot
