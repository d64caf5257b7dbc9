// Containers on networks: what a client of a published port, a neighbour and the next daemon see.
//
// The test, and with it the daemon, is in a network namespace of its own: bridges, rules and ports
// are not the machine's.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";
constexpr uint16_t kPort = 28080;

constexpr char kRequest[] = "GET / HTTP/1.0\r\n\r\n";

// The page of a server at the port, "" when none answers within three seconds.
std::string Ask(const std::string& address, uint16_t port) {
  sockaddr_storage to = {};
  auto* in = reinterpret_cast<sockaddr_in*>(&to);
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&to);
  const bool ipv6 = inet_pton(AF_INET6, address.c_str(), &in6->sin6_addr) == 1;
  if (!ipv6) inet_pton(AF_INET, address.c_str(), &in->sin_addr);
  to.ss_family = ipv6 ? AF_INET6 : AF_INET;
  in->sin_port = htons(port);  // at the same place in both
  const UniqueFd fd(socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // Not blocking: poll() says whether it comes about.
  (void)connect(fd.get(), reinterpret_cast<sockaddr*>(&to), ipv6 ? sizeof *in6 : sizeof *in);
  pollfd ready = {fd.get(), POLLOUT, 0};
  if (poll(&ready, 1, 3000) != 1 || send(fd.get(), kRequest, sizeof kRequest - 1, MSG_NOSIGNAL) < 0)
    return "";
  std::string text;
  char buffer[64];
  ready.events = POLLIN;
  while (poll(&ready, 1, 3000) == 1) {
    const ssize_t got = read(fd.get(), buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  const size_t head = text.find("\r\n\r\n");
  return head == std::string::npos ? "" : text.substr(head + 4);
}

// Devices of this namespace that belong to containers.
std::string Pairs() {
  const auto devices = ReadFile("/proc/thread-self/net/dev", 1 << 20);
  std::string found;
  size_t at = 0;
  while (devices.ok() && (at = devices->find("veth", at)) != std::string::npos) {
    found += devices->substr(at, devices->find(':', at) - at) + " ";
    ++at;
  }
  return found;
}

class NetworkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    Command up;
    up.argv = {"ip", "link", "set", "lo", "up"};
    const auto done = RunCommand(up);
    ASSERT_TRUE(done.ok() && done->status.ok());
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    bed_->CtlOut({"network", "create", "--subnet", "10.77.0.0/24", "web"});
  }

  // A container whose port 80 has a web server with the page `word`.
  void Serve(const std::string& name, const std::string& word,
             std::vector<std::string> options = {}) {
    std::vector<std::string> args = {"run", "-d", "--name", name, "--network", "web"};
    args.insert(args.end(), options.begin(), options.end());
    args.insert(args.end(), {kImage, "sh", "-c",
                             absl::StrCat("mkdir -p /www && echo ", word,
                                          " > /www/index.html && exec busybox httpd -f -p 80 "
                                          "-h /www")});
    bed_->CtlOut(args);
    EXPECT_TRUE(Eventually([&] { return Ask(Address(name), 80) == word + "\n"; }));
  }
  std::string Address(const std::string& name) {
    return bed_->Inspect(name, "{{.NetworkSettings.Networks.web.IPAddress}}");
  }

  std::unique_ptr<Testbed> bed_;
};

TEST_F(NetworkTest, PublishedPortAnswersWhateverBecomesOfTheDaemon) {
  Serve("server", "hello", {"-p", absl::StrCat(kPort, ":80")});
  EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n");
  EXPECT_EQ(bed_->CtlOut({"port", "server"}),
            absl::StrCat("80/tcp -> 0.0.0.0:", kPort, "\n80/tcp -> [::]:", kPort));
  bed_->KillDaemon();
  EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n");
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n");
  bed_->CtlOut({"restart", "-t", "0", "server"});
  EXPECT_TRUE(Eventually([] { return Ask("127.0.0.1", kPort) == "hello\n"; }));
  bed_->CtlOut({"stop", "-t", "0", "server"});
  EXPECT_EQ(Ask("127.0.0.1", kPort), "");
  EXPECT_TRUE(Eventually([] { return Pairs().empty(); }));
  bed_->CtlOut({"rm", "server"});
  bed_->CtlOut({"network", "rm", "web"});
}

