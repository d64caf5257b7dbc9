#include "base/leftovers.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

// While it lives no descriptor can be opened.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

class LeftoversTest : public testing::Test {
 protected:
  bool Exists() const { return access(path_.c_str(), F_OK) == 0; }
  void Fill() {
    ASSERT_TRUE(leftovers_.Make(path_, 0700).ok());
    ASSERT_TRUE(WriteFile(path_ + "/file", "x").ok());
  }

  TempDir dir_;
  const std::string path_ = dir_.Join("d");
  Leftovers leftovers_;
};

TEST_F(LeftoversTest, WhatCouldNotBeRemovedGoesWithTheNextSweep) {
  Fill();
  {
    const NoDescriptors none;
    EXPECT_FALSE(leftovers_.Remove(path_).ok());
    EXPECT_FALSE(leftovers_.Sweep().ok());
  }
  EXPECT_TRUE(Exists());
  EXPECT_TRUE(leftovers_.Sweep().ok());
  EXPECT_FALSE(Exists());
}

TEST_F(LeftoversTest, SweepTakesNothingElse) {
  Fill();
  EXPECT_TRUE(leftovers_.Sweep().ok());
  EXPECT_TRUE(Exists());
  EXPECT_TRUE(leftovers_.Remove(path_).ok());
  EXPECT_FALSE(Exists());
  EXPECT_TRUE(leftovers_.Remove(path_).ok());
}

TEST_F(LeftoversTest, ADirectoryThatIsMadeAgainIsInUse) {
  Fill();
  {
    const NoDescriptors none;
    EXPECT_FALSE(leftovers_.Remove(path_).ok());
  }
  EXPECT_TRUE(absl::IsAlreadyExists(leftovers_.Make(path_, 0700)));
  ASSERT_TRUE(RemoveTree(path_).ok());  // by other means
  Fill();
  EXPECT_TRUE(leftovers_.Sweep().ok());
  EXPECT_EQ(ReadFile(path_ + "/file", 10).value_or("(gone)"), "x");
}

// A directory is never removed while its maker uses it, although it was a leftover just before.
TEST_F(LeftoversTest, MakingBesideSweepsLosesNothing) {
  std::atomic<bool> stop{false};
  std::thread sweeper([&] {
    while (!stop) leftovers_.Sweep().IgnoreError();
  });
  for (int i = 0; i < 200; ++i) {
    while (!leftovers_.Make(path_, 0700).ok()) {
    }
    ASSERT_TRUE(WriteFile(path_ + "/file", "x").ok()) << i;
    ASSERT_EQ(ReadFile(path_ + "/file", 10).value_or("(gone)"), "x") << i;
    const NoDescriptors none;
    EXPECT_FALSE(leftovers_.Remove(path_).ok());
  }
  stop = true;
  sweeper.join();
}

}  // namespace
}  // namespace gantry
