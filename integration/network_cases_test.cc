// How networks behave in the cases that people know from docker: which addresses and subnets are
// given, which ports lead where, what may be joined to what. Each is read from the kernel (devices,
// addresses, routes, rules, packets), not from what the daemon says of itself.
//
// The test, and with it the daemon, is in network and mount namespaces of its own. Servers and
// clients are sockets of the test in the containers' network namespaces.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::Not;
using Strings = std::vector<std::string>;

constexpr char kImage[] = "busybox:test";
constexpr uint16_t kPort = 28080;
constexpr int kComesMs = 5000;
constexpr int kStaysAwayMs = 300;

std::string Sh(const std::string& command) {
  const Outcome done = RunProgram({"/bin/sh", "-ec", command});
  EXPECT_TRUE(Ok(done));
  return done.out;
}

socklen_t Fill(const std::string& address, uint16_t port, sockaddr_storage& out) {
  auto* in = reinterpret_cast<sockaddr_in*>(&out);
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&out);
  const bool ipv6 = inet_pton(AF_INET6, address.c_str(), &in6->sin6_addr) == 1;
  if (!ipv6) inet_pton(AF_INET, address.c_str(), &in->sin_addr);
  out.ss_family = ipv6 ? AF_INET6 : AF_INET;
  in->sin_port = htons(port);  // at the same place in both
  return ipv6 ? sizeof *in6 : sizeof *in;
}

std::string AddressIn(const sockaddr_storage& from) {
  char text[INET6_ADDRSTRLEN] = "";
  const void* bytes =
      from.ss_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(&from)->sin6_addr)
          : &reinterpret_cast<const sockaddr_in*>(&from)->sin_addr;
  inet_ntop(from.ss_family, bytes, text, sizeof text);
  return text;
}

// A network namespace, and sockets in it.
class Node {
 public:
  explicit Node(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    EXPECT_TRUE(fd_.valid()) << path;
  }

  void Run(const std::function<void()>& work) const {
    std::thread([&] {
      ASSERT_EQ(setns(fd_.get(), CLONE_NEWNET), 0);
      work();
    }).join();
  }
  UniqueFd Socket(int family, int type) const {
    UniqueFd made;
    Run([&] { made.reset(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    return made;
  }
  UniqueFd Listen(const std::string& address, uint16_t port, int type = SOCK_STREAM) const {
    sockaddr_storage at = {};
    const socklen_t length = Fill(address, port, at);
    UniqueFd made = Socket(at.ss_family, type);
    const int on = 1;
    setsockopt(made.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    EXPECT_EQ(bind(made.get(), reinterpret_cast<sockaddr*>(&at), length), 0) << address;
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(made.get(), 16), 0);
    }
    return made;
  }
  ino_t inode() const {
    struct stat info = {};
    EXPECT_EQ(fstat(fd_.get(), &info), 0);
    return info.st_ino;
  }

  // As whom a client here arrives at a server; "" when it does not.
  std::string Arrives(const std::string& address, uint16_t port, const UniqueFd& server,
                      int type = SOCK_STREAM, int patience_ms = kComesMs) const {
    sockaddr_storage to = {};
    const socklen_t length = Fill(address, port, to);
    const UniqueFd client = Socket(to.ss_family, type);
    // Not blocking: poll() says whether it comes about.
    (void)connect(client.get(), reinterpret_cast<sockaddr*>(&to), length);
    if (type == SOCK_DGRAM) (void)!send(client.get(), "x", 1, MSG_NOSIGNAL);
    pollfd ready = {server.get(), POLLIN, 0};
    if (poll(&ready, 1, patience_ms) != 1) return "";
    sockaddr_storage from = {};
    socklen_t size = sizeof from;
    char byte;
    if (type == SOCK_DGRAM) {
      (void)!recvfrom(server.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&from), &size);
    } else {
      const UniqueFd accepted(
          accept4(server.get(), reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC));
      if (!accepted.valid()) return "";
      pollfd connected = {client.get(), POLLOUT, 0};
      if (poll(&connected, 1, patience_ms) != 1) return "";
    }
    return AddressIn(from);
  }

 private:
  UniqueFd fd_;
};

class NetworkCasesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    ASSERT_EQ(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("none", "/mnt", "tmpfs", 0, nullptr), 0);
    Resolve("nameserver 127.0.0.53\n");
    ASSERT_EQ(mount("/mnt/resolv.conf", "/etc/resolv.conf", nullptr, MS_BIND, nullptr), 0);
    Sh("ip link set lo up");
    host_ = std::make_unique<Node>("/proc/thread-self/ns/net");
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  static void Resolve(const std::string& text) {
    ASSERT_TRUE(WriteFile("/mnt/resolv.conf", text).ok());
  }