// IPv6 addresses of the host lead to a container whether it has IPv6 itself or not.
TEST_F(NetworkTest, PublishedPortAnswersAtIpv6AddressesOfTheHost) {
  Serve("four", "hello",
        {"-p", absl::StrCat(kPort, ":80"), "-p", absl::StrCat("[::1]:", kPort + 1, ":80"), "-p",
         absl::StrCat("0.0.0.0:", kPort + 2, ":80")});
  const std::string ports =
      absl::StrCat("0.0.0.0:", kPort, "/tcp every host nftables\n", "[::]:", kPort,
                   "/tcp every host shim\n", "[::1]:", kPort + 1, "/tcp this host shim\n",
                   "0.0.0.0:", kPort + 2, "/tcp every host nftables");
  EXPECT_EQ(bed_->CtlOut({"ports", "--format", "{{.Host}} {{.From}} {{.By}}"}), ports);
  EXPECT_EQ(bed_->CtlOut({"ports", "-f", "name=nobody", "--format", "{{.Host}}"}), "");
  // The rule that is named is one that the kernel has.
  const std::string rule =
      bed_->CtlOut({"ports", "-f", "name=four", "--format", "{{.To}} {{.Rule}}"});
  const std::string first = rule.substr(0, rule.find('\n'));
  const std::vector<std::string> words = absl::StrSplit(first, ' ');
  ASSERT_GE(words.size(), 4u) << rule;
  EXPECT_EQ(words[0], absl::StrCat(Address("four"), ":80"));
  const Outcome map = RunProgram({"/usr/sbin/nft", "list", "map", words[1], words[2], words[3]});
  EXPECT_TRUE(Ok(map)) << map.err;
  EXPECT_TRUE(
      absl::StrContains(map.out, absl::StrCat("tcp . ", kPort, " : ", Address("four"), " . 80")))
      << map.out;
  bed_->KillDaemon();
  EXPECT_EQ(Ask("::1", kPort), "hello\n");
  EXPECT_EQ(Ask("::1", kPort + 1), "hello\n");
  EXPECT_EQ(Ask("127.0.0.1", kPort + 1), "");
  EXPECT_EQ(Ask("127.0.0.1", kPort + 2), "hello\n");
  EXPECT_EQ(Ask("::1", kPort + 2), "");
  ASSERT_TRUE(bed_->StartDaemon());
  // What a port of ours is taken by is said; the other family is free.
  const Outcome second =
      bed_->Ctl({"run", "--rm", "-p", absl::StrCat("[::]:", kPort + 1, ":80"), kImage, "true"});
  EXPECT_TRUE(absl::StrContains(second.err, "container four has it")) << second.err;
  bed_->CtlOut({"run", "--rm", "-p", absl::StrCat("[::]:", kPort + 2, ":80"), kImage, "true"});
  bed_->CtlOut({"rm", "-f", "four"});
  EXPECT_EQ(Ask("::1", kPort), "");

  bed_->CtlOut({"network", "create", "--ipv6", "six"});
  bed_->CtlOut({"run", "-d", "--name", "six", "--network", "six", "-p", absl::StrCat(kPort, ":80"),
                kImage, "sh", "-c",
                "mkdir -p /www && echo six > /www/index.html && exec busybox httpd -f -p 80 -h "
                "/www"});
  EXPECT_TRUE(Eventually([] { return Ask("::1", kPort) == "six\n"; }));
  EXPECT_EQ(Ask("127.0.0.1", kPort), "six\n");
  EXPECT_EQ(Ask(bed_->Inspect("six", "{{.NetworkSettings.Networks.six.IPv6Gateway}}"), kPort),
            "six\n");
  bed_->CtlOut({"rm", "-f", "six"});
}

TEST_F(NetworkTest, NeighboursReachEachOtherAndOtherNetworksDoNot) {
  Serve("server", "hello");
  const std::string address = Address("server");
  EXPECT_EQ(address, "10.77.0.2");
  const std::vector<std::string> ask = {
      kImage, "sh", "-c",
      absl::StrCat("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 ", address,
                   " 80 | tail -n 1 | grep hello")};
  std::vector<std::string> neighbour = {"run", "--rm", "--network", "web"};
  neighbour.insert(neighbour.end(), ask.begin(), ask.end());
  EXPECT_EQ(bed_->CtlOut(neighbour), "hello");
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "other"});
  std::vector<std::string> stranger = {"run", "--rm", "--network", "other"};
  stranger.insert(stranger.end(), ask.begin(), ask.end());
  EXPECT_NE(bed_->Ctl(stranger).code, 0);
  const auto hosts = bed_->CtlOut({"exec", "server", "cat", "/etc/hosts"});
  EXPECT_TRUE(absl::StrContains(hosts, absl::StrCat(address, "\t"))) << hosts;
  bed_->CtlOut({"rm", "-f", "server"});
}

