#include "base/unique_fd.h"

#include <fcntl.h>

#include <utility>

#include "gtest/gtest.h"

namespace gantry {
namespace {

bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

int OpenNull() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST(UniqueFdTest, DestructionCloses) {
  const int fd = OpenNull();
  { UniqueFd owner(fd); }
  EXPECT_FALSE(IsOpen(fd));
}

TEST(UniqueFdTest, MoveLeavesTheSourceEmpty) {
  const int fd = OpenNull();
  UniqueFd from(fd);
  UniqueFd to(std::move(from));
  // NOLINTNEXTLINE(bugprone-use-after-move,clang-analyzer-cplusplus.Move): the promise under test
  EXPECT_FALSE(from.valid());
  EXPECT_EQ(to.get(), fd);
  EXPECT_TRUE(IsOpen(fd));
}

TEST(UniqueFdTest, AssignmentClosesTheOldOne) {
  const int old_fd = OpenNull();
  UniqueFd owner(old_fd);
  owner = UniqueFd(OpenNull());
  EXPECT_FALSE(IsOpen(old_fd));
  EXPECT_TRUE(owner.valid());
}

TEST(UniqueFdTest, ReleaseGivesItAway) {
  const int fd = OpenNull();
  {
    UniqueFd owner(fd);
    EXPECT_EQ(owner.release(), fd);
  }
  EXPECT_TRUE(IsOpen(fd));
  ::close(fd);
}

TEST(UniqueFdTest, ResetToTheSameKeepsItOpen) {
  UniqueFd owner(OpenNull());
  owner.reset(owner.get());
  EXPECT_TRUE(IsOpen(owner.get()));
}

}  // namespace
}  // namespace gantry
