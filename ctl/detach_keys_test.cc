#include "ctl/detach_keys.h"

#include <gtest/gtest.h>

namespace gantry::ctl {
namespace {

TEST(DetachKeysTest, DefaultIsControlPControlQ) {
  DetachKeys keys = DetachKeys::Default();
  bool detached;
  EXPECT_EQ(keys.Filter("ls\x10", &detached), "ls");
  EXPECT_FALSE(detached);
  EXPECT_EQ(keys.Filter("\x11rest", &detached), "");
  EXPECT_TRUE(detached);
}

TEST(DetachKeysTest, BeginningThatGoesOnDifferentlyIsPassedOn) {
  DetachKeys keys = DetachKeys::Default();
  bool detached;
  EXPECT_EQ(keys.Filter("\x10", &detached), "");
  EXPECT_EQ(keys.Filter("x", &detached), "\x10x");
  EXPECT_EQ(keys.Filter("\x10\x10\x11", &detached), "\x10");
  EXPECT_TRUE(detached);
}

TEST(DetachKeysTest, SequenceThatRepeatsItselfIsFound) {
  DetachKeys keys = *DetachKeys::Parse("a,a,b");
  bool detached;
  EXPECT_EQ(keys.Filter("aaab", &detached), "a");
  EXPECT_TRUE(detached);
}

TEST(DetachKeysTest, EmptyNeverDetaches) {
  DetachKeys keys = *DetachKeys::Parse("");
  bool detached;
  EXPECT_EQ(keys.Filter("\x10\x11", &detached), "\x10\x11");
  EXPECT_FALSE(detached);
}

TEST(DetachKeysTest, ParsesDockersForms) {
  DetachKeys keys = *DetachKeys::Parse("ctrl-a,ctrl-[,z");
  bool detached;
  keys.Filter("\x01\x1bz", &detached);
  EXPECT_TRUE(detached);
  EXPECT_FALSE(DetachKeys::Parse("ctrl-1").ok());
  EXPECT_FALSE(DetachKeys::Parse("ab").ok());
  EXPECT_FALSE(DetachKeys::Parse("a,,b").ok());
}

}  // namespace
}  // namespace gantry::ctl