TEST_F(NetworkTest, NetworkInUseAndPortInUseSayByWhom) {
  Serve("server", "hello", {"-p", absl::StrCat(kPort, ":80")});
  const Outcome removed = bed_->Ctl({"network", "rm", "web"});
  EXPECT_EQ(removed.code, 1);
  EXPECT_TRUE(absl::StrContains(removed.err, "container server")) << removed.err;
  const Outcome second = bed_->Ctl(
      {"run", "--rm", "--network", "web", "-p", absl::StrCat(kPort, ":81"), kImage, "true"});
  EXPECT_EQ(second.code, 125);
  EXPECT_TRUE(absl::StrContains(second.err, "port is already allocated; container server has it"))
      << second.err;
  EXPECT_EQ(bed_->Ctl({"run", "--rm", "--network", "nosuch", kImage, "true"}).code, 125);
  bed_->CtlOut({"rm", "-f", "server"});
  EXPECT_TRUE(Eventually([] { return Pairs().empty(); }));
}

// Another program takes every rule of the host away, as the reload of a firewall service does.
TEST_F(NetworkTest, RulesComeBackByThemselves) {
  Serve("server", "hello", {"-p", absl::StrCat(kPort, ":80")});
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(Ok(RunProgram({"/usr/sbin/nft", "flush", "ruleset"})));
    EXPECT_TRUE(Eventually([] { return Ask("127.0.0.1", kPort) == "hello\n"; }));
  }
  // A container that starts meanwhile is no obstacle, nor one that ends.
  ASSERT_TRUE(Ok(RunProgram({"/usr/sbin/nft", "flush", "ruleset"})));
  Serve("second", "again", {"-p", absl::StrCat(kPort + 1, ":80")});
  EXPECT_EQ(Ask("127.0.0.1", kPort + 1), "again\n");
  ASSERT_TRUE(Ok(RunProgram({"/usr/sbin/nft", "flush", "ruleset"})));
  bed_->CtlOut({"rm", "-f", "second"});
  EXPECT_TRUE(Eventually([] { return Ask("127.0.0.1", kPort) == "hello\n"; }));
  bed_->CtlOut({"rm", "-f", "server"});
}

// A second network, connected to while the container runs: neighbours of both reach it, and the
// published port goes where the default route goes.
TEST_F(NetworkTest, NetworksComeAndGoWhileTheContainerRuns) {
  Serve("server", "hello", {"-p", absl::StrCat(kPort, ":80")});
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "db"});
  bed_->CtlOut({"network", "connect", "--ip", "10.78.0.9", "--alias", "cache", "db", "server"});
  EXPECT_EQ(Ask("10.77.0.2", 80), "hello\n");
  EXPECT_EQ(Ask("10.78.0.9", 80), "hello\n");
  EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n");
  EXPECT_EQ(bed_->Inspect("server", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"),
            "10.78.0.9 10.77.0.2 ");
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"exec", "server", "ip", "route", "show", "default"}),
                                "via 10.78.0.1"));
  const Outcome twice = bed_->Ctl({"network", "connect", "db", "server"});
  EXPECT_EQ(twice.code, 1);
  EXPECT_TRUE(
      absl::StrContains(twice.err, "endpoint with name server already exists in network db"))
      << twice.err;
  bed_->KillDaemon();
  EXPECT_EQ(Ask("10.78.0.9", 80), "hello\n");
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n");
  bed_->CtlOut({"network", "disconnect", "db", "server"});
  EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n");
  EXPECT_EQ(Ask("10.78.0.9", 80), "");
  EXPECT_EQ(bed_->Ctl({"network", "disconnect", "db", "server"}).code, 1);
  // Of one that is stopped it is remembered.
  bed_->CtlOut({"stop", "-t", "0", "server"});
  bed_->CtlOut({"network", "connect", "--ip", "10.78.0.10", "db", "server"});
  bed_->CtlOut({"network", "disconnect", "web", "server"});
  bed_->CtlOut({"start", "server"});
  EXPECT_TRUE(Eventually([] { return Ask("10.78.0.10", 80) == "hello\n"; }));
  EXPECT_TRUE(Eventually([] { return Ask("127.0.0.1", kPort) == "hello\n"; }));
  EXPECT_EQ(Ask("10.77.0.2", 80), "");
  bed_->CtlOut({"rm", "-f", "server"});
  EXPECT_TRUE(Eventually([] { return Pairs().empty(); }));
  bed_->CtlOut({"network", "rm", "web", "db"});
}

