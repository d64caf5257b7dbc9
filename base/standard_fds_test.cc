#include "base/standard_fds.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "gtest/gtest.h"

namespace gantry {
namespace {

bool IsDevNull(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

// The exit status of a child that closes `closed`, calls the function, and looks at its
// descriptors: 0 when those that were closed are /dev/null and the others are what they were.
int AfterClosing(const std::vector<int>& closed) {
  const pid_t child = fork();
  if (child == 0) {
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    for (int fd = 0; fd <= 2; ++fd) dup2(file, fd);
    close(file);
    for (const int fd : closed) close(fd);
    if (!OpenStandardFds()) _exit(1);
    for (int fd = 0; fd <= 2; ++fd) {
      bool was_closed = false;
      for (const int each : closed) was_closed = was_closed || each == fd;
      if (IsDevNull(fd) != was_closed) _exit(2);
      // Children have them too.
      if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0) _exit(3);
    }
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(StandardFdsTest, ClosedDescriptorsBecomeDevNull) {
  EXPECT_EQ(AfterClosing({0}), 0);
  EXPECT_EQ(AfterClosing({1}), 0);
  EXPECT_EQ(AfterClosing({2}), 0);
  EXPECT_EQ(AfterClosing({0, 2}), 0);
  EXPECT_EQ(AfterClosing({0, 1, 2}), 0);
}

TEST(StandardFdsTest, OpenDescriptorsStay) { EXPECT_EQ(AfterClosing({}), 0); }

}  // namespace
}  // namespace gantry
