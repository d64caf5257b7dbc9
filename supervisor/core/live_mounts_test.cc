// Mounts that come and go in a process's own mount namespace.
#include "supervisor/core/live_mounts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/core/resident_process.h"

namespace gantry::core {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class LiveMountsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    root_ = dir_.Join("root");
    source_ = dir_.Join("source");
    ASSERT_TRUE(MakeDirectories(root_ + "/data", 0755).ok());
    ASSERT_TRUE(MakeDirectories(source_, 0755).ok());
    ASSERT_TRUE(WriteFile(source_ + "/file", "of the host").ok());
    ASSERT_TRUE(MakeDirectories(root_ + "/proc", 0755).ok());
    process_ = std::make_unique<Resident>(
        root_, std::vector<std::pair<std::string, std::string>>{{"/proc", "/proc"}});
  }

  absl::Status Bind(const std::string& destination, bool read_only = false) {
    oci::MountConfig mount;
    mount.type = oci::MountConfig::Type::kBind;
    mount.source = source_;
    mount.destination = destination;
    mount.read_only = read_only;
    return AddLiveMount(process_->pid(), mount);
  }
  absl::Status Tmpfs(const std::string& destination, const std::vector<std::string>& options) {
    oci::MountConfig mount;
    mount.type = oci::MountConfig::Type::kTmpfs;
    mount.destination = destination;
    mount.options = options;
    return AddLiveMount(process_->pid(), mount);
  }
  // A path as the process sees it.
  std::string Inside(const std::string& path) const {
    return absl::StrCat("/proc/", process_->pid(), "/root", path);
  }
  std::string ReadInside(const std::string& path) const {
    return ReadFile(Inside(path), 1000).value_or("(none)");
  }
  // The line of its last mount there; "" without one.
  std::string MountAt(const std::string& path) const {
    std::string last;
    const std::string all =
        ReadFile(absl::StrCat("/proc/", process_->pid(), "/mountinfo"), 1 << 20).value();
    for (const absl::string_view line : absl::StrSplit(all, '\n')) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      if (words.size() > 5 && words[4] == path) last = std::string(line);
    }
    return last;
  }

  TempDir dir_;
  std::string root_;
  std::string source_;
  std::unique_ptr<Resident> process_;
};

TEST_F(LiveMountsTest, ABindIsSeenInsideAndNowhereElse) {
  ASSERT_TRUE(Bind("/data").ok());
  EXPECT_EQ(ReadInside("/data/file"), "of the host");
  EXPECT_EQ(access((root_ + "/data/file").c_str(), F_OK), -1);
  ASSERT_TRUE(WriteFile(Inside("/data/back"), "of the container").ok());
  EXPECT_EQ(ReadFile(source_ + "/back", 100).value_or("?"), "of the container");
  ASSERT_TRUE(RemoveLiveMount(process_->pid(), "/data").ok());
  EXPECT_EQ(ReadInside("/data/file"), "(none)");
  EXPECT_EQ(MountAt("/data"), "");
}

TEST_F(LiveMountsTest, AReadOnlyBindCannotBeWritten) {
  ASSERT_TRUE(Bind("/data", /*read_only=*/true).ok());
  EXPECT_EQ(ReadInside("/data/file"), "of the host");
  EXPECT_FALSE(WriteFile(Inside("/data/back"), "x").ok());
  EXPECT_THAT(MountAt("/data"), HasSubstr(" ro,"));
}

TEST_F(LiveMountsTest, MountPointsThatAreMissingAreMade) {
  ASSERT_TRUE(Bind("/not/there/yet").ok());
  EXPECT_EQ(ReadInside("/not/there/yet/file"), "of the host");
  source_ += "/file";
  ASSERT_TRUE(Bind("/etc/one.conf").ok());  // a file on a file
  EXPECT_EQ(ReadInside("/etc/one.conf"), "of the host");
}