TEST_F(NetworkTest, OneThatWasTakenOffItsLastNetworkCanBeConnectedAgain) {
  Serve("server", "hello", {});
  bed_->CtlOut({"network", "disconnect", "web", "server"});
  EXPECT_EQ(Ask("10.77.0.2", 80), "");
  bed_->CtlOut({"network", "connect", "--ip", "10.77.0.9", "web", "server"});
  EXPECT_TRUE(Eventually([] { return Ask("10.77.0.9", 80) == "hello\n"; }));
  bed_->CtlOut({"rm", "-f", "server"});
  // One that was started without a network has nothing that one could be connected to.
  bed_->CtlOut({"run", "-d", "--name", "alone", "--network", "none", kImage, "sleep", "600"});
  const Outcome refused = bed_->Ctl({"network", "connect", "web", "alone"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_TRUE(absl::StrContains(refused.err, "private (none) mode")) << refused.err;
  bed_->CtlOut({"rm", "-f", "alone"});
}

// What the shim carries follows the default route as well, whatever dies meanwhile.
TEST_F(NetworkTest, PortsAtIpv6AddressesFollowTheNetworksOfARunningContainer) {
  Serve("server", "hello", {"-p", absl::StrCat(kPort, ":80")});
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "db"});
  bed_->CtlOut({"network", "create", "--ipv6", "--subnet", "10.76.0.0/24", "api"});
  // One without a way out stays all the time.
  bed_->CtlOut({"network", "create", "--internal", "inner"});
  bed_->CtlOut({"network", "connect", "inner", "server"});
  EXPECT_EQ(Ask("::1", kPort), "hello\n");
  const auto answers = [] { return Eventually([] { return Ask("::1", kPort) == "hello\n"; }); };
  bed_->CtlOut({"network", "connect", "db", "server"});
  EXPECT_TRUE(answers());
  bed_->CtlOut({"network", "disconnect", "web", "server"});
  EXPECT_TRUE(answers());
  // A network with IPv6: only [::1] is left to the shim.
  bed_->CtlOut({"network", "connect", "api", "server"});
  EXPECT_TRUE(answers());
  EXPECT_EQ(Ask(bed_->Inspect("server", "{{.NetworkSettings.Networks.api.IPv6Gateway}}"), kPort),
            "hello\n");
  bed_->CtlOut({"network", "disconnect", "api", "server"});
  EXPECT_TRUE(answers());
  // Without a way out no port leads to it; with one again they do.
  bed_->CtlOut({"network", "disconnect", "db", "server"});
  EXPECT_TRUE(Eventually([] { return Ask("::1", kPort).empty(); }));
  EXPECT_EQ(Ask("127.0.0.1", kPort), "");
  // The daemon dies with the network recorded and the shim not told yet: the next one tells it.
  for (const char* point : {"ports.rerouted", "forwards.written"}) {
    bed_->StopDaemon();
    ASSERT_TRUE(bed_->StartDaemon({{"GANTRY_CRASH_POINT", point}}));
    (void)bed_->Ctl({"network", "connect", "db", "server"});
    EXPECT_EQ(bed_->WaitDaemonGone(), 137) << point;
    EXPECT_EQ(Ask("::1", kPort), "");
    ASSERT_TRUE(bed_->StartDaemon());
    EXPECT_TRUE(Eventually([] { return Ask("::1", kPort) == "hello\n"; })) << point;
    // Not said to be connected, so it may be tried again.
    bed_->CtlOut({"network", "connect", "db", "server"});
    EXPECT_TRUE(Eventually([] { return Ask("::1", kPort) == "hello\n"; })) << point;
    bed_->CtlOut({"network", "disconnect", "db", "server"});
    EXPECT_TRUE(Eventually([] { return Ask("::1", kPort).empty(); })) << point;
  }
  bed_->CtlOut({"rm", "-f", "server"});
  EXPECT_EQ(Ask("::1", kPort), "");
}

