#include "supervisor/service_manager.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"

namespace gantry {
namespace {

UniqueFd BoundSocket(const std::string& path, int type) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, type, 0));
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  if (type == SOCK_STREAM) {
    EXPECT_EQ(listen(fd.get(), 4), 0);
  }
  return fd;
}

// Runs `child` in a process of its own whose descriptors from 3 on are `fds`, as systemd starts a
// service; LISTEN_PID is that process.
template <typename Child>
int InService(std::vector<int> fds, const char* names, Child child) {
  const pid_t pid = fork();
  if (pid == 0) {
    // Out of the way first: the numbers may overlap.
    for (int& fd : fds) fd = fcntl(fd, F_DUPFD, 100);
    for (size_t i = 0; i < fds.size(); ++i) dup2(fds[i], static_cast<int>(3 + i));
    setenv("LISTEN_PID", absl::StrCat(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", absl::StrCat(fds.size()).c_str(), 1);
    setenv("LISTEN_FDNAMES", names, 1);
    _exit(child());
  }
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

TEST(ServiceManagerTest, ListeningSocketsAreTakenByPathAndByName) {
  TempDir directory;
  const std::string first = directory.Join("a.sock");
  const std::string second = directory.Join("b.sock");
  const UniqueFd a = BoundSocket(first, SOCK_STREAM);
  const UniqueFd b = BoundSocket(second, SOCK_STREAM);
  EXPECT_EQ(InService({a.get(), b.get()}, "gantry.socket:docker",
                      [&] {
                        ServiceManager manager = ServiceManager::FromEnvironment();
                        InheritedSockets& sockets = manager.sockets();
                        if (!sockets.Has(first) || sockets.Has("/elsewhere")) return 1;
                        const auto taken = sockets.Take(first);
                        if (!taken.has_value() || sockets.Take(first).has_value()) return 2;
                        if ((fcntl(taken->get(), F_GETFL) & O_NONBLOCK) == 0) return 3;
                        if ((fcntl(taken->get(), F_GETFD) & FD_CLOEXEC) == 0) return 4;
                        if (getenv("LISTEN_FDS") != nullptr) return 5;
                        const auto named = sockets.TakeNamed("docker");
                        if (named.size() != 1 || named[0].path != second) return 6;
                        return sockets.left().empty() ? 0 : 7;
                      }),
            0);
}

TEST(ServiceManagerTest, DescriptorsThatDoNotListenAreClosed) {
  TempDir directory;
  const UniqueFd datagrams = BoundSocket(directory.Join("d.sock"), SOCK_DGRAM);
  const UniqueFd file(open("/dev/null", O_RDONLY));
  EXPECT_EQ(InService({datagrams.get(), file.get()}, "",
                      [] {
                        ServiceManager manager = ServiceManager::FromEnvironment();
                        if (!manager.sockets().left().empty()) return 1;
                        return fcntl(3, F_GETFD) < 0 && fcntl(4, F_GETFD) < 0 ? 0 : 2;
                      }),
            0);
}

TEST(ServiceManagerTest, SocketsOfAnotherProcessAreLeftAlone) {
  TempDir directory;
  const UniqueFd a = BoundSocket(directory.Join("a.sock"), SOCK_STREAM);
  EXPECT_EQ(InService({a.get()}, "",
                      [] {
                        setenv("LISTEN_PID", "1", 1);
                        ServiceManager manager = ServiceManager::FromEnvironment();
                        return manager.sockets().left().empty() && fcntl(3, F_GETFD) >= 0 ? 0 : 1;
                      }),
            0);
}

TEST(ServiceManagerTest, NotifiesAndReadsTheWatchdog) {
  TempDir directory;
  const std::string path = directory.Join("notify");
  const UniqueFd receiver = BoundSocket(path, SOCK_DGRAM);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  setenv("WATCHDOG_USEC", "3000000", 1);
  setenv("WATCHDOG_PID", absl::StrCat(getpid()).c_str(), 1);
  const ServiceManager manager = ServiceManager::FromEnvironment();
  EXPECT_EQ(manager.watchdog(), absl::Seconds(3));
  EXPECT_EQ(getenv("NOTIFY_SOCKET"), nullptr);
  manager.Notify("READY=1");
  char text[64];
  const ssize_t n = recv(receiver.get(), text, sizeof text, MSG_DONTWAIT);
  ASSERT_GT(n, 0);
  EXPECT_EQ(std::string(text, static_cast<size_t>(n)), "READY=1");

  setenv("WATCHDOG_USEC", "3000000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(ServiceManager::FromEnvironment().watchdog(), absl::ZeroDuration());
}

TEST(SelfCheckTest, AnswersOnceTheServerHasSpoken) {
  TempDir directory;
  const std::string path = directory.Join("sock");
  SelfCheck check(path);
  EXPECT_FALSE(check.Answered());  // nothing listens
  const UniqueFd server = BoundSocket(path, SOCK_STREAM);
  EXPECT_FALSE(check.Answered());  // connected
  EXPECT_FALSE(check.Answered());  // nothing was said
  {
    const UniqueFd connection(accept(server.get(), nullptr, nullptr));
    ASSERT_EQ(write(connection.get(), "x", 1), 1);
    EXPECT_TRUE(check.Answered());
  }
  EXPECT_FALSE(check.Answered());
  const UniqueFd second(accept(server.get(), nullptr, nullptr));
  EXPECT_FALSE(check.Answered());
}

TEST(WatchdogTest, ReportsAThirdOfTheLimitApartAndOnlyWhileTheDaemonAnswers) {
  bool answers = true;
  int reports = 0;
  Watchdog watchdog(
      absl::Seconds(30), [&] { return answers; }, [&] { ++reports; });
  watchdog.Tick(absl::Seconds(100));
  EXPECT_EQ(reports, 1);
  watchdog.Tick(absl::Seconds(109));
  EXPECT_EQ(reports, 1);
  watchdog.Tick(absl::Seconds(110));
  EXPECT_EQ(reports, 2);
  answers = false;
  watchdog.Tick(absl::Seconds(130));
  EXPECT_EQ(reports, 2);
  answers = true;
  watchdog.Tick(absl::Seconds(132));
  EXPECT_EQ(reports, 3);
}

}  // namespace
}  // namespace gantry