  void Run(const std::string& name, Strings options) {
    Strings args = {"run", "-d", "--name", name};
    args.insert(args.end(), options.begin(), options.end());
    args.insert(args.end(), {kImage, "sleep", "1000"});
    bed_->CtlOut(args);
  }
  Outcome Refused(Strings options) {
    Strings args = {"run", "--rm"};
    args.insert(args.end(), options.begin(), options.end());
    args.insert(args.end(), {kImage, "true"});
    const Outcome done = bed_->Ctl(args);
    EXPECT_NE(done.code, 0) << done.command;
    return done;
  }
  Node In(const std::string& name) {
    return Node(absl::StrCat("/proc/", bed_->Inspect(name, "{{.State.Pid}}"), "/ns/net"));
  }
  // What `ip` prints inside a container's namespace.
  std::string Ip(const std::string& name, const std::string& words) {
    return Sh(absl::StrCat("nsenter -t ", bed_->Inspect(name, "{{.State.Pid}}"), " -n ip ", words));
  }
  std::string Bridge(const std::string& network) {
    return absl::StrCat(
        "br-", bed_->CtlOut({"network", "inspect", "-f", "{{.Id}}", network}).substr(0, 12));
  }
  // "172.18.0.1/16": of a bridge, as the kernel has it.
  static std::string AddressOfDevice(const std::string& device) {
    return Sh(absl::StrCat("ip -4 -o addr show dev ", device, " | sed 's/.*inet //; s/ .*//'"));
  }
  static std::string Rules() { return Sh("/usr/sbin/nft list ruleset"); }

  std::unique_ptr<Node> host_;
  std::unique_ptr<Testbed> bed_;
};

TEST_F(NetworkCasesTest, SubnetsComeInDockersOrderAndAreUsedAgain) {
  for (const char* name : {"one", "two"}) bed_->CtlOut({"network", "create", name});
  EXPECT_EQ(AddressOfDevice(Bridge("one")), "172.18.0.1/16\n");
  EXPECT_EQ(AddressOfDevice(Bridge("two")), "172.19.0.1/16\n");
  bed_->CtlOut({"network", "rm", "one"});
  bed_->CtlOut({"network", "create", "three"});
  EXPECT_EQ(AddressOfDevice(Bridge("three")), "172.18.0.1/16\n");
  // What the host reaches without a router is left alone, what it reaches by one is not; name
  // servers are left alone.
  bed_->CtlOut({"network", "rm", "two", "three"});
  Sh("ip link add wire type veth peer name far; ip link set far up; ip addr add 192.0.2.1/24 dev "
     "wire; ip link set wire up;"
     "ip route add 172.18.0.0/24 dev wire; ip route add 172.19.0.0/16 via 192.0.2.9");
  Resolve("nameserver 172.20.0.10\n");
  for (const char* name : {"one", "two"}) bed_->CtlOut({"network", "create", name});
  EXPECT_EQ(AddressOfDevice(Bridge("one")), "172.19.0.1/16\n");
  EXPECT_EQ(AddressOfDevice(Bridge("two")), "172.21.0.1/16\n");
  // The default one has the first, whenever it is made.
  Run("container", {"--network", "bridge"});
  EXPECT_EQ(AddressOfDevice("gantry0"), "172.17.0.1/16\n");
  bed_->CtlOut({"network", "create", "--subnet", "0.0.0.0/28", "small"});
  EXPECT_THAT(AddressOfDevice(Bridge("small")), HasSubstr("/28\n"));
  const Outcome host_bits = bed_->Ctl({"network", "create", "--subnet", "10.1.2.3/24", "bad"});
  EXPECT_EQ(host_bits.code, 1);
  EXPECT_THAT(host_bits.err, HasSubstr("it should be 10.1.2.0/24"));
  bed_->CtlOut({"rm", "-f", "container"});
}