TEST_F(NetworkTest, ContainersOfAWireReachEachOtherAndNotTheHost) {
  bed_->CtlOut({"network", "create", "-d", "macvlan", "--subnet", "10.79.0.0/24", "lan"});
  bed_->CtlOut({"run", "-d", "--name", "server", "--network", "lan", kImage, "sh", "-c",
                "mkdir -p /www && echo wire > /www/index.html && exec busybox httpd -f -p 80 -h "
                "/www"});
  const std::string address =
      bed_->Inspect("server", "{{.NetworkSettings.Networks.lan.IPAddress}}");
  EXPECT_EQ(address, "10.79.0.1");
  EXPECT_TRUE(Eventually([&] {
    return bed_->Ctl({"run", "--rm", "--network", "lan", kImage, "sh", "-c",
                      absl::StrCat("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 ", address,
                                   " 80 | grep wire")})
               .out == "wire\n";
  }));
  EXPECT_EQ(Ask(address, 80), "");
  bed_->CtlOut({"rm", "-f", "server"});
  bed_->CtlOut({"network", "rm", "lan"});
}

// Whatever held it for the container that has just ended.
TEST_F(NetworkTest, PortIsFreeAsSoonAsItsContainerHasEnded) {
  for (int i = 0; i < 12; ++i) {
    const Outcome ran = bed_->Ctl(
        {"run", "--rm", "--network", "web", "-p", absl::StrCat(kPort, ":80"), kImage, "true"});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
}

TEST_F(NetworkTest, EveryExposedPortGetsOneOfTheHost) {
  Serve("server", "hello", {"-P", "--expose", "80"});
  const std::string port = bed_->CtlOut({"port", "server", "80"});
  const size_t colon = port.rfind(':');
  ASSERT_NE(colon, std::string::npos) << port;
  EXPECT_EQ(Ask("127.0.0.1", static_cast<uint16_t>(std::stoi(port.substr(colon + 1)))), "hello\n");
  bed_->CtlOut({"rm", "-f", "server"});
}

// Containers come and go while the daemon and shims are killed, in the middle of calls too: nothing
// of them stays. GANTRY_NETWORK_CHAOS says how many, 60 otherwise; from 500 on the daemon is killed
// every 50 rather than every few.
TEST_F(NetworkTest, ComingAndGoingUnderKillsLeavesNothing) {
  const char* asked = getenv("GANTRY_NETWORK_CHAOS");
  const int rounds = asked == nullptr ? 60 : atoi(asked);
  const auto rules = [] {
    const Outcome listed = RunProgram({"/usr/sbin/nft", "list", "ruleset"});
    EXPECT_TRUE(Ok(listed));
    return listed.out;
  };
  const std::string before = rules();  // nothing has run yet
  for (int i = 0; i < rounds; ++i) {
    const std::string name = absl::StrCat("c", i);
    const std::vector<std::string> run = {
        "run",       "-d",  "--name", name,
        "--network", "web", "-p",     absl::StrCat(kPort + i % 7, ":80"),
        "-p",        "80",  kImage,   "sleep",
        "600"};
    const int kill = rounds < 500 || i % 50 < 10 ? i % 10 : 0;
    std::thread call([&] {
      const Outcome started = bed_->Ctl(run);
      // Only a call that the daemon's death met may fail.
      if (kill != 3) {
        EXPECT_TRUE(Ok(started));
      }
    });
    if (kill == 3) bed_->KillDaemon();
    call.join();
    if (kill == 6) bed_->KillDaemon();
    if (kill == 3 || kill == 6) {
      ASSERT_TRUE(bed_->StartDaemon());
    }
    if (i % 2 == 0) (void)bed_->Ctl({"stop", "-t", "0", name});
    if (i % 7 == 5) {
      // Its container dies with it.
      const pid_t shim = bed_->ShimPid(bed_->Inspect(name, "{{.Id}}"));
      if (shim > 0) ::kill(shim, SIGKILL);
    }
    std::thread removal([&] { (void)bed_->Ctl({"rm", "-f", name}); });
    if (kill == 9) bed_->KillDaemon();
    removal.join();
    if (kill == 9) {
      ASSERT_TRUE(bed_->StartDaemon());
      (void)bed_->Ctl({"rm", "-f", name});
    }
  }
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
  EXPECT_TRUE(Eventually([] { return Pairs().empty(); })) << Pairs();
  EXPECT_TRUE(Eventually([&] { return rules() == before; }))
      << "now: " << rules() << "before: " << before;
  // No namespace is kept, no name answered, no neighbour remembered for an address in use.
  const auto left = [this](const std::string& below) {
    const auto names = ListDirectory(absl::StrCat(bed_->state(), "/", below));
    return names.ok() ? absl::StrJoin(*names, " ") : std::string();
  };
  EXPECT_EQ(left(absl::StrCat("netns/", bed_->ns())), "");
  EXPECT_EQ(left(absl::StrCat("names/containers/", bed_->ns())), "");
  const std::string mounts = ReadFile("/proc/self/mounts", 1 << 22).value();
  EXPECT_FALSE(absl::StrContains(mounts, bed_->state() + "/netns/")) << mounts;
  const std::string directory = absl::StrCat(bed_->state(), "/names/networks/", bed_->ns());
  const auto files = ListDirectory(directory);
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_EQ(files->size(), 1u);  // of the network web
  const auto names = ReadFile(absl::StrCat(directory, "/", files->front()), 1 << 22);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_FALSE(absl::StrContains(*names, "10.77.0.")) << *names;
  // Every port is free again, all at once.
  std::vector<std::string> all = {"run", "--rm", "--network", "web"};
  for (int port = 0; port < 7; ++port)
    all.insert(all.end(), {"-p", absl::StrCat(kPort + port, ":80")});
  all.insert(all.end(), {kImage, "echo", "free"});
  EXPECT_EQ(bed_->CtlOut(all), "free");
  // The first address is free again.
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "--network", "web", kImage, "sh", "-c",
                          "ip -4 -o addr show eth0 | grep -c 10.77.0.2/24"}),
            "1");
  bed_->CtlOut({"network", "rm", "web"});
}

