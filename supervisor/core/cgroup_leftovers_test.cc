#include "supervisor/core/cgroup_leftovers.h"

#include <sys/stat.h>

#include <ctime>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::core {
namespace {

using testing::IsEmpty;
using testing::UnorderedElementsAre;

class CgroupLeftoversTest : public ::testing::Test {
 protected:
  std::string Group(const std::string& path, const std::string& processes = "") {
    EXPECT_TRUE(MakeDirectories(dir_.Join(path)).ok());
    EXPECT_TRUE(WriteFile(dir_.Join(path) + "/cgroup.procs", processes).ok());
    return dir_.Join(path);
  }
  std::vector<std::string> Find() {
    return CgroupLeftovers(dir_.path(), {kept_}, std::numeric_limits<time_t>::max());
  }

  TempDir dir_;
  const std::string gone_ = std::string(64, 'a');
  const std::string kept_ = std::string(64, 'b');
};

TEST_F(CgroupLeftoversTest, EmptyGroupsOfNoContainerInBothLayouts) {
  const std::string v1 = Group("memory/gantry/" + gone_);
  const std::string scope = Group("pids/system.slice/gantry-" + gone_ + ".scope");
  Group("memory/gantry/" + kept_);
  Group("memory/gantry/other");
  Group("memory/system.slice/ssh.service");
  EXPECT_THAT(Find(), UnorderedElementsAre(v1, scope));
}

TEST_F(CgroupLeftoversTest, TheUnifiedTree) {
  ASSERT_TRUE(WriteFile(dir_.Join("cgroup.controllers"), "cpu memory\n").ok());
  const std::string v2 = Group("gantry/" + gone_);
  EXPECT_THAT(Find(), UnorderedElementsAre(v2));
}

// It may be another daemon's.
TEST_F(CgroupLeftoversTest, AGroupWithAProcessIsLeftAlone) {
  Group("memory/gantry/" + gone_);
  Group("memory/gantry/" + gone_ + "/inner", "71\n");
  EXPECT_THAT(Find(), IsEmpty());
}

TEST_F(CgroupLeftoversTest, WhatIsBeingMadeIsLeftAlone) {
  Group("memory/gantry/" + gone_);
  EXPECT_THAT(CgroupLeftovers(dir_.path(), {}, time(nullptr) - 60), IsEmpty());
}

}  // namespace
}  // namespace gantry::core
