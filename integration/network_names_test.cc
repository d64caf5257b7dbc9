// Names inside networks, as programs in containers see them.
//
// The test, and with it the daemon, is in network and mount namespaces of its own: bridges and
// rules are not the machine's, and neither is /etc/resolv.conf. Queries are sent from the
// containers' network namespaces.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/testbed.h"
#include "shim/dns_testing.h"

namespace gantry::integration {
namespace {

using shim::AddressesIn;
using shim::AnswerMessage;
using shim::At16;
using shim::CodeOf;
using shim::QueryMessage;
using Strings = std::vector<std::string>;

constexpr char kImage[] = "busybox:test";
constexpr char kResolver[] = "127.0.0.11";
constexpr uint16_t kPublished = 28080;

sockaddr_in At(const std::string& address, uint16_t port = 53) {
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  return to;
}

UniqueFd Socket(int type) {
  UniqueFd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
  const timeval patience = {5, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  return fd;
}
bool Bind(const UniqueFd& fd, const sockaddr_in& at) {
  return bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
}
bool Connect(const UniqueFd& fd, const sockaddr_in& at) {
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0;
}

std::string Receive(int fd) {
  char buffer[8192];
  const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
  return got <= 0 ? "" : std::string(buffer, static_cast<size_t>(got));
}

std::string ReceiveMessage(int fd) {
  std::string text;
  while (text.size() < 2 || text.size() < 2 + At16(text, 0)) {
    const std::string more = Receive(fd);
    if (more.empty()) return "";
    text += more;
  }
  return text.substr(2);
}

// In the network namespace of the calling thread.
std::string Ask(const std::string& message, bool tcp = false,
                const std::string& server = kResolver) {
  const UniqueFd fd = Socket(tcp ? SOCK_STREAM : SOCK_DGRAM);
  if (!Connect(fd, At(server))) return "";
  const std::string out =
      tcp ? shim::Two(static_cast<unsigned>(message.size())) + message : message;
  if (send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out.size()))
    return "";
  return tcp ? ReceiveMessage(fd.get()) : Receive(fd.get());
}

// "10.77.0.2 10.77.0.3", "code N" or "silence".
std::string Lookup(const std::string& name, uint16_t type = 1, bool tcp = false) {
  const std::string answer = Ask(QueryMessage(7, name, type), tcp);
  if (answer.empty()) return "silence";
  if (CodeOf(answer) != 0) return absl::StrCat("code ", CodeOf(answer));
  Strings addresses = AddressesIn(answer);
  std::sort(addresses.begin(), addresses.end());
  return absl::StrJoin(addresses, " ");
}

// A name server that answers each query with one address, bound where its maker stands.
class Server {
 public:
  Server(const std::string& address, std::string answer)
      : answer_(std::move(answer)), udp_(Socket(SOCK_DGRAM)), tcp_(Socket(SOCK_STREAM)) {
    EXPECT_TRUE(Bind(udp_, At(address)));
    EXPECT_TRUE(Bind(tcp_, At(address)));
    EXPECT_EQ(listen(tcp_.get(), 16), 0);
    thread_ = std::thread([this] {
      while (!stop_) Serve();
    });
  }
  ~Server() {
    stop_ = true;
    thread_.join();
  }
  int queries() const { return queries_; }

 private:
  void Serve() {
    pollfd ready[2] = {{udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}};
    if (poll(ready, 2, 20) <= 0) return;
    if (ready[0].revents != 0) {
      char buffer[4096];
      sockaddr_in from = {};
      socklen_t size = sizeof from;
      const ssize_t got =
          recvfrom(udp_.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 12) return;
      ++queries_;
      const std::string out = AnswerMessage({buffer, static_cast<size_t>(got)}, answer_);
      sendto(udp_.get(), out.data(), out.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
    }
    if (ready[1].revents != 0) {
      const UniqueFd connection(accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      const std::string query = ReceiveMessage(connection.get());
      if (query.size() < 12) return;
      ++queries_;
      const std::string answer = AnswerMessage(query, answer_);
      const std::string out = shim::Two(static_cast<unsigned>(answer.size())) + answer;
      send(connection.get(), out.data(), out.size(), MSG_NOSIGNAL);
    }
  }

  const std::string answer_;
  const UniqueFd udp_;
  const UniqueFd tcp_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> queries_ = 0;
  std::thread thread_;
};

class NetworkNamesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    ASSERT_EQ(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("none", "/mnt", "tmpfs", 0, nullptr), 0);
    ASSERT_TRUE(WriteFile("/mnt/resolv.conf", "nameserver 127.0.0.53\n").ok());
    ASSERT_EQ(mount("/mnt/resolv.conf", "/etc/resolv.conf", nullptr, MS_BIND, nullptr), 0);
    Command up;
    up.argv = {"ip", "link", "set", "lo", "up"};
    const auto done = RunCommand(up);
    ASSERT_TRUE(done.ok() && done->status.ok());
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    bed_->CtlOut({"network", "create", "--subnet", "10.77.0.0/24", "web"});
  }

