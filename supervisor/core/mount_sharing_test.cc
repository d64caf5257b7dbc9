#include "supervisor/core/mount_sharing.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::core {
namespace {

constexpr char kTable[] =
    "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/a rw\n"
    "21 20 8:2 / /data rw - ext4 /dev/b rw\n"
    "22 20 8:3 / /data\\040two rw master:4 - ext4 /dev/c rw\n"
    "23 21 8:4 / /data/in rw shared:5 master:1 - ext4 /dev/d rw\n"
    "24 20 8:5 / /over rw - ext4 /dev/e rw\n"
    "25 20 8:6 / /over rw shared:9 - ext4 /dev/f rw\n";

TEST(SourceMountTest, TheInnermostAndLastMountCounts) {
  const struct {
    const char* path;
    const char* point;
    Sharing sharing;
  } cases[] = {{"/", "/", Sharing::kShared},
               {"/datax", "/", Sharing::kShared},
               {"/data", "/data", Sharing::kPrivate},
               {"/data/x/y", "/data", Sharing::kPrivate},
               {"/data two/x", "/data two", Sharing::kSlave},
               {"/data/in/x", "/data/in", Sharing::kShared},
               {"/over/x", "/over", Sharing::kShared}};
  for (const auto& one : cases) {
    const SourceMount found = SourceMountIn(kTable, one.path);
    EXPECT_EQ(found.point, one.point) << one.path;
    EXPECT_EQ(found.sharing, one.sharing) << one.path;
  }
}

TEST(CheckPropagationTest, APrivateMountIsRefusedAsDockerDoes) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
  const TempDir directory;
  std::thread([&directory] {
    ASSERT_EQ(unshare(CLONE_NEWNS | CLONE_FS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    const std::string at = directory.path();
    ASSERT_EQ(mount("tmpfs", at.c_str(), "tmpfs", 0, nullptr), 0);
    ASSERT_TRUE(MakeDirectories(at + "/sub", 0755).ok());
    ASSERT_EQ(symlink("sub", (at + "/link").c_str()), 0);
    const auto check = [&](const char* path, const char* propagation) {
      return CheckPropagation(at + path, propagation);
    };
    EXPECT_THAT(std::string(check("/link", "rslave").message()),
                testing::HasSubstr("path " + at + "/link is mounted on " + at +
                                   " but it is not a shared or slave mount"));
    EXPECT_THAT(std::string(check("/sub", "shared").message()),
                testing::HasSubstr("but it is not a shared mount"));
    EXPECT_TRUE(check("/sub", "").ok());
    EXPECT_TRUE(check("/sub", "rprivate").ok());
    ASSERT_EQ(mount(nullptr, at.c_str(), nullptr, MS_SHARED, nullptr), 0);
    EXPECT_TRUE(check("/sub", "rshared").ok());
    EXPECT_TRUE(check("/sub", "slave").ok());
    EXPECT_FALSE(check("/none", "slave").ok());
  }).join();
}

}  // namespace
}  // namespace gantry::core
