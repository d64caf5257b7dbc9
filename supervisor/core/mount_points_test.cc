#include "supervisor/core/mount_points.h"

#include <sys/stat.h>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::core {
namespace {

using snapshot::Mount;

Mount Overlay(const std::string& lower) {
  return {.type = "overlay",
          .source = "overlay",
          .target = "",
          .options = {"workdir=/w", "upperdir=/u", "lowerdir=" + lower, "index=off"}};
}

TEST(MountPointsTest, LieBelowTheLayersOfAnOverlay) {
  const TempDir root;
  const MountPoints points = MountPoints::Open(root.path()).value();
  const std::string layer = root.Join("mount-points");
  for (const char* directory : {"/dev", "/etc", "/proc", "/sys"}) {
    struct stat info;
    ASSERT_EQ(lstat((layer + directory).c_str(), &info), 0) << directory;
    EXPECT_EQ(info.st_mode, S_IFDIR | 0755u) << directory;
  }
  for (const char* file : {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
    EXPECT_EQ(ReadFile(layer + file, 1).value(), "") << file;

  EXPECT_EQ(points.Below({Overlay("/b:/a")}), std::vector<Mount>({Overlay("/b:/a:" + layer)}));
  const Mount bind = {
      .type = "bind", .source = "/lowerdir=", .target = "", .options = {"rbind", "rw"}};
  EXPECT_EQ(points.Below({bind}), std::vector<Mount>({bind}));
}

TEST(MountPointsTest, WhatIsThereAtTheNextStartStays) {
  const TempDir root;
  MountPoints::Open(root.path()).value();
  EXPECT_TRUE(MountPoints::Open(root.path()).ok());
}

TEST(MountPointsTest, AStackNearTheLimitsOfAMountStaysAsItIs) {
  const TempDir root;
  const MountPoints points = MountPoints::Open(root.path()).value();
  const Mount tall = Overlay(std::string(2100, 'x'));
  EXPECT_EQ(points.Below({tall}), std::vector<Mount>({tall}));
}

TEST(MountPointsTest, ARootThatNoMountOptionCanNameHasNone) {
  const TempDir root;
  const MountPoints points = MountPoints::Open(root.Join("a:b")).value();
  EXPECT_EQ(points.Below({Overlay("/a")}), std::vector<Mount>({Overlay("/a")}));
}

}  // namespace
}  // namespace gantry::core
