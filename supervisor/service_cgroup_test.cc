#include "supervisor/service_cgroup.h"

#include <filesystem>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

namespace fs = std::filesystem;

// A tree of directories and files in place of the kernel's. What the kernel would put into a new
// group is put there before.
class JoinCgroupTest : public testing::Test {
 protected:
  void Put(const std::string& name, const std::string& text) {
    const fs::path file = fs::path(tree_.path()) / name;
    fs::create_directories(file.parent_path());
    ASSERT_TRUE(WriteFile(file.string(), text).ok());
  }
  std::string Text(const std::string& name) const {
    return ReadFile(tree_.Join(name), 100).value_or("(none)");
  }

  TempDir tree_;
};

TEST_F(JoinCgroupTest, VersionTwoHasOneHierarchy) {
  Put("cgroup.controllers", "cpu memory\n");
  Put("cgroup.procs", "");
  Put("services/gantry/cgroup.procs", "");
  ASSERT_TRUE(JoinCgroup(tree_.path(), "/services/gantry", 123).ok());
  EXPECT_EQ(Text("services/gantry/cgroup.procs"), "123");
  EXPECT_EQ(Text("cgroup.procs"), "");
}

TEST_F(JoinCgroupTest, VersionOneIsJoinedInEveryHierarchyOnce) {
  for (const char* name : {"memory", "cpu,cpuacct", "unified"}) {
    Put(std::string(name) + "/cgroup.procs", "");
    Put(std::string(name) + "/gantry/cgroup.procs", "");
  }
  fs::create_directory_symlink("cpu,cpuacct", tree_.Join("cpu"));
  Put("no-hierarchy/file", "");
  ASSERT_TRUE(JoinCgroup(tree_.path(), "gantry", 7).ok());
  EXPECT_EQ(Text("memory/gantry/cgroup.procs"), "7");
  EXPECT_EQ(Text("cpu,cpuacct/gantry/cgroup.procs"), "7");
  EXPECT_EQ(Text("unified/gantry/cgroup.procs"), "7");
  EXPECT_FALSE(fs::exists(tree_.Join("no-hierarchy/gantry")));
}

TEST_F(JoinCgroupTest, ANewCpusetGroupGetsWhatTheGroupAboveHas) {
  Put("cpuset/cgroup.procs", "");
  Put("cpuset/cpuset.cpus", "0-1\n");
  Put("cpuset/cpuset.mems", "0\n");
  for (const std::string group : {"cpuset/a", "cpuset/a/b"}) {
    Put(group + "/cpuset.cpus", "\n");
    Put(group + "/cpuset.mems", group == "cpuset/a" ? "0" : "");
    Put(group + "/cgroup.procs", "");
  }
  ASSERT_TRUE(JoinCgroup(tree_.path(), "/a/b", 7).ok());
  EXPECT_EQ(Text("cpuset/a/cpuset.cpus"), "0-1\n");
  EXPECT_EQ(Text("cpuset/a/b/cpuset.cpus"), "0-1\n");
  EXPECT_EQ(Text("cpuset/a/b/cpuset.mems"), "0");
  EXPECT_EQ(Text("cpuset/a/b/cgroup.procs"), "7");
}

TEST_F(JoinCgroupTest, MissingGroupsAreMadeAndTheErrorNamesTheGroup) {
  Put("cgroup.controllers", "");
  // No kernel makes cgroup.procs in the new directory.
  const absl::Status status = JoinCgroup(tree_.path(), "/new/group", 7);
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_NE(status.message().find("new/group"), absl::string_view::npos) << status;
  EXPECT_TRUE(fs::is_directory(tree_.Join("new/group")));
}

TEST_F(JoinCgroupTest, PathsThatLeadElsewhereAreRefused) {
  for (const char* path : {"", "/", "..", "/a/../../b", "/a/./b"})
    EXPECT_TRUE(absl::IsInvalidArgument(JoinCgroup(tree_.path(), path, 7))) << path;
  EXPECT_TRUE(absl::IsFailedPrecondition(JoinCgroup(tree_.path(), "/a", 7)));
}

}  // namespace
}  // namespace gantry