// Wherever the daemon dies while a container comes or goes, the next one takes away what is left.
TEST_F(NetworkTest, DeathInTheMiddleLeavesNothing) {
  for (const char* point : {"netns.recorded", "netns.kept", "endpoint.recorded", "veth.made",
                            "netns.gone", "endpoint.forgotten"}) {
    SCOPED_TRACE(point);
    bed_->StopDaemon();
    ASSERT_TRUE(bed_->StartDaemon({{"GANTRY_CRASH_POINT", point}}));
    (void)bed_->Ctl(
        {"run", "--rm", "--network", "web", "-p", absl::StrCat(kPort, ":80"), kImage, "true"});
    EXPECT_EQ(bed_->WaitDaemonGone(), 137);
    ASSERT_TRUE(bed_->StartDaemon());
    EXPECT_TRUE(Eventually([&] { return bed_->CtlOut({"ps", "-aq"}).empty(); }));
    EXPECT_TRUE(Eventually([] { return Pairs().empty(); }));
    EXPECT_EQ(bed_->CtlOut({"run", "--rm", "--network", "web", "-p", absl::StrCat(kPort, ":80"),
                            kImage, "echo", "again"}),
              "again");
  }
}

// The same while a container that runs is taken off a network, or put on one.
TEST_F(NetworkTest, DeathWhileNetworksChangeIsMended) {
  Serve("server", "hello", {"-p", absl::StrCat(kPort, ":80")});
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "db"});
  const auto die_at = [&](const std::string& point, std::vector<std::string> words) {
    bed_->StopDaemon();
    ASSERT_TRUE(bed_->StartDaemon({{"GANTRY_CRASH_POINT", point}}));
    (void)bed_->Ctl(std::move(words));
    EXPECT_EQ(bed_->WaitDaemonGone(), 137) << point;
    ASSERT_TRUE(bed_->StartDaemon());
  };
  for (const char* point : {"endpoint.recorded", "veth.made"}) {
    die_at(point, {"network", "connect", "db", "server"});
    // Not said to be connected, so it may be tried again.
    bed_->CtlOut({"network", "connect", "db", "server"});
    EXPECT_EQ(Ask("10.78.0.2", 80), "hello\n") << point;
    EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n") << point;
    bed_->CtlOut({"network", "disconnect", "db", "server"});
  }
  bed_->CtlOut({"network", "connect", "db", "server"});
  die_at("veth.gone", {"network", "disconnect", "db", "server"});
  bed_->CtlOut({"network", "disconnect", "db", "server"});
  EXPECT_EQ(Ask("127.0.0.1", kPort), "hello\n");
  bed_->CtlOut({"rm", "-f", "server"});
  EXPECT_TRUE(Eventually([] { return Pairs().empty(); }));
  bed_->CtlOut({"network", "rm", "db", "web"});
}

}  // namespace
}  // namespace gantry::integration
