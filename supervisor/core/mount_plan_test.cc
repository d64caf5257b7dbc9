#include "supervisor/core/mount_plan.h"

#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using snapshot::Mount;

std::optional<size_t> Performed(const std::vector<std::string>& types, bool temporary = false) {
  std::vector<Mount> mounts;
  for (const std::string& type : types) mounts.push_back({.type = type, .source = "s"});
  return PlanMounts(mounts, temporary).performed;
}

TEST(MountPlanTest, WhatTheKernelDoesAloneIsTheClients) {
  EXPECT_EQ(Performed({}), std::nullopt);
  EXPECT_EQ(Performed({"bind"}), std::nullopt);
  EXPECT_EQ(Performed({"overlay", "bind"}), std::nullopt);
  EXPECT_EQ(Performed({"unknown/bind"}), std::nullopt);
}

TEST(MountPlanTest, AllBeforeTheLastThatNeedsTheDaemonIsPerformed) {
  EXPECT_EQ(Performed({"loop"}), 1u);
  EXPECT_EQ(Performed({"bind", "loop", "bind"}), 2u);
  // A mount that is only changed stays the client's.
  EXPECT_EQ(Performed({"loop", "format/ext4"}), 1u);
  EXPECT_EQ(Performed({"loop", "format/ext4", "format/mkdir/overlay"}), 2u);
  EXPECT_EQ(Performed({"mkdir/bind"}), 0u);
  EXPECT_EQ(Performed({"bind", "overlay"}, /*temporary=*/true), 2u);
}

TEST(MountPlanTest, PrefixesAreTakenOutermostFirst) {
  const MountPlan plan = PlanMounts({{.type = "format/mkdir/overlay", .source = "s"}}, false);
  EXPECT_EQ(plan.steps[0], (std::vector<MountStep>{MountStep::kFormat, MountStep::kMkdir}));
  EXPECT_EQ(plan.types[0], "overlay");
}

TEST(MountPlanTest, TemplatesStandForMountsBefore) {
  const std::vector<ActiveMount> before = {
      {{.type = "loop", .source = "/img", .target = "t"}, {}, "/m/0"},
      {{.type = "ext4", .source = "/dev"}, {}, "/m/1"},
      {{.type = "ext4", .source = "/dev"}, {}, "/m/2"}};
  const auto formatted = FormatMount(
      {.type = "overlay",
       .source = "{{ mount 0 }}",
       .target = "{{target 0}}",
       .options = {"lowerdir={{ overlay 2 0 }}", "x={{ overlay 0 1 }}/{{ source 0 }}", "ro"}},
      before);
  ASSERT_TRUE(formatted.ok()) << formatted.status();
  EXPECT_EQ(*formatted, (Mount{.type = "overlay",
                               .source = "/m/0",
                               .target = "t",
                               .options = {"lowerdir=/m/2:/m/1:/m/0", "x=/m/0:/m/1//img", "ro"}}));
  for (const char* bad : {"{{ mount 3 }}", "{{ mount -1 }}", "{{ mount }}", "{{ exec 0 }}",
                          "{{ mount 0", "{{ overlay 0 3 }}"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(FormatMount({.type = "", .source = bad}, before).status()))
        << bad;
  }
}

TEST(MountPlanTest, OptionsOfMkdirAreTakenOut) {
  Mount mount = {.type = "bind",
                 .source = "s",
                 .target = "",
                 .options = {"ro", "X-containerd.mkdir.path=/a", "X-containerd.mkdir.path=/b:0755",
                             "X-containerd.mkdir.path=/c:711:5:6"}};
  const auto taken = TakeMkdirOptions(mount);
  ASSERT_TRUE(taken.ok()) << taken.status();
  ASSERT_EQ(taken->size(), 3u);
  EXPECT_EQ((*taken)[0].path, "/a");
  EXPECT_EQ((*taken)[0].mode, 0700u);
  EXPECT_EQ((*taken)[1].mode, 0755u);
  EXPECT_EQ((*taken)[2].mode, 0711u);
  EXPECT_EQ((*taken)[2].uid, 5u);
  EXPECT_EQ((*taken)[2].gid, 6u);
  EXPECT_EQ(mount.options, std::vector<std::string>{"ro"});
  for (const char* bad :
       {"X-containerd.mkdir.x=/a", "X-containerd.mkdir.path=", "X-containerd.mkdir.path=/a:9",
        "X-containerd.mkdir.path=/a:1777", "X-containerd.mkdir.path=/a:700:1",
        "X-containerd.mkdir.path=/a:700:x:1"}) {
    Mount one = {.type = "bind", .source = "s", .target = "", .options = {bad}};
    EXPECT_TRUE(absl::IsInvalidArgument(TakeMkdirOptions(one).status())) << bad;
  }
}

TEST(MountPlanTest, OptionsOfMkfsAreTakenOut) {
  Mount mount = {.type = "loop",
                 .source = "s",
                 .target = "",
                 .options = {"X-containerd.mkfs.size=64MiB", "rw", "X-containerd.mkfs.fs=xfs",
                             "X-containerd.mkfs.uuid=u"}};
  const auto taken = TakeMkfsOption(mount);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->size_bytes, 64 << 20);
  EXPECT_EQ(taken->file_system, "xfs");
  EXPECT_EQ(taken->uuid, "u");
  EXPECT_EQ(mount.options, std::vector<std::string>{"rw"});
  for (const char* bad : {"rw", "X-containerd.mkfs.size=much", "X-containerd.mkfs.size=1x",
                          "X-containerd.mkfs.size=9999999999t", "X-containerd.mkfs.fs=btrfs",
                          "X-containerd.mkfs.label=l"}) {
    Mount one = {.type = "loop", .source = "s", .target = "", .options = {bad}};
    EXPECT_TRUE(absl::IsInvalidArgument(TakeMkfsOption(one).status())) << bad;
  }
}

}  // namespace
}  // namespace gantry::core
