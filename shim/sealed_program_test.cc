#include "shim/sealed_program.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"

namespace gantry::shim {
namespace {

class SealedProgramTest : public ::testing::Test {
 protected:
  void Write(const std::string& text) {
    ASSERT_TRUE(WriteFile(path_, text, 0755).ok());
    ASSERT_EQ(chmod(path_.c_str(), 0755), 0);
  }
  std::string Content(int fd) {
    return ReadFile(absl::StrCat("/proc/self/fd/", fd), 1 << 20).value_or("unreadable");
  }

  TempDir directory_;
  const std::string path_ = directory_.path() + "/program";
  SealedPrograms programs_;
};

TEST_F(SealedProgramTest, ACopyHasTheContentAndCannotBeChanged) {
  Write("#!/bin/sh\nexit 7\n");
  const int fd = programs_.Find(path_);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(Content(fd), "#!/bin/sh\nexit 7\n");
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  const int writable = open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_WRONLY | O_CLOEXEC);
  if (writable >= 0) {
    EXPECT_EQ(write(writable, "x", 1), -1);
    close(writable);
  }
}

TEST_F(SealedProgramTest, ACopyCanBeExecuted) {
  Write(*ReadFile("/bin/true", 16 << 20));
  const int fd = programs_.Find(path_);
  ASSERT_GE(fd, 0);
  Command command;
  command.argv = {absl::StrCat("/proc/", getpid(), "/fd/", fd)};
  command.timeout = absl::Seconds(10);
  const auto result = RunCommand(command);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->status.ok()) << result->status.ToString();
}

TEST_F(SealedProgramTest, OneCopyServesUntilTheFileChanges) {
  Write("one");
  const int first = programs_.Find(path_);
  EXPECT_EQ(programs_.Find(path_), first);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  Write("another");
  EXPECT_EQ(Content(programs_.Find(path_)), "another");
}

TEST_F(SealedProgramTest, WhatIsNoProgramHasNone) {
  EXPECT_EQ(programs_.Find(path_), -1);
  EXPECT_EQ(programs_.Find(directory_.path()), -1);
  Write("not executable");
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  EXPECT_EQ(programs_.Find(path_), -1);
}

}  // namespace
}  // namespace gantry::shim