TEST_F(NetworkCasesTest, AddressesOfARangeAndOutsideOfIt) {
  bed_->CtlOut(
      {"network", "create", "--subnet", "10.1.0.0/16", "--ip-range", "10.1.5.0/24", "ranged"});
  EXPECT_EQ(AddressOfDevice(Bridge("ranged")), "10.1.5.0/16\n");
  Run("first", {"--network", "ranged"});
  EXPECT_THAT(Ip("first", "-4 -o addr show eth0"), HasSubstr("inet 10.1.5.1/16"));
  Run("far", {"--network", "ranged", "--ip", "10.1.9.9"});
  EXPECT_THAT(Ip("far", "-4 -o addr show eth0"), HasSubstr("inet 10.1.9.9/16"));
  EXPECT_THAT(Ip("far", "route show default"), HasSubstr("via 10.1.5.0"));
  // A stopped container has no address, so another may have it; then it cannot start.
  bed_->CtlOut({"stop", "-t", "0", "far"});
  Run("taker", {"--network", "ranged", "--ip", "10.1.9.9"});
  const Outcome late = bed_->Ctl({"start", "far"});
  EXPECT_EQ(late.code, 1);
  EXPECT_THAT(late.err, HasSubstr("Address already in use"));
  // The lowest free one is used again at once, and neighbours that remember it find its new holder.
  const Node taker = In("taker");
  {
    const UniqueFd server = In("first").Listen("0.0.0.0", 80);
    EXPECT_EQ(taker.Arrives("10.1.5.1", 80, server), "10.1.9.9");
  }
  bed_->CtlOut({"rm", "-f", "first"});
  Run("second", {"--network", "ranged"});
  EXPECT_THAT(Ip("second", "-4 -o addr show eth0"), HasSubstr("inet 10.1.5.1/16"));
  const UniqueFd server = In("second").Listen("0.0.0.0", 80);
  EXPECT_EQ(taker.Arrives("10.1.5.1", 80, server), "10.1.9.9");
  bed_->CtlOut({"rm", "-f", "far", "taker", "second"});
}

TEST_F(NetworkCasesTest, DefaultBridgeIsWiredAsItsContainersSee) {
  Run("first", {"--network", "bridge"});
  Run("second", {"--network", "bridge"});
  EXPECT_THAT(Sh("ip -d link show gantry0"), HasSubstr("bridge "));
  EXPECT_THAT(Sh("ip -o link show master gantry0 | wc -l"), "2\n");
  EXPECT_THAT(Ip("first", "-4 -o addr show eth0"), HasSubstr("inet 172.17.0.2/16"));
  EXPECT_THAT(Ip("first", "route show default"), HasSubstr("default via 172.17.0.1 dev eth0"));
  EXPECT_THAT(Ip("first", "-o link show"), Not(HasSubstr("eth1")));
  const UniqueFd server = In("first").Listen("0.0.0.0", 80);
  EXPECT_EQ(In("second").Arrives("172.17.0.2", 80, server), "172.17.0.3");
  EXPECT_EQ(host_->Arrives("172.17.0.2", 80, server), "172.17.0.1");
  // Outwards with the host's address.
  Sh("ip link add wire type veth peer name far; ip addr add 192.0.2.1/24 dev wire;"
     "ip link set wire up");
  UniqueFd outside;
  std::thread([&] {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    outside.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }).join();
  const std::string path = absl::StrCat("/proc/", getpid(), "/fd/", outside.get());
  Sh(absl::StrCat("ip link set far netns ", path));
  const Node machine(path);
  machine.Run([] { Sh("ip addr add 192.0.2.9/24 dev far; ip link set far up"); });
  const UniqueFd far = machine.Listen("0.0.0.0", 80);
  EXPECT_EQ(In("first").Arrives("192.0.2.9", 80, far), "192.0.2.1");
  bed_->CtlOut({"rm", "-f", "first", "second"});
  EXPECT_TRUE(Eventually([] { return Sh("ip -o link show master gantry0 | wc -l") == "0\n"; }));
}

