#include "shim/oci_runtime.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

// What crun leaves of a container "c" that is created: a named pipe from which the init reads.
class StartByHandTest : public ::testing::Test {
 protected:
  StartByHandTest() {
    EXPECT_EQ(mkdir((directory_.path() + "/c").c_str(), 0700), 0);
    EXPECT_EQ(mkfifo(fifo_.c_str(), 0600), 0);
  }
  UniqueFd Init() const { return UniqueFd(open(fifo_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)); }
  bool Start(const std::string& program) const {
    v1::Runtime config;
    config.set_path(program);
    config.set_state_root(directory_.path());
    return OciRuntime(config, "", directory_.path(), "c", 0, nullptr).StartByHand();
  }
  bool StillCreated() const { return access(fifo_.c_str(), F_OK) == 0; }

  const TempDir directory_;
  const std::string fifo_ = directory_.path() + "/c/exec.fifo";
};

TEST_F(StartByHandTest, TheInitGetsItsByteAndCountsAsStarted) {
  const UniqueFd init = Init();
  EXPECT_TRUE(Start("/usr/bin/crun"));
  char byte;
  EXPECT_EQ(read(init.get(), &byte, 1), 1);
  EXPECT_FALSE(StillCreated());
  EXPECT_FALSE(Start("/usr/bin/crun")) << "a second time";
}

TEST_F(StartByHandTest, WithoutAnInitNothingIsTouched) {
  EXPECT_FALSE(Start("/usr/bin/crun"));
  EXPECT_TRUE(StillCreated());
}

TEST_F(StartByHandTest, WhatIsNoNamedPipeIsLeftAlone) {
  ASSERT_EQ(unlink(fifo_.c_str()), 0);
  ASSERT_TRUE(WriteFile(fifo_, "x", 0600).ok());
  EXPECT_FALSE(Start("/usr/bin/crun"));
  EXPECT_EQ(*ReadFile(fifo_, 10), "x");
}

TEST_F(StartByHandTest, OtherRuntimesAreStartedByTheirCommand) {
  const UniqueFd init = Init();
  EXPECT_FALSE(Start("/usr/bin/runc"));
  EXPECT_TRUE(StillCreated());
}

}  // namespace
}  // namespace gantry::shim