  std::string Run(const std::string& name, Strings options = {}) {
    Strings args = {"run", "-d", "--name", name};
    if (options.empty() || !absl::StartsWith(options[0], "--network"))
      args.insert(args.end(), {"--network", "web"});
    args.insert(args.end(), options.begin(), options.end());
    args.insert(args.end(), {kImage, "sleep", "1000"});
    return bed_->CtlOut(args);
  }
  // On a thread in the container's network namespace.
  void In(const std::string& name, const std::function<void()>& work) {
    InPid(bed_->Inspect(name, "{{.State.Pid}}"), work);
  }
  static void InPid(const std::string& pid, const std::function<void()>& work) {
    std::thread([&] {
      const UniqueFd netns(open(absl::StrCat("/proc/", pid, "/ns/net").c_str(), O_RDONLY));
      ASSERT_EQ(setns(netns.get(), CLONE_NEWNET), 0);
      work();
    }).join();
  }

  std::unique_ptr<Testbed> bed_;
};

TEST_F(NetworkNamesTest, ContainersOfANetworkFindEachOther) {
  const std::string id = Run("api");
  Run("db");
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "other"});
  Run("stranger", {"--network=other"});
  In("db", [&] {
    EXPECT_EQ(Lookup("api"), "10.77.0.2");
    EXPECT_EQ(Lookup("API."), "10.77.0.2");
    EXPECT_EQ(Lookup("api", 1, /*tcp=*/true), "10.77.0.2");
    EXPECT_EQ(Lookup(id.substr(0, 12)), "10.77.0.2");
    EXPECT_EQ(Lookup("api.web"), "10.77.0.2");
    EXPECT_EQ(Lookup("db"), "10.77.0.3");
    EXPECT_EQ(Lookup("api", 28), "");
    EXPECT_EQ(Lookup("stranger"), "code 2");
    EXPECT_EQ(Lookup("stranger.other"), "code 2");
    const std::string pointer = Ask(QueryMessage(7, "2.0.77.10.in-addr.arpa", 12));
    EXPECT_TRUE(absl::StrContains(pointer, shim::WireName("api.web")));
  });
  In("stranger", [&] {
    EXPECT_EQ(Lookup("stranger"), "10.78.0.2");
    EXPECT_EQ(Lookup("api"), "code 2");
  });
  // As programs do it.
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"exec", "db", "nslookup", "api"}), "10.77.0.2"));
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"exec", "db", "ping", "-c", "1", "api"}),
                                "1 packets received"));
  bed_->CtlOut({"rename", "api", "front"});
  In("db", [] {
    EXPECT_EQ(Lookup("front"), "10.77.0.2");
    EXPECT_EQ(Lookup("api"), "code 2");
  });
  bed_->CtlOut({"rm", "-f", "front"});
  In("db", [] { EXPECT_EQ(Lookup("front"), "code 2"); });
  bed_->CtlOut({"rm", "-f", "db", "stranger"});
  bed_->CtlOut({"network", "rm", "web", "other"});
  for (const char* kind : {"networks", "containers"}) {
    const auto left = ListDirectory(absl::StrCat(bed_->state(), "/names/", kind, "/", bed_->ns()));
    EXPECT_TRUE(left.ok() && left->empty()) << kind << ": " << absl::StrJoin(*left, " ");
  }
}