// Random or given port, of all addresses of the host or of one: each for TCP and UDP.
TEST_F(NetworkCasesTest, FourKindsOfPublishedPorts) {
  bed_->CtlOut({"network", "create", "web"});
  Run("server", {"--network", "web", "-p", "80", "-p", absl::StrCat(kPort, ":81"), "-p",
                 "127.0.0.1::82", "-p", absl::StrCat("127.0.0.1:", kPort, ":83/udp"), "-p",
                 "84/udp", "-p", absl::StrCat(kPort + 1, ":85/udp"), "-p",
                 absl::StrCat(kPort + 10, "-", kPort + 12, ":90-92"), "-p",
                 absl::StrCat("[::1]:", kPort + 20, ":86")});
  const Node inside = In("server");
  const auto host_port = [&](const std::string& of) {
    const std::string shown = bed_->CtlOut({"port", "server", of});
    const std::string first = shown.substr(0, shown.find('\n'));
    return static_cast<uint16_t>(std::stoi(first.substr(first.rfind(':') + 1)));
  };
  const auto leads = [&](const std::string& address, uint16_t port, uint16_t to, int type) {
    const UniqueFd server = inside.Listen("0.0.0.0", to, type);
    return host_->Arrives(address, port, server, type) != "";
  };
  EXPECT_TRUE(leads("127.0.0.1", host_port("80"), 80, SOCK_STREAM));
  EXPECT_TRUE(leads("127.0.0.1", kPort, 81, SOCK_STREAM));
  EXPECT_TRUE(leads("::1", kPort, 81, SOCK_STREAM));
  EXPECT_TRUE(leads("127.0.0.1", host_port("82"), 82, SOCK_STREAM));
  EXPECT_TRUE(leads("127.0.0.1", kPort, 83, SOCK_DGRAM));
  EXPECT_TRUE(leads("127.0.0.1", host_port("84/udp"), 84, SOCK_DGRAM));
  EXPECT_TRUE(leads("127.0.0.1", kPort + 1, 85, SOCK_DGRAM));
  EXPECT_TRUE(leads("::1", kPort + 1, 85, SOCK_DGRAM));
  for (uint16_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(leads("127.0.0.1", static_cast<uint16_t>(kPort + 10 + i),
                      static_cast<uint16_t>(90 + i), SOCK_STREAM));
  }
  EXPECT_TRUE(leads("::1", kPort + 20, 86, SOCK_STREAM));
  bed_->CtlOut({"rm", "-f", "server"});
}

