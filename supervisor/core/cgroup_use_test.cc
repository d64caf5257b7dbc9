#include "supervisor/core/cgroup_use.h"

#include <cstdint>
#include <optional>
#include <string>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::core {
namespace {

class CgroupUseTest : public testing::Test {
 protected:
  // A file of the tree, with what the kernel would say.
  void Put(const std::string& path, const std::string& text) {
    const std::string full = mount_.Join(path);
    ASSERT_TRUE(MakeDirectories(full.substr(0, full.rfind('/'))).ok());
    ASSERT_TRUE(WriteFile(full, text).ok());
  }
  std::optional<CgroupUse> Read(const std::string& parent) {
    return ReadCgroupUse(parent, mount_.path());
  }
  TempDir mount_;
};

TEST_F(CgroupUseTest, AGroupOfVersion2) {
  Put("cgroup.controllers", "cpu memory pids\n");
  Put("kubepods/pod1/cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n");
  Put("kubepods/pod1/memory.current", "4096\n");
  Put("kubepods/pod1/memory.max", "8192\n");
  Put("kubepods/pod1/memory.stat", "anon 1024\nfile 2048\ninactive_file 512\n");
  Put("kubepods/pod1/pids.current", "3\n");
  Put("kubepods/pod1/memory.pressure",
      "some avg10=1.50 avg60=0.25 avg300=0.10 total=77\n"
      "full avg10=0.50 avg60=0.00 avg300=0.00 total=5\n");
  const std::optional<CgroupUse> use = Read("/kubepods/pod1");
  ASSERT_TRUE(use.has_value());
  EXPECT_TRUE(use->v2);
  EXPECT_EQ(use->cpu_nanos, 1500000u);
  EXPECT_EQ(use->memory_bytes, 4096u);
  EXPECT_EQ(use->memory_limit_bytes, 8192u);
  EXPECT_EQ(use->memory_stat.at("inactive_file"), 512u);
  EXPECT_EQ(use->tasks, 3u);
  ASSERT_TRUE(use->pressures.memory.has_value());
  EXPECT_EQ(use->pressures.memory->some.share_10, 1.5);
  EXPECT_EQ(use->pressures.memory->some.share_60, 0.25);
  EXPECT_EQ(use->pressures.memory->some.share_300, 0.1);
  EXPECT_EQ(use->pressures.memory->some.total_nanos, 77000u);
  EXPECT_EQ(use->pressures.memory->full.total_nanos, 5000u);
  EXPECT_FALSE(use->pressures.io.has_value());
}

TEST_F(CgroupUseTest, WithoutALimitThereIsNone) {
  Put("cgroup.controllers", "memory\n");
  Put("pod/memory.current", "1\n");
  Put("pod/memory.max", "max\n");
  ASSERT_TRUE(Read("/pod").has_value());
  EXPECT_EQ(Read("/pod")->memory_limit_bytes, UINT64_MAX);
}

TEST_F(CgroupUseTest, AGroupOfVersion1) {
  Put("cpuacct/kubepods/pod1/cpuacct.usage", "1500\n");
  Put("memory/kubepods/pod1/memory.usage_in_bytes", "4096\n");
  Put("memory/kubepods/pod1/memory.limit_in_bytes", "8192\n");
  Put("memory/kubepods/pod1/memory.stat", "cache 1\ntotal_rss 1024\n");
  Put("pids/kubepods/pod1/pids.current", "3\n");
  const std::optional<CgroupUse> use = Read("kubepods/pod1");
  ASSERT_TRUE(use.has_value());
  EXPECT_FALSE(use->v2);
  EXPECT_EQ(use->cpu_nanos, 1500u);
  EXPECT_EQ(use->memory_bytes, 4096u);
  EXPECT_EQ(use->memory_limit_bytes, 8192u);
  EXPECT_EQ(use->memory_stat.at("total_rss"), 1024u);
  EXPECT_EQ(use->tasks, 3u);
}

TEST_F(CgroupUseTest, WhatIsNotAPodsGroupIsNothing) {
  Put("cgroup.controllers", "memory\n");
  Put("memory.current", "1\n");
  Put("other/memory.current", "1\n");
  EXPECT_FALSE(Read("/pod").has_value());
  EXPECT_FALSE(Read("/").has_value());
  EXPECT_FALSE(Read("").has_value());
  EXPECT_FALSE(Read("/pod/../other").has_value());
}

TEST(PathOfCgroupTest, ASliceLiesInItsParents) {
  EXPECT_EQ(PathOfCgroup("/kubepods/pod1"), "/kubepods/pod1");
  EXPECT_EQ(PathOfCgroup("kubepods"), "/kubepods");
  EXPECT_EQ(PathOfCgroup("kubepods.slice"), "/kubepods.slice");
  EXPECT_EQ(PathOfCgroup("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice");
  EXPECT_EQ(PathOfCgroup("/a.slice/a-b.slice"), "/a.slice/a-b.slice");
}

TEST(PressuresTest, OfAProcessThatHasEndedThereAreNone) {
  EXPECT_FALSE(ReadPressures(-1).cpu.has_value());
}

}  // namespace
}  // namespace gantry::core
