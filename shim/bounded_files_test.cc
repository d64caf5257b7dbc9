#include "shim/bounded_files.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::shim {
namespace {

const std::vector<std::string> kNames = {"hosts", "hostname"};

class BoundedFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      GTEST_SKIP() << "needs to make mounts";
    ASSERT_TRUE(MakeDirectories(directory_).ok());
    ASSERT_TRUE(WriteFile(directory_ + "/hosts", "127.0.0.1 localhost\n").ok());
    ASSERT_TRUE(WriteFile(directory_ + "/container.log", "not to be copied\n").ok());
  }
  std::string Text(const std::string& path) { return ReadFile(path, 1 << 20).value_or("(none)"); }

  TempDir dir_;
  const std::string directory_ = dir_.Join("own");
  const std::string at_ = dir_.Join("shown");
};

TEST_F(BoundedFilesTest, CopiesHaveContentOwnerAndMode) {
  ASSERT_EQ(chmod((directory_ + "/hosts").c_str(), 0640), 0);
  absl::StatusOr<BoundedFiles> files = BoundedFiles::Make(directory_, kNames, 65536, at_);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(Text(at_ + "/hosts"), "127.0.0.1 localhost\n");
  struct stat info;
  ASSERT_EQ(stat((at_ + "/hosts").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
  EXPECT_NE(access((at_ + "/container.log").c_str(), F_OK), 0);
  EXPECT_TRUE(files->End().ok());
  EXPECT_NE(access((at_ + "/hosts").c_str(), F_OK), 0);
}

TEST_F(BoundedFilesTest, TheyDoNotGrowBeyondTheBoundAndAreWrittenBack) {
  absl::StatusOr<BoundedFiles> files = BoundedFiles::Make(directory_, kNames, 65536, at_);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_FALSE(WriteFile(at_ + "/hosts", std::string(1 << 20, 'x')).ok());
  struct stat info;
  ASSERT_EQ(stat((at_ + "/hosts").c_str(), &info), 0);
  EXPECT_LE(info.st_size, 65536);
  ASSERT_TRUE(WriteFile(at_ + "/hosts", "mine\n").ok());
  EXPECT_EQ(Text(directory_ + "/hosts"), "127.0.0.1 localhost\n");
  EXPECT_TRUE(files->End().ok());
  EXPECT_EQ(Text(directory_ + "/hosts"), "mine\n");
  EXPECT_EQ(Text(directory_ + "/container.log"), "not to be copied\n");
}

// What is a link now would be written to somewhere else.
TEST_F(BoundedFilesTest, WhatIsNoFileAnyMoreIsNotWrittenBack) {
  absl::StatusOr<BoundedFiles> files = BoundedFiles::Make(directory_, kNames, 65536, at_);
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_TRUE(WriteFile(dir_.Join("secret"), "secret\n").ok());
  ASSERT_EQ(unlink((at_ + "/hosts").c_str()), 0);
  ASSERT_EQ(symlink(dir_.Join("secret").c_str(), (at_ + "/hosts").c_str()), 0);
  EXPECT_TRUE(files->End().ok());
  EXPECT_EQ(Text(directory_ + "/hosts"), "127.0.0.1 localhost\n");
}

TEST_F(BoundedFilesTest, NamesThatLeadElsewhereAreRefused) {
  for (const char* name : {"../own/hosts", "", ".", ".."}) {
    EXPECT_EQ(BoundedFiles::Make(directory_, {name}, 65536, at_).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
}

}  // namespace
}  // namespace gantry::shim
