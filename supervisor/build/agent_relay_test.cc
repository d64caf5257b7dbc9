#include "supervisor/build/agent_relay.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"

namespace gantry::build {
namespace {

UniqueFd Dial(const std::string& path) {
  UniqueFd out(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  EXPECT_EQ(connect(out.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return out;
}

// What comes until the other side closes.
std::string ReadToEnd(int fd) {
  std::string text;
  char piece[256];
  ssize_t n;
  while ((n = read(fd, piece, sizeof piece)) > 0) text.append(piece, static_cast<size_t>(n));
  return text;
}

TEST(AgentRelayTest, BytesGoBothWaysUntilTheAgentCloses) {
  TempDir directory;
  UniqueFd agent;
  auto relay = AgentRelay::Listen(directory.path(), "agent", {0660, geteuid(), getegid()}, [&] {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    // Answers before it is asked, so that the test needs no second thread.
    EXPECT_EQ(write(ends[0], "signed", 6), 6);
    shutdown(ends[0], SHUT_WR);
    agent = UniqueFd(ends[0]);
    return absl::StatusOr<UniqueFd>(UniqueFd(ends[1]));
  });
  ASSERT_TRUE(relay.ok()) << relay.status();
  struct stat info;
  ASSERT_EQ(stat(directory.Join("agent").c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777, 0660u);
  const UniqueFd step = Dial(directory.Join("agent"));
  ASSERT_EQ(write(step.get(), "sign this", 9), 9);
  shutdown(step.get(), SHUT_WR);
  EXPECT_EQ(ReadToEnd(step.get()), "signed");
  EXPECT_EQ(ReadToEnd(agent.get()), "sign this");
}

TEST(AgentRelayTest, ItEndsWhileConnectionsAreOpen) {
  TempDir directory;
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd agent(ends[0]);
  std::atomic<int> asked = 0;
  auto relay = AgentRelay::Listen(directory.path(), "agent", {}, [&]() -> absl::StatusOr<UniqueFd> {
    if (++asked > 1) return absl::NotFoundError("gone");
    return UniqueFd(ends[1]);
  });
  ASSERT_TRUE(relay.ok()) << relay.status();
  const UniqueFd first = Dial(directory.Join("agent"));
  ASSERT_EQ(write(first.get(), "x", 1), 1);
  char one;
  ASSERT_EQ(read(agent.get(), &one, 1), 1);  // it is carried by now
  const UniqueFd second = Dial(directory.Join("agent"));
  EXPECT_EQ(ReadToEnd(second.get()), "");  // its agent cannot be reached
  relay->reset();
  EXPECT_EQ(ReadToEnd(first.get()), "");
}

}  // namespace
}  // namespace gantry::build