TEST_F(NetworkNamesTest, AliasesAndNetworksThatComeAndGo) {
  Run("one", {"--network=web", "--network-alias", "api"});
  Run("two", {"--network=web", "--network-alias", "api"});
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "other"});
  Run("far", {"--network=other"});
  Run("plain", {"--network=bridge"});
  In("two", [] {
    EXPECT_EQ(Lookup("api"), "10.77.0.2 10.77.0.3");
    EXPECT_EQ(Lookup("far"), "code 2");
  });
  Run("joined", {"--network=container:two"});
  bed_->CtlOut({"network", "connect", "--alias", "distant", "other", "two"});
  In("two", [] { EXPECT_EQ(Lookup("far"), "10.78.0.2"); });
  In("far", [] { EXPECT_EQ(Lookup("distant"), "10.78.0.3"); });
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"exec", "two", "cat", "/etc/hosts"}), "10.78.0.3\t"));
  EXPECT_TRUE(
      absl::StrContains(bed_->CtlOut({"exec", "joined", "cat", "/etc/hosts"}), "10.78.0.3\t"));
  bed_->CtlOut({"network", "disconnect", "other", "two"});
  In("two", [] { EXPECT_EQ(Lookup("far"), "code 2"); });
  In("far", [] { EXPECT_EQ(Lookup("distant"), "code 2"); });
  EXPECT_FALSE(
      absl::StrContains(bed_->CtlOut({"exec", "two", "cat", "/etc/hosts"}), "10.78.0.3\t"));
  // One that began on a network without names.
  bed_->CtlOut({"network", "connect", "web", "plain"});
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"exec", "plain", "nslookup", "one"}), "10.77.0.2"));
  bed_->CtlOut({"rm", "-f", "one"});
  In("two", [] { EXPECT_EQ(Lookup("api"), "10.77.0.3"); });
  bed_->CtlOut({"rm", "-f", "joined", "two", "far", "plain"});
}

TEST_F(NetworkNamesTest, LinksLeadToContainersOfTheSameNetwork) {
  Run("db");
  Run("api", {"--network=web", "--link", "db:store"});
  In("api", [] { EXPECT_EQ(Lookup("store"), "10.77.0.2"); });
  In("db", [] { EXPECT_EQ(Lookup("store"), "code 2"); });
  // Of one that is connected later, too.
  Run("late", {"--network=bridge"});
  bed_->CtlOut({"network", "connect", "--link", "db:shop", "web", "late"});
  In("late", [] { EXPECT_EQ(Lookup("shop"), "10.77.0.2"); });
  In("api", [] { EXPECT_EQ(Lookup("shop"), "code 2"); });
  bed_->CtlOut({"rm", "-f", "late"});
  // On the default network, where containers do not find each other otherwise.
  const auto refused = bed_->Ctl({"run", "--network=bridge", "--link", "nobody:x", kImage, "true"});
  EXPECT_NE(refused.code, 0);
  EXPECT_TRUE(absl::StrContains(refused.err, "could not get container for nobody")) << refused.err;
  Run("cache", {"--network=bridge"});
  Run("web", {"--network=bridge", "--link", "cache", "--link", "/cache:/web/fast"});
  const auto address = [&] {
    return bed_->Inspect("cache", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
  };
  const std::string first = address();
  In("web", [&] {
    EXPECT_EQ(Lookup("fast"), first);
    EXPECT_EQ(Lookup("cache"), first);
  });
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"exec", "web", "ping", "-c", "1", "fast"}),
                                "1 packets received"));
  // It leads to where the other one is after its restart.
  bed_->CtlOut({"stop", "-t", "0", "cache"});
  Run("taker", {"--network=bridge"});
  bed_->CtlOut({"start", "cache"});
  EXPECT_NE(address(), first);
  In("web", [&] { EXPECT_EQ(Lookup("fast"), address()); });
  bed_->CtlOut({"rm", "-f", "db", "api", "cache", "web", "taker"});
}