TEST_F(NetworkCasesTest, PortThatIsTakenLeavesNothingBehind) {
  bed_->CtlOut({"network", "create", "web"});
  Run("holder", {"--network", "web", "-p", absl::StrCat(kPort, ":80")});
  const std::string rules = Rules();
  const std::string devices = Sh("ip -o link show | sed 's/.*: \\(veth[^:@]*\\).*/\\1/'");
  const std::string mounts = ReadFile("/proc/self/mounts", 1 << 22).value();
  const Outcome second = Refused({"--network", "web", "-p", absl::StrCat(kPort, ":81")});
  EXPECT_THAT(second.err, HasSubstr("port is already allocated; container holder has it"));
  const UniqueFd program = host_->Listen("0.0.0.0", kPort + 1);
  const Outcome third = Refused({"--network", "web", "-p", absl::StrCat(kPort + 1, ":81")});
  EXPECT_THAT(third.err, HasSubstr("address already in use"));
  EXPECT_THAT(third.err, HasSubstr(absl::StrCat("(pid ", getpid(), ")")));
  EXPECT_TRUE(Eventually([&] { return Rules() == rules; }));
  EXPECT_EQ(Sh("ip -o link show | sed 's/.*: \\(veth[^:@]*\\).*/\\1/'"), devices);
  EXPECT_EQ(ReadFile("/proc/self/mounts", 1 << 22).value(), mounts);
  // The address is free, too.
  Run("next", {"--network", "web"});
  EXPECT_THAT(Ip("next", "-4 -o addr show eth0"), HasSubstr("inet 172.18.0.3/16"));
  // One port of two addresses, or of two protocols, is two ports.
  Run("one", {"--network", "web", "-p", absl::StrCat("127.0.0.1:", kPort + 2, ":80"), "-p",
              absl::StrCat(kPort + 3, ":80/tcp"), "-p", absl::StrCat(kPort + 3, ":80/udp")});
  Run("two", {"--network", "web", "-p", absl::StrCat("127.0.0.2:", kPort + 2, ":80")});
  const UniqueFd at_one = In("one").Listen("0.0.0.0", 80);
  const UniqueFd at_two = In("two").Listen("0.0.0.0", 80);
  EXPECT_NE(host_->Arrives("127.0.0.1", kPort + 2, at_one), "");
  EXPECT_NE(host_->Arrives("127.0.0.2", kPort + 2, at_two), "");
  Refused({"--network", "web", "-p", absl::StrCat(kPort + 2, ":80")});
  bed_->CtlOut({"rm", "-f", "holder", "next", "one", "two"});
}

TEST_F(NetworkCasesTest, OwnPublishedPortIsReachedByTheHostsAddress) {
  bed_->CtlOut({"network", "create", "--subnet", "10.1.0.0/24", "web"});
  Run("server", {"--network", "web", "-p", absl::StrCat(kPort, ":80")});
  const Node inside = In("server");
  const UniqueFd server = inside.Listen("0.0.0.0", 80);
  // Not as itself: the answer would not come back by the host.
  EXPECT_EQ(inside.Arrives("10.1.0.1", kPort, server), "10.1.0.1");
  Run("neighbour", {"--network", "web"});
  EXPECT_EQ(In("neighbour").Arrives("10.1.0.1", kPort, server), "10.1.0.1");
  bed_->CtlOut({"network", "create", "--subnet", "10.2.0.0/24", "other"});
  Run("stranger", {"--network", "other"});
  EXPECT_EQ(In("stranger").Arrives("10.1.0.1", kPort, server), "10.2.0.2");
  EXPECT_EQ(In("stranger").Arrives("10.1.0.2", 80, server, SOCK_STREAM, kStaysAwayMs), "");
  bed_->CtlOut({"rm", "-f", "server", "neighbour", "stranger"});
}

TEST_F(NetworkCasesTest, InternalNetworkPublishesNothing) {
  bed_->CtlOut({"network", "create", "--internal", "--subnet", "10.1.0.0/24", "inner"});
  Run("server", {"--network", "inner", "-p", absl::StrCat(kPort, ":80")});
  EXPECT_EQ(bed_->CtlOut({"port", "server"}), "");
  EXPECT_THAT(bed_->Inspect("server", "{{json .NetworkSettings.Ports}}"),
              Not(HasSubstr("HostPort")));
  EXPECT_EQ(Ip("server", "route show default"), "");
  const UniqueFd server = In("server").Listen("0.0.0.0", 80);
  EXPECT_EQ(host_->Arrives("127.0.0.1", kPort, server, SOCK_STREAM, kStaysAwayMs), "");
  EXPECT_NE(host_->Arrives("10.1.0.2", 80, server), "");
  bed_->CtlOut({"rm", "-f", "server"});
}

