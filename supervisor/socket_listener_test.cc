#include "supervisor/socket_listener.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"

namespace gantry {
namespace {

constexpr uid_t kSame = static_cast<uid_t>(-1);

class Connections {
 public:
  void Add(UniqueFd connection) {
    absl::MutexLock lock(&mu_);
    held_.push_back(std::move(connection));
  }
  bool Reach(size_t count) {
    absl::MutexLock lock(&mu_);
    const auto reached = [this, count]()
                             ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return held_.size() >= count; };
    return mu_.AwaitWithTimeout(absl::Condition(&reached), absl::Seconds(30));
  }

 private:
  absl::Mutex mu_;
  std::vector<UniqueFd> held_ ABSL_GUARDED_BY(mu_);
};

UniqueFd Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    fd.reset();
  }
  return fd;
}

TEST(SocketListenerTest, HandsOutConnectionsAndTakesItsFileAlong) {
  TempDir directory;
  const std::string path = directory.Join("sock");
  Connections connections;
  {
    auto listener = SocketListener::Listen(path, kSame, kSame);
    ASSERT_TRUE(listener.ok()) << listener.status();
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660u);
    const UniqueFd early = Connect(path);  // waits in the backlog
    EXPECT_TRUE(early.valid());
    (*listener)->Start([&](UniqueFd connection) { connections.Add(std::move(connection)); });
    const UniqueFd late = Connect(path);
    EXPECT_TRUE(connections.Reach(2));
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  EXPECT_FALSE(Connect(path).valid());
}

TEST(SocketListenerTest, AnInheritedSocketOutlivesItsListener) {
  TempDir directory;
  const std::string path = directory.Join("sock");
  auto socket = SocketListener::Bind(path, kSame, kSame);
  ASSERT_TRUE(socket.ok()) << socket.status();
  const UniqueFd held(fcntl(socket->get(), F_DUPFD_CLOEXEC, 0));  // as systemd holds it
  Connections connections;
  {
    auto listener = SocketListener::Adopt(path, *std::move(socket));
    ASSERT_TRUE(listener.ok()) << listener.status();
    (*listener)->Start([&](UniqueFd connection) { connections.Add(std::move(connection)); });
    EXPECT_TRUE(Connect(path).valid());
    EXPECT_TRUE(connections.Reach(1));
  }
  const UniqueFd waits = Connect(path);
  EXPECT_TRUE(waits.valid());
  EXPECT_TRUE(UniqueFd(accept4(held.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid());
}

TEST(SocketListenerTest, HearsAgainAfterDescriptorsWereShort) {
  TempDir directory;
  const std::string path = directory.Join("sock");
  auto listener = SocketListener::Listen(path, kSame, kSame);
  ASSERT_TRUE(listener.ok()) << listener.status();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(Connect(path));
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // One more, then none.
  rlimit none = before;
  const UniqueFd probe(fcntl(0, F_DUPFD_CLOEXEC, 0));
  none.rlim_cur = static_cast<rlim_t>(probe.get()) + 2;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  Connections connections;
  (*listener)->Start([&](UniqueFd connection) { connections.Add(std::move(connection)); });
  EXPECT_TRUE(connections.Reach(1));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(connections.Reach(3));
}

TEST(SocketListenerTest, ErrorsNameTheSocket) {
  TempDir directory;
  const auto too_long = SocketListener::Listen("/" + std::string(200, 'x'), kSame, kSame);
  EXPECT_EQ(too_long.status().code(), absl::StatusCode::kInvalidArgument);
  const auto nowhere = SocketListener::Listen(directory.Join("none/sock"), kSame, kSame);
  EXPECT_NE(nowhere.status().message().find("none/sock"), std::string::npos) << nowhere.status();
}

}  // namespace
}  // namespace gantry