TEST_F(LiveMountsTest, LinksInTheContainerLeadNowhereElse) {
  ASSERT_EQ(symlink("/data", (root_ + "/link").c_str()), 0);
  ASSERT_EQ(symlink(dir_.path().c_str(), (root_ + "/climbs").c_str()), 0);
  ASSERT_TRUE(Bind("/link").ok());
  EXPECT_EQ(ReadInside("/data/file"), "of the host");
  ASSERT_TRUE(Bind("/climbs/x").ok());
  // The link's target was made below the container's root; the host's directory has no "x".
  EXPECT_EQ(access(dir_.Join("x").c_str(), F_OK), -1);
  EXPECT_EQ(ReadInside(dir_.path() + "/x/file"), "of the host");
  ASSERT_TRUE(RemoveLiveMount(process_->pid(), "/climbs/x").ok());
  EXPECT_EQ(ReadInside(dir_.path() + "/x/file"), "(none)");
}

TEST_F(LiveMountsTest, ATmpfsHasItsOptions) {
  ASSERT_TRUE(Tmpfs("/tmp", {"size=64k", "mode=1770"}).ok());
  EXPECT_THAT(MountAt("/tmp"),
              AllOf(HasSubstr("nosuid,nodev,noexec"), HasSubstr("size=64k"), HasSubstr("tmpfs")));
  struct stat info = {};
  ASSERT_EQ(stat(Inside("/tmp").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 01770u);
  ASSERT_TRUE(Tmpfs("/run", {"exec", "suid", "dev", "rw"}).ok());
  EXPECT_THAT(MountAt("/run"), Not(HasSubstr("noexec")));
  EXPECT_THAT(MountAt("/run"), Not(HasSubstr("nosuid")));
  EXPECT_THAT(MountAt("/run"), Not(HasSubstr("nodev")));
}

TEST_F(LiveMountsTest, OptionsThatATmpfsDoesNotHaveAreRefused) {
  const absl::Status unknown = Tmpfs("/tmp", {"sync"});
  EXPECT_TRUE(absl::IsInvalidArgument(unknown));
  EXPECT_EQ(unknown.message(), "tmpfs: option sync cannot be given to a running container");
  EXPECT_THAT(std::string(Tmpfs("/tmp", {"size=large"}).message()), HasSubstr("option size=large"));
  EXPECT_EQ(MountAt("/tmp"), "");
}

TEST_F(LiveMountsTest, PropagationIsPrivate) {
  ASSERT_TRUE(Bind("/data").ok());
  EXPECT_THAT(MountAt("/data"), Not(HasSubstr("shared:")));
  EXPECT_THAT(MountAt("/data"), Not(HasSubstr("master:")));
}

TEST_F(LiveMountsTest, AMountGoesOverWhatIsThereAndOneIsTakenAtATime) {
  ASSERT_TRUE(Bind("/data").ok());
  ASSERT_TRUE(Tmpfs("/data", {}).ok());
  EXPECT_EQ(ReadInside("/data/file"), "(none)");
  ASSERT_TRUE(RemoveLiveMount(process_->pid(), "/data").ok());
  EXPECT_EQ(ReadInside("/data/file"), "of the host");
}

TEST_F(LiveMountsTest, AMountInUseGoesAndItsOpenFilesStay) {
  ASSERT_TRUE(Bind("/data").ok());
  const UniqueFd held(open(Inside("/data/file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held.valid());
  ASSERT_TRUE(RemoveLiveMount(process_->pid(), "/data").ok());
  char bytes[20] = {};
  EXPECT_EQ(read(held.get(), bytes, sizeof bytes), 11);
}

TEST_F(LiveMountsTest, AMountBehindALinkIsRemovedByItsName) {
  ASSERT_EQ(symlink("/data", (root_ + "/link").c_str()), 0);
  ASSERT_TRUE(Bind("/link").ok());
  ASSERT_EQ(ReadInside("/data/file"), "of the host");
  ASSERT_TRUE(RemoveLiveMount(process_->pid(), "/link").ok());
  EXPECT_EQ(ReadInside("/data/file"), "(none)");
}

TEST_F(LiveMountsTest, ChangesThatAreNotKeptAreUndoneTheLastOneFirst) {
  ASSERT_TRUE(Bind("/data").ok());
  ASSERT_TRUE(Tmpfs("/data/below", {}).ok());
  ASSERT_TRUE(WriteFile(Inside("/data/below/note"), "kept").ok());
  const std::string before = MountAt("/data");
  oci::MountConfig tmpfs;
  tmpfs.type = oci::MountConfig::Type::kTmpfs;
  {
    LiveMountChanges changes(process_->pid(), "web");
    ASSERT_TRUE(changes.Remove("/data").ok());
    EXPECT_EQ(ReadInside("/data/file"), "(none)");
    tmpfs.destination = "/data";
    ASSERT_TRUE(changes.Add(tmpfs).ok());
    tmpfs.destination = "/data/deep";
    ASSERT_TRUE(changes.Add(tmpfs).ok());
    ASSERT_TRUE(changes.Remove("/nothing/here").ok());
    ASSERT_TRUE(changes.Remove("/missing").ok());
  }
  EXPECT_EQ(ReadInside("/data/file"), "of the host");
  EXPECT_EQ(ReadInside("/data/below/note"), "kept");
  EXPECT_EQ(MountAt("/data/deep"), "");
  EXPECT_EQ(MountAt("/missing"), "");
  EXPECT_NE(before, "");
  EXPECT_NE(MountAt("/data"), "");
  // It can be changed like any other.
  ASSERT_TRUE(RemoveLiveMount(process_->pid(), "/data").ok());
  EXPECT_EQ(MountAt("/data"), "");
}

TEST_F(LiveMountsTest, ChangesThatAreKeptStay) {
  ASSERT_TRUE(Bind("/data").ok());
  {
    LiveMountChanges changes(process_->pid(), "web");
    ASSERT_TRUE(changes.Remove("/data").ok());
    changes.Keep();
  }
  EXPECT_EQ(ReadInside("/data/file"), "(none)");
  EXPECT_EQ(MountAt("/data"), "");
}

TEST_F(LiveMountsTest, RemovingWhatIsNotMountedIsNoError) {
  EXPECT_TRUE(RemoveLiveMount(process_->pid(), "/data").ok());
  EXPECT_TRUE(RemoveLiveMount(process_->pid(), "/nothing/here").ok());
  EXPECT_TRUE(RemoveLiveMount(process_->pid(), "/missing").ok());
}

TEST_F(LiveMountsTest, WhatCannotBeMountedSaysWhy) {
  source_ = dir_.Join("nowhere");
  const absl::Status missing = Bind("/data");
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr("mount source " + source_));
  oci::MountConfig overlay;
  overlay.type = oci::MountConfig::Type::kOverlay;
  overlay.destination = "/data";
  EXPECT_TRUE(absl::IsInvalidArgument(AddLiveMount(process_->pid(), overlay)));
  EXPECT_EQ(MountAt("/data"), "");
}

TEST_F(LiveMountsTest, AReadOnlyRootTakesNoNewMountPoint) {
  ASSERT_TRUE(Bind("/data", /*read_only=*/true).ok());
  const absl::Status refused = Tmpfs("/data/new", {});
  EXPECT_TRUE(absl::IsPermissionDenied(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("Read-only file system"));
  EXPECT_EQ(access((source_ + "/new").c_str(), F_OK), -1);
}

TEST_F(LiveMountsTest, AProcessThatIsGoneIsNamed) {
  const pid_t pid = process_->pid();
  process_.reset();
  EXPECT_THAT(std::string(RemoveLiveMount(pid, "/data").message()),
              HasSubstr(absl::StrCat("/proc/", pid, "/ns/mnt")));
  oci::MountConfig mount;
  mount.type = oci::MountConfig::Type::kTmpfs;
  mount.destination = "/data";
  EXPECT_FALSE(AddLiveMount(pid, mount).ok());
}

}  // namespace
}  // namespace gantry::core