TEST_F(NetworkCasesTest, HostNoneAndAnothersNamespace) {
  Run("host", {"--network", "host"});
  EXPECT_EQ(In("host").inode(), host_->inode());
  Run("alone", {"--network", "none"});
  EXPECT_THAT(Ip("alone", "-o link show"), Not(HasSubstr("eth")));
  EXPECT_THAT(Ip("alone", "-o link show lo"), HasSubstr("UP"));
  EXPECT_EQ(Ip("alone", "route show"), "");
  // A person may put a device in by hand.
  Sh(absl::StrCat("ip link add byhand type veth peer name far; ip link set byhand netns ",
                  bed_->Inspect("alone", "{{.State.Pid}}")));
  EXPECT_THAT(bed_->CtlOut({"exec", "alone", "ip", "link"}), HasSubstr("byhand"));

  bed_->CtlOut({"network", "create", "--subnet", "10.1.0.0/24", "web"});
  Run("target", {"--network", "web", "-p", absl::StrCat(kPort, ":80")});
  Run("joiner", {"--network", "container:target"});
  EXPECT_EQ(In("joiner").inode(), In("target").inode());
  {
    const UniqueFd server = In("target").Listen("127.0.0.1", 80);
    EXPECT_EQ(In("joiner").Arrives("127.0.0.1", 80, server), "127.0.0.1");
  }
  for (const Strings& bad : {Strings{"-p", "80:80"}, Strings{"--hostname", "x"},
                             Strings{"--dns", "192.0.2.1"}, Strings{"--add-host", "x:192.0.2.1"}}) {
    Strings options = {"--network", "container:target"};
    options.insert(options.end(), bad.begin(), bad.end());
    EXPECT_THAT(Refused(options).err, HasSubstr("conflicting options")) << bad[0];
  }
  // The target starts anew in another namespace: the joiner stays in the one that was, without a
  // network, until it starts anew itself.
  const ino_t before = In("joiner").inode();
  bed_->CtlOut({"restart", "-t", "0", "target"});
  EXPECT_NE(In("target").inode(), before);
  EXPECT_EQ(In("joiner").inode(), before);
  EXPECT_TRUE(Eventually([&] { return !absl::StrContains(Ip("joiner", "-o link show"), "eth0"); }));
  bed_->CtlOut({"restart", "-t", "0", "joiner"});
  EXPECT_EQ(In("joiner").inode(), In("target").inode());
  bed_->CtlOut({"stop", "-t", "0", "target"});
  EXPECT_THAT(Refused({"--network", "container:target"}).err, HasSubstr("target"));
  bed_->CtlOut({"rm", "-f", "host", "alone", "joiner", "target"});
}

// Nothing holds it any more, although the shim of another container was forked while it was there:
// with the file, its mount goes from all mount namespaces.
TEST_F(NetworkCasesTest, NamespaceEndsWithItsContainer) {
  bed_->CtlOut({"network", "create", "--subnet", "10.1.0.0/24", "web"});
  Run("first", {"--network", "web"});
  const std::string kept = absl::StrCat(" net:[", In("first").inode(), "] ");
  Run("second", {"--network", "web"});
  const pid_t shim = bed_->ShimPid(bed_->Inspect("second", "{{.Id}}"));
  ASSERT_GT(shim, 0);
  const auto mounts = [shim] {
    return ReadFile(absl::StrCat("/proc/", shim, "/mountinfo"), 4 << 20).value_or("");
  };
  EXPECT_THAT(mounts(), HasSubstr(kept));
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  bed_->CtlOut({"rm", "-f", "first"});
  EXPECT_TRUE(Eventually([&] { return !absl::StrContains(mounts(), kept); })) << mounts();
  EXPECT_NE(mounts(), "");
  bed_->CtlOut({"rm", "-f", "second"});
}

