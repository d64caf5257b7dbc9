#include "shim/mount_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

class MountCheckTest : public ::testing::Test {
 protected:
  MountCheckTest() {
    for (const char* directory : {"/etc", "/proc", "/dev", "/data/deep"}) {
      EXPECT_TRUE(MakeDirectories(root_.path() + directory, 0755).ok());
    }
  }
  void Link(const std::string& path, const std::string& target) {
    ASSERT_EQ(symlink(target.c_str(), (root_.path() + path).c_str()), 0);
  }
  std::string Resolved(const std::string& path) {
    const UniqueFd root(open(root_.path().c_str(), O_PATH | O_CLOEXEC));
    return ResolveInRoot(root.get(), path).value_or("too many links");
  }
  absl::StatusOr<bool> Check(std::vector<PlannedMount> mounts) {
    return MountsMayMove(root_.path(), mounts);
  }
  const PlannedMount proc_ = {"/proc", false};
  const PlannedMount dev_ = {"/dev", false};
  const PlannedMount hosts_ = {"/etc/hosts", true};
  const TempDir root_;
};

TEST_F(MountCheckTest, PathsAreResolvedInsideTheRoot) {
  Link("/a", "/data");
  Link("/data/up", "../../../etc");
  Link("/loop", "loop");
  EXPECT_EQ(Resolved("/a/deep/x/y"), "/data/deep/x/y");
  EXPECT_EQ(Resolved("/a/up/hosts"), "/etc/hosts");
  EXPECT_EQ(Resolved("//etc/./../data/"), "/data");
  EXPECT_EQ(Resolved("/loop/x"), "too many links");
}

TEST_F(MountCheckTest, AnImageWithoutLinksMovesNothing) {
  ASSERT_TRUE(WriteFile(root_.path() + "/etc/hosts", "").ok());
  const absl::StatusOr<bool> moved =
      Check({proc_, dev_, hosts_, {"/etc/hostname", true}, {"/new/place", true}});
  ASSERT_TRUE(moved.ok()) << moved.status();
  EXPECT_FALSE(*moved);
}

TEST_F(MountCheckTest, AGeneratedFileMayNotBeTakenToFilesOfTheKernelsOrADevice) {
  for (const char* target : {"/proc/1/attr/exec", "/dev/null", "../dev/null", "/sys/power/state"}) {
    Link("/etc/hosts", target);
    const absl::Status status = Check({proc_, dev_, hosts_}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << target;
    EXPECT_TRUE(absl::StrContains(status.message(), "/etc/hosts")) << status;
    ASSERT_EQ(unlink((root_.path() + "/etc/hosts").c_str()), 0);
  }
}

TEST_F(MountCheckTest, NorByALinkOnTheWay) {
  ASSERT_EQ(rmdir((root_.path() + "/etc").c_str()), 0);
  Link("/etc", "proc/self");
  EXPECT_FALSE(Check({proc_, dev_, hosts_}).ok());
}

TEST_F(MountCheckTest, NorAVolume) {
  Link("/data/volume", "/proc/sys");
  EXPECT_FALSE(Check({proc_, dev_, {"/data/volume/x", true}}).ok());
}

TEST_F(MountCheckTest, AGeneratedFileIsNotMountedIntoAnotherMount) {
  Link("/etc/hosts", "/data/hosts");
  EXPECT_FALSE(Check({proc_, dev_, {"/data", true}, hosts_}).ok());
}

TEST_F(MountCheckTest, LinksInsideTheImageAreFollowedAndCountAsAMove) {
  Link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
  const absl::StatusOr<bool> moved = Check({proc_, dev_, {"/etc/resolv.conf", true}});
  ASSERT_TRUE(moved.ok()) << moved.status();
  EXPECT_TRUE(*moved);
}

TEST_F(MountCheckTest, AMountInsideABindMountMayMove) {
  EXPECT_TRUE(*Check({proc_, dev_, {"/data", true}, {"/data/deep", true}}));
  EXPECT_FALSE(*Check({proc_, dev_, {"/data/deep", true}, {"/data", true}}));
  EXPECT_TRUE(*Check({{"/x/../proc", false}, dev_}));
}

}  // namespace
}  // namespace gantry::shim