TEST_F(NetworkNamesTest, NamesAreAnsweredWhileTheDaemonIsDead) {
  Server host("127.0.0.53", "192.0.2.53");
  Run("api");
  Run("db");
  const std::string pid = bed_->Inspect("db", "{{.State.Pid}}");
  const auto works = [] {
    EXPECT_EQ(Lookup("api"), "10.77.0.2");
    EXPECT_EQ(Lookup("example.com"), "192.0.2.53");
    EXPECT_EQ(Lookup("example.com", 1, /*tcp=*/true), "192.0.2.53");
  };
  bed_->KillDaemon();
  InPid(pid, works);
  ASSERT_TRUE(bed_->StartDaemon());
  InPid(pid, works);
  // What the next daemon does to the files is seen by the same shims.
  Run("late");
  In("db", [] { EXPECT_EQ(Lookup("late"), "10.77.0.4"); });
  bed_->CtlOut({"rm", "-f", "api", "db", "late"});
}

// The next daemon writes all rules anew: what is under way meanwhile, and what begins, is not met.
TEST_F(NetworkNamesTest, StreamAndQueriesRunThroughTheDeathOfTheDaemon) {
  Server host("127.0.0.53", "192.0.2.53");
  Run("api", {"--network=web", "-p", absl::StrCat(kPublished, ":80")});
  Run("db");
  const std::string asker = bed_->Inspect("db", "{{.State.Pid}}");
  UniqueFd listener;
  In("api", [&listener] {
    listener = Socket(SOCK_STREAM);
    ASSERT_TRUE(Bind(listener, At("0.0.0.0", 80)));
    ASSERT_EQ(listen(listener.get(), 16), 0);
  });
  const UniqueFd client = Socket(SOCK_STREAM);
  ASSERT_TRUE(Connect(client, At("127.0.0.1", kPublished)));
  const UniqueFd served(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(served.valid());

  // Closed at the end, which is when the threads stop.
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd stopped(pipe_ends[0]);
  UniqueFd stop(pipe_ends[1]);
  const auto repeat = [&stopped](const std::function<void()>& work) {
    pollfd ended = {stopped.get(), POLLIN, 0};
    do {
      work();
    } while (poll(&ended, 1, /*every ms=*/10) == 0);
  };
  std::atomic<int> asked = 0;
  std::thread queries([&] {
    InPid(asker, [&] {
      repeat([&asked] {
        EXPECT_EQ(Lookup("api"), "10.77.0.2");
        EXPECT_EQ(Lookup("example.com"), "192.0.2.53");
        ++asked;
      });
    });
  });
  std::atomic<int> carried = 0;
  std::thread stream([&] {
    repeat([&] {
      EXPECT_EQ(send(client.get(), "ping", 4, MSG_NOSIGNAL), 4);
      EXPECT_EQ(Receive(served.get()), "ping");
      EXPECT_EQ(send(served.get(), "pong", 4, MSG_NOSIGNAL), 4);
      EXPECT_EQ(Receive(client.get()), "pong");
      ++carried;
    });
  });
  const auto both_go_on = [&] {
    const int queries_now = asked;
    const int stream_now = carried;
    return Eventually([&] { return asked >= queries_now + 10 && carried >= stream_now + 10; });
  };
  const auto a_new_one_begins = [&listener] {
    const UniqueFd fresh = Socket(SOCK_STREAM);
    const bool connected = Connect(fresh, At("127.0.0.1", kPublished));
    return connected && UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid();
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(both_go_on());
    bed_->KillDaemon();
    EXPECT_TRUE(both_go_on());
    EXPECT_TRUE(a_new_one_begins());
    EXPECT_TRUE(bed_->StartDaemon());
    EXPECT_TRUE(a_new_one_begins());
  }
  EXPECT_TRUE(both_go_on());
  stop.reset();
  queries.join();
  stream.join();
  bed_->CtlOut({"rm", "-f", "api", "db"});
}

TEST_F(NetworkNamesTest, ContainerMayHavePort53) {
  Run("api");
  Run("dns");
  In("dns", [] {
    const UniqueFd udp = Socket(SOCK_DGRAM);
    const UniqueFd tcp = Socket(SOCK_STREAM);
    EXPECT_TRUE(Bind(udp, At("0.0.0.0")));
    EXPECT_TRUE(Bind(tcp, At("0.0.0.0")));
    EXPECT_EQ(listen(tcp.get(), 4), 0);
    EXPECT_EQ(Lookup("api"), "10.77.0.2");
    EXPECT_EQ(Lookup("api", 1, /*tcp=*/true), "10.77.0.2");
    // What is for the container's own server goes there.
    const UniqueFd client = Socket(SOCK_DGRAM);
    ASSERT_TRUE(Connect(client, At("127.0.0.1")));
    ASSERT_EQ(send(client.get(), "x", 1, 0), 1);
    EXPECT_EQ(Receive(udp.get()), "x");
  });
  bed_->CtlOut({"rm", "-f", "api", "dns"});
}

TEST_F(NetworkNamesTest, ForwardsFromTheHostOrTheContainerAsConfigured) {
  Server host("127.0.0.53", "192.0.2.53");
  Run("client");
  In("client", [] {
    EXPECT_EQ(Lookup("example.com"), "192.0.2.53");
    EXPECT_EQ(Lookup("example.com", 1, /*tcp=*/true), "192.0.2.53");
    // The host's loopback is out of the container's own reach.
    EXPECT_EQ(Ask(QueryMessage(7, "example.com", 1), true, "127.0.0.53"), "");
  });
  // A server on the network itself, which the host is not asked for.
  Run("server", {"--network=web", "--ip", "10.77.0.9"});
  std::unique_ptr<Server> inside;
  In("server", [&] { inside = std::make_unique<Server>("10.77.0.9", "192.0.2.9"); });
  Run("other", {"--network=web", "--dns", "10.77.0.9"});
  const int before = host.queries();
  In("other", [] {
    EXPECT_EQ(Lookup("example.com"), "192.0.2.9");
    EXPECT_EQ(Lookup("example.com", 1, /*tcp=*/true), "192.0.2.9");
    EXPECT_EQ(Lookup("client"), "10.77.0.2");
  });
  EXPECT_EQ(host.queries(), before);
  inside = nullptr;
  bed_->CtlOut({"rm", "-f", "client", "server", "other"});
}

TEST_F(NetworkNamesTest, InternalNetworkLetsNoQueryOut) {
  Server host("127.0.0.53", "192.0.2.53");
  bed_->CtlOut({"network", "create", "--internal", "--subnet", "10.79.0.0/24", "inner"});
  Run("api", {"--network=inner"});
  Run("client", {"--network=inner"});
  In("client", [] {
    EXPECT_EQ(Lookup("api"), "10.79.0.2");
    EXPECT_EQ(Lookup("secrets.example.com"), "code 2");
    EXPECT_EQ(Lookup("secrets.example.com", 1, /*tcp=*/true), "code 2");
  });
  EXPECT_EQ(host.queries(), 0);
  bed_->CtlOut({"rm", "-f", "api", "client"});
}

TEST_F(NetworkNamesTest, FloodKeepsNothingElseWaiting) {
  Run("api");
  Run("flooder");
  std::atomic<bool> stop = false;
  const std::string pid = bed_->Inspect("flooder", "{{.State.Pid}}");
  std::thread flood([&] {
    const UniqueFd netns(open(absl::StrCat("/proc/", pid, "/ns/net").c_str(), O_RDONLY));
    ASSERT_EQ(setns(netns.get(), CLONE_NEWNET), 0);
    const UniqueFd fd = Socket(SOCK_DGRAM);
    ASSERT_TRUE(Connect(fd, At(kResolver)));
    const std::string query = QueryMessage(7, "api", 1);
    while (!stop) (void)send(fd.get(), query.data(), query.size(), MSG_DONTWAIT);
  });
  EXPECT_EQ(bed_->CtlOut({"exec", "flooder", "echo", "alive"}), "alive");
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"top", "flooder"}), "sleep"));
  In("flooder", [] { EXPECT_EQ(Lookup("api", 1, /*tcp=*/true), "10.77.0.2"); });
  EXPECT_EQ(bed_->Ctl({"stop", "-t", "0", "flooder"}).code, 0);
  stop = true;
  flood.join();
  bed_->CtlOut({"rm", "-f", "api", "flooder"});
}

}  // namespace
}  // namespace gantry::integration