TEST_F(NetworkCasesTest, MacvlanDevicesHaveMacAddressesOfTheirOwnAndNoPorts) {
  Sh("ip link add wire type veth peer name far; ip link set far up; ip link set wire up");
  bed_->CtlOut({"network", "create", "-d", "macvlan", "-o", "parent=wire", "--subnet",
                "10.1.0.0/24", "--gateway", "10.1.0.254", "lan"});
  Run("first", {"--network", "lan", "-p", absl::StrCat(kPort, ":80")});
  Run("second", {"--network", "lan"});
  const auto mac = [&](const std::string& name) {
    return Ip(name, "-o link show eth0 | sed 's/.*ether //; s/ .*//'");
  };
  EXPECT_NE(mac("first"), mac("second"));
  EXPECT_NE(mac("first"), Sh("ip -o link show wire | sed 's/.*ether //; s/ .*//'"));
  EXPECT_THAT(Ip("first", "-d link show eth0"), HasSubstr("macvlan mode bridge"));
  EXPECT_THAT(Ip("first", "route show default"), HasSubstr("via 10.1.0.254"));
  const UniqueFd server = In("first").Listen("0.0.0.0", 80);
  EXPECT_EQ(In("second").Arrives("10.1.0.1", 80, server), "10.1.0.2");
  EXPECT_EQ(host_->Arrives("127.0.0.1", kPort, server, SOCK_STREAM, kStaysAwayMs), "");
  EXPECT_EQ(bed_->CtlOut({"port", "first"}), "");
  bed_->CtlOut({"rm", "-f", "first", "second"});
  const Outcome overlay = bed_->Ctl({"network", "create", "-d", "overlay", "wide"});
  EXPECT_EQ(overlay.code, 1);
  EXPECT_THAT(overlay.err, HasSubstr("Kubernetes"));
}

// The device is made while the shim starts: what is not to be had ends the shim again.
TEST_F(NetworkCasesTest, DeviceThatCannotBeMadeEndsTheStart) {
  const std::string make = "ip link add wire type veth peer name far; ip link set wire up";
  Sh(make);
  bed_->CtlOut({"network", "create", "-d", "macvlan", "-o", "parent=wire", "--subnet",
                "10.1.0.0/24", "lan"});
  Sh("ip link del wire");
  EXPECT_THAT(Refused({"--network", "lan"}).err, HasSubstr("network device wire"));
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
  bed_->CtlOut({"create", "--name", "later", "--network", "lan", kImage, "sleep", "1000"});
  EXPECT_NE(bed_->Ctl({"start", "later"}).code, 0);
  EXPECT_THAT(bed_->Inspect("later", "{{.State.Status}} {{.State.Error}}"),
              HasSubstr("network device wire"));
  Sh(make);
  bed_->CtlOut({"start", "later"});
  EXPECT_THAT(Ip("later", "-4 -o addr show eth0"), HasSubstr("inet 10.1.0.1/24"));
  bed_->CtlOut({"rm", "-f", "later"});
}

TEST_F(NetworkCasesTest, NetworkOfAStoppedContainerMayGo) {
  bed_->CtlOut({"network", "create", "web"});
  Run("server", {"--network", "web"});
  const Outcome used = bed_->Ctl({"network", "rm", "web"});
  EXPECT_EQ(used.code, 1);
  EXPECT_THAT(used.err, HasSubstr("active endpoints"));
  bed_->CtlOut({"stop", "-t", "0", "server"});
  bed_->CtlOut({"network", "rm", "web"});
  const Outcome late = bed_->Ctl({"start", "server"});
  EXPECT_EQ(late.code, 1);
  EXPECT_THAT(late.err, HasSubstr("network web not found"));
  bed_->CtlOut({"rm", "-f", "server"});
}

