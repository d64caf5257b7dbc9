#include "supervisor/daemon_places.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry {
namespace {

UniqueFd ListenAt(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (bind(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0 ||
      listen(fd.get(), 1) != 0) {
    return UniqueFd();
  }
  return fd;
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

TEST(TakeOverSocketTest, SocketOfAKilledDaemonIsRemoved) {
  TempDir dir;
  const std::string path = dir.path() + "/gantry.sock";
  { ASSERT_TRUE(ListenAt(path).valid()); }
  ASSERT_TRUE(Exists(path));
  EXPECT_TRUE(TakeOverSocket(path).ok());
  EXPECT_FALSE(Exists(path));
}

TEST(TakeOverSocketTest, SocketThatAnswersStays) {
  TempDir dir;
  const std::string path = dir.path() + "/gantry.sock";
  const UniqueFd other = ListenAt(path);
  ASSERT_TRUE(other.valid());
  EXPECT_EQ(TakeOverSocket(path).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Exists(path));
}

TEST(TakeOverSocketTest, FileOfSomebodyElseStays) {
  TempDir dir;
  const std::string path = dir.path() + "/gantry.sock";
  ASSERT_TRUE(WriteFileAtomic(path, "theirs", 0600).ok());
  EXPECT_EQ(TakeOverSocket(path).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Exists(path));
}

TEST(PersistentUuidTest, StaysTheSame) {
  TempDir dir;
  const absl::StatusOr<std::string> first = PersistentUuid(dir.path());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->size(), 36u);
  EXPECT_EQ(PersistentUuid(dir.path()).value_or(""), *first);
}

TEST(PersistentUuidTest, DamagedOneIsReplaced) {
  TempDir dir;
  ASSERT_TRUE(WriteFileAtomic(dir.path() + "/uuid", "short", 0600).ok());
  EXPECT_EQ(PersistentUuid(dir.path()).value_or("").size(), 36u);
}

TEST(FindProgramTest, GivenPathIsTakenAsItIs) {
  EXPECT_EQ(FindProgram("/opt/x/gantry-shim", "gantry-shim", "shim"), "/opt/x/gantry-shim");
}

TEST(FindProgramTest, ProgramThatIsNowhereHasNoPath) {
  EXPECT_EQ(FindProgram("", "gantry-no-such-program", "shim"), "");
}

}  // namespace
}  // namespace gantry