TEST_F(NetworkCasesTest, FilesOfNamesOnTheDefaultBridgeAndOnOthers) {
  // The host's only server is one that a container cannot reach: its shim asks it instead.
  Run("plain", {"--network", "bridge"});
  EXPECT_THAT(bed_->CtlOut({"exec", "plain", "cat", "/etc/resolv.conf"}),
              HasSubstr("nameserver 127.0.0.11"));
  const UniqueFd server = host_->Listen("127.0.0.53", 53, SOCK_DGRAM);
  const Node inside = In("plain");
  EXPECT_EQ(inside.Arrives("127.0.0.53", 53, server, SOCK_DGRAM, kStaysAwayMs), "");
  const UniqueFd client = inside.Socket(AF_INET, SOCK_DGRAM);
  sockaddr_storage to = {};
  const socklen_t length = Fill("127.0.0.11", 53, to);
  const std::string query(
      "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x04test\x00\x00"
      "\x01\x00\x01",
      24);
  ASSERT_EQ(
      sendto(client.get(), query.data(), query.size(), 0, reinterpret_cast<sockaddr*>(&to), length),
      static_cast<ssize_t>(query.size()));
  pollfd asked = {server.get(), POLLIN, 0};
  EXPECT_EQ(poll(&asked, 1, kComesMs), 1);
  // An edited file is the person's from then on.
  bed_->CtlOut({"exec", "plain", "sh", "-c", "echo nameserver 192.0.2.7 > /etc/resolv.conf"});
  bed_->CtlOut({"network", "create", "--subnet", "10.1.0.0/24", "web"});
  bed_->CtlOut({"network", "connect", "web", "plain"});
  EXPECT_EQ(bed_->CtlOut({"exec", "plain", "cat", "/etc/resolv.conf"}), "nameserver 192.0.2.7");
  // The host by a name, whatever network the container is on.
  Run("user", {"--network", "web", "--add-host", "host.docker.internal:host-gateway"});
  EXPECT_THAT(bed_->CtlOut({"exec", "user", "cat", "/etc/hosts"}),
              HasSubstr("172.17.0.1\thost.docker.internal"));
  bed_->CtlOut({"rm", "-f", "plain", "user"});
}

// Priorities are before names, and ports go where the default route goes.
TEST_F(NetworkCasesTest, DefaultRouteAndPortsGoByNameThenByPriority) {
  bed_->CtlOut({"network", "create", "--subnet", "10.1.0.0/24", "zeta"});
  bed_->CtlOut({"network", "create", "--subnet", "10.2.0.0/24", "alpha"});
  bed_->CtlOut({"network", "create", "--subnet", "10.3.0.0/24", "aaa"});
  Run("container", {"--network", "zeta", "--network", "alpha", "-p", absl::StrCat(kPort, ":80")});
  const Node inside = In("container");
  const auto published_at = [&](const std::string& address) {
    const UniqueFd server = inside.Listen(address, 80);
    return host_->Arrives("127.0.0.1", kPort, server, SOCK_STREAM, kComesMs) != "";
  };
  EXPECT_THAT(Ip("container", "route show default"), HasSubstr("via 10.2.0.1"));
  EXPECT_TRUE(published_at("10.2.0.2"));
  const UniqueFd server = inside.Listen("10.2.0.2", 80);
  const UniqueFd client = host_->Socket(AF_INET, SOCK_STREAM);
  sockaddr_storage to = {};
  const socklen_t length = Fill("127.0.0.1", kPort, to);
  (void)connect(client.get(), reinterpret_cast<sockaddr*>(&to), length);  // poll() says how it goes
  pollfd ready = {server.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ready, 1, kComesMs), 1);
  const UniqueFd accepted(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(accepted.valid());
  bed_->CtlOut({"network", "connect", "aaa", "container"});
  EXPECT_THAT(Ip("container", "route show default"), HasSubstr("via 10.3.0.1"));
  EXPECT_TRUE(published_at("10.3.0.2"));
  // What was open to the other address ends with the next that is sent.
  EXPECT_TRUE(Eventually([&client] {
    char byte = 'x';
    (void)send(client.get(), &byte, 1, MSG_NOSIGNAL);
    return recv(client.get(), &byte, 1, 0) == -1 && (errno == ECONNRESET || errno == EPIPE);
  }));
  bed_->CtlOut({"network", "disconnect", "zeta", "container"});
  bed_->CtlOut({"network", "connect", "--gw-priority", "1", "zeta", "container"});
  EXPECT_THAT(Ip("container", "route show default"), HasSubstr("via 10.1.0.1"));
  EXPECT_TRUE(published_at("10.1.0.2"));
  bed_->CtlOut({"rm", "-f", "container"});
}

}  // namespace
}  // namespace gantry::integration
