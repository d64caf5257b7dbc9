// What a hostile container, or a hostile machine beside the host, tries on a network.
//
// Frames are made by hand and sent from inside the attacker's network namespace. Those that must
// not arrive are followed by one that must, on the same way: when that is there, the others are
// lost. The test, and with it the daemon, is in a network namespace of its own.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

#include "base/unique_fd.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";
constexpr uint16_t kPort = 28080;
constexpr char kRequest[] = "GET / HTTP/1.0\r\n\r\n";
constexpr int kComesMs = 5000;
constexpr int kStaysAwayMs = 400;

void Sh(const std::string& command) {
  const Outcome done = RunProgram({"/bin/sh", "-ec", command});
  ASSERT_TRUE(Ok(done));
}

// Whether bridged packets pass the rules for routed ones ("1") or not ("0").
void LetBridgedPacketsPass(const char* passes) {
  Sh(absl::StrCat("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo ",
                  passes, " > $f; done"));
}

UniqueFd NetnsOf(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(fd.valid()) << path;
  return fd;
}

// What `work` opens there stays there.
void Inside(int netns, const std::function<void()>& work) {
  std::thread([&] {
    ASSERT_EQ(setns(netns, CLONE_NEWNET), 0);
    work();
  }).join();
}

// --- frames

std::string Mac(const std::string& text) {
  return absl::HexStringToBytes(absl::StrReplaceAll(text, {{":", ""}}));
}
std::string Ip(const std::string& text) {
  char bytes[16];
  const bool ipv6 = text.find(':') != std::string::npos;
  EXPECT_EQ(inet_pton(ipv6 ? AF_INET6 : AF_INET, text.c_str(), bytes), 1) << text;
  return {bytes, ipv6 ? size_t{16} : size_t{4}};
}
std::string Hex(const char* text) { return absl::HexStringToBytes(text); }

const char kBroadcast[] = "ff:ff:ff:ff:ff:ff";

std::string Frame(const std::string& to, const std::string& from, const char* type,
                  const std::string& payload) {
  return absl::StrCat(Mac(to), Mac(from), Hex(type), payload);
}
// 20 bytes of head and `payload`.
std::string Ipv4(const std::string& from, const std::string& to, const char* protocol,
                 const std::string& payload) {
  std::string head = absl::StrCat(Hex("4500"), std::string(1, '\0'),
                                  std::string(1, static_cast<char>(20 + payload.size())),
                                  Hex("0000400040"), Hex(protocol), Hex("0000"), Ip(from), Ip(to));
  uint32_t sum = 0;
  for (size_t i = 0; i < head.size(); i += 2) {
    sum += static_cast<uint32_t>(static_cast<uint8_t>(head[i])) << 8 |
           static_cast<uint8_t>(head[i + 1]);
  }
  sum = ~((sum & 0xffff) + (sum >> 16));
  head[10] = static_cast<char>(sum >> 8);
  head[11] = static_cast<char>(sum);
  return absl::StrCat(head, payload);
}
// A datagram of UDP.
std::string Ipv4(const std::string& from, const std::string& to) {
  return Ipv4(from, to, "11", absl::StrCat(Hex("1000100100140000"), "twelve bytes"));
}
// From port 80 to port 80 of TCP. `flags`: "02" opens a connection, "12" answers that.
std::string Tcp(const std::string& from, const std::string& to, const char* flags) {
  return Ipv4(
      from, to, "06",
      absl::StrCat(Hex("005000500000000000000000"), Hex("50"), Hex(flags), Hex("100000000000")));
}
std::string Ipv6(const std::string& from, const std::string& to, const char* protocol,
                 const std::string& payload) {
  const char length[] = {0, static_cast<char>(payload.size())};
  return absl::StrCat(Hex("60000000"), absl::string_view(length, 2), Hex(protocol), Hex("ff"),
                      Ip(from), Ip(to), payload);
}
// `operation`: "0001" asks, "0002" answers.
std::string Arp(const char* operation, const std::string& mac, const std::string& ip,
                const std::string& about) {
  return absl::StrCat(Hex("000108000604"), Hex(operation), Mac(mac), Ip(ip), Hex("000000000000"),
                      Ip(about));
}

UniqueFd RawSocket(int netns, const std::string& device) {
  UniqueFd fd;
  Inside(netns, [&] {
    fd.reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    ASSERT_TRUE(fd.valid());
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(if_nametoindex(device.c_str()));
    ASSERT_NE(address.sll_ifindex, 0) << device;
    ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  });
  return fd;
}

void Send(const UniqueFd& socket, const std::string& frame) {
  ASSERT_EQ(send(socket.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()))
      << strerror(errno);
}

// The next frame that arrives, "" when none does in time.
std::string Receive(const UniqueFd& socket, int patience_ms) {
  pollfd ready = {socket.get(), POLLIN, 0};
  if (poll(&ready, 1, patience_ms) != 1) return "";
  char buffer[2048];
  const ssize_t got = recv(socket.get(), buffer, sizeof buffer, 0);
  return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : "";
}

// Whether `frame` arrives, and before it none of `others`. A frame with a VLAN tag arrives without.
testing::AssertionResult OnlyArrives(const UniqueFd& at, const std::string& frame,
                                     const std::vector<std::string>& others = {}) {
  for (;;) {
    const std::string got = Receive(at, kComesMs);
    if (got.empty()) return testing::AssertionFailure() << "nothing arrives";
    if (got == frame) return testing::AssertionSuccess();
    for (size_t i = 0; i < others.size(); ++i) {
      if (got == others[i]) return testing::AssertionFailure() << "frame " << i << " arrives";
    }
  }
}

class NetworkAttackTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    Sh("ip link set lo up");
    host_ = NetnsOf("/proc/thread-self/ns/net");
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }

  struct Container {
    std::string name, mac, ip, ip6;
    UniqueFd netns;
  };
  // With a web server at port 80 whose page is its name.
  Container Start(const std::string& network, const std::string& name,
                  std::vector<std::string> options = {}) {
    std::vector<std::string> args = {"run", "-d", "--name", name, "--network", network};
    args.insert(args.end(), options.begin(), options.end());
    args.insert(args.end(), {kImage, "sh", "-c",
                             absl::StrCat("mkdir -p /www && echo ", name,
                                          " > /www/index.html && exec busybox httpd -f -p 80 "
                                          "-h /www")});
    bed_->CtlOut(args);
    const std::string place = absl::StrCat("{{.NetworkSettings.Networks.", network, ".");
    Container made;
    made.name = name;
    made.mac = bed_->Inspect(name, place + "MacAddress}}");
    made.ip = bed_->Inspect(name, place + "IPAddress}}");
    made.ip6 = bed_->Inspect(name, place + "GlobalIPv6Address}}");
    made.netns = NetnsOf(absl::StrCat("/proc/", bed_->Inspect(name, "{{.State.Pid}}"), "/ns/net"));
    EXPECT_TRUE(Eventually([&] { return Ask(host_, made.ip, 80, kComesMs) == name + "\n"; }));
    return made;
  }

  // The page of a server, as a client in this namespace gets it; "" when none answers in time.
  static std::string Ask(const UniqueFd& from, const std::string& address, uint16_t port,
                         int patience_ms) {
    sockaddr_storage to = {};
    auto* in = reinterpret_cast<sockaddr_in*>(&to);
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&to);
    const bool ipv6 = inet_pton(AF_INET6, address.c_str(), &in6->sin6_addr) == 1;
    if (!ipv6) inet_pton(AF_INET, address.c_str(), &in->sin_addr);
    to.ss_family = ipv6 ? AF_INET6 : AF_INET;
    in->sin_port = htons(port);  // at the same place in both
    UniqueFd fd;
    Inside(from.get(),
           [&] { fd.reset(socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    // Not blocking: poll() says whether it comes about.
    (void)connect(fd.get(), reinterpret_cast<sockaddr*>(&to), ipv6 ? sizeof *in6 : sizeof *in);
    pollfd ready = {fd.get(), POLLOUT, 0};
    if (poll(&ready, 1, patience_ms) != 1 ||
        send(fd.get(), kRequest, sizeof kRequest - 1, MSG_NOSIGNAL) < 0)
      return "";
    std::string text;
    char buffer[64];
    ready.events = POLLIN;
    while (poll(&ready, 1, kComesMs) == 1) {
      const ssize_t got = read(fd.get(), buffer, sizeof buffer);
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
    }
    const size_t head = text.find("\r\n\r\n");
    return head == std::string::npos ? "" : text.substr(head + 4);
  }

  UniqueFd host_;
  std::unique_ptr<Testbed> bed_;
};

TEST_F(NetworkAttackTest, ContainerCannotSendWithAddressesThatAreNotItsOwn) {
  bed_->CtlOut(
      {"network", "create", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "web"});
  const Container attacker = Start("web", "attacker");
  const Container victim = Start("web", "victim");
  const UniqueFd wire = RawSocket(attacker.netns.get(), "eth0");
  const UniqueFd tap = RawSocket(victim.netns.get(), "eth0");
  const std::string& me = attacker.mac;
  const std::string other = "02:00:00:00:00:99";

  const std::string echo = absl::StrCat(Hex("8000000000010001"), "0123");
  // About `target`, to all nodes.
  const auto advertisement = [](const std::string& target, const std::string& mac) {
    return absl::StrCat(Hex("8800000020000000"), Ip(target), Hex("0201"), Mac(mac));
  };
  const std::string router =
      absl::StrCat(Hex("86000000400007080000000000000000"), Hex("0101"), Mac(me));
  const std::string tagged = Ipv4("10.77.0.1", victim.ip);
  const std::vector<std::string> bad = {
      Frame(victim.mac, other, "0800", Ipv4(attacker.ip, victim.ip)),
      Frame(victim.mac, me, "0800", Ipv4("10.77.0.1", victim.ip)),
      Frame(victim.mac, me, "0800", Ipv4(victim.ip, victim.ip)),
      Frame(victim.mac, me, "0800", Ipv4("192.0.2.1", victim.ip)),
      Frame(kBroadcast, me, "0800", Ipv4("0.0.0.0", "255.255.255.255")),
      Frame(victim.mac, me, "86dd", Ipv6("fd77::1", victim.ip6, "3a", echo)),
      Frame(victim.mac, me, "86dd", Ipv6("2001:db8::1", victim.ip6, "3a", echo)),
      // The gateway's address, asked for and answered, with the attacker's MAC.
      Frame(kBroadcast, me, "0806", Arp("0002", me, "10.77.0.1", "10.77.0.1")),
      Frame(victim.mac, me, "0806", Arp("0002", me, "10.77.0.1", victim.ip)),
      Frame(kBroadcast, me, "0806", Arp("0001", me, "10.77.0.1", victim.ip)),
      Frame(kBroadcast, me, "0806", Arp("0002", other, attacker.ip, attacker.ip)),
      Frame(victim.mac, me, "86dd",
            Ipv6(attacker.ip6, victim.ip6, "3a", advertisement("fd77::1", me))),
      Frame(victim.mac, me, "86dd",
            Ipv6("fd77::1", victim.ip6, "3a", advertisement("fd77::1", me))),
      Frame(victim.mac, me, "86dd", Ipv6(attacker.ip6, victim.ip6, "3a", router)),
      // Another protocol, and a truncated one.
      Frame(victim.mac, me, "88b5", "experiment"),
      Frame(victim.mac, me, "0800", "short"),
  };
  for (const std::string& frame : bad) Send(wire, frame);
  // Tagged, which the receiver sees without the tag.
  Send(wire, Frame(victim.mac, me, "8100", absl::StrCat(Hex("0005"), Hex("0800"), tagged)));
  std::vector<std::string> never = bad;
  never.push_back(Frame(victim.mac, me, "0800", tagged));

  const std::string good = Frame(victim.mac, me, "0800", Ipv4(attacker.ip, victim.ip));
  Send(wire, good);
  EXPECT_TRUE(OnlyArrives(tap, good, never));

  const std::vector<std::string> allowed = {
      Frame(kBroadcast, me, "0806", Arp("0001", me, attacker.ip, victim.ip)),
      Frame(kBroadcast, me, "0806", Arp("0001", me, "0.0.0.0", attacker.ip)),  // a probe
      Frame(victim.mac, me, "86dd", Ipv6(attacker.ip6, victim.ip6, "3a", echo)),
      Frame(victim.mac, me, "86dd",
            Ipv6(attacker.ip6, victim.ip6, "3a", advertisement(attacker.ip6, me))),
  };
  for (const std::string& frame : allowed) {
    Send(wire, frame);
    EXPECT_TRUE(OnlyArrives(tap, frame));
  }

  // The host is no more reached than a neighbour is.
  const std::string device = bed_->CtlOut({"network", "inspect", "-f", "{{.Id}}", "web"});
  const std::string bridge = absl::StrCat("br-", device.substr(0, 12));
  const UniqueFd gateway = RawSocket(host_.get(), bridge);
  const std::string claim = Frame(kBroadcast, me, "0806", Arp("0002", me, "10.77.0.1", victim.ip));
  const std::string own = Frame(kBroadcast, me, "0806", Arp("0001", me, attacker.ip, "10.77.0.1"));
  Send(wire, claim);
  Send(wire, own);
  EXPECT_TRUE(OnlyArrives(gateway, own, {claim}));
  EXPECT_EQ(Ask(attacker.netns, victim.ip, 80, kComesMs), "victim\n");
  bed_->CtlOut({"rm", "-f", "attacker", "victim"});
}

TEST_F(NetworkAttackTest, NeighboursOfANetworkWithoutIccDoNotMeet) {
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "-o",
                "com.docker.network.bridge.enable_icc=false", "apart"});
  const Container attacker = Start("apart", "attacker");
  const Container victim = Start("apart", "victim", {"-p", absl::StrCat(kPort, ":80")});
  const std::string id = bed_->CtlOut({"network", "inspect", "-f", "{{.Id}}", "apart"});
  const UniqueFd wire = RawSocket(attacker.netns.get(), "eth0");
  const UniqueFd tap = RawSocket(victim.netns.get(), "eth0");
  const UniqueFd gateway = RawSocket(host_.get(), absl::StrCat("br-", id.substr(0, 12)));
  const std::string& me = attacker.mac;
  const std::vector<std::string> bad = {
      Frame(victim.mac, me, "0800", Ipv4(attacker.ip, victim.ip)),
      Frame(kBroadcast, me, "0806", Arp("0001", me, attacker.ip, victim.ip)),
      Frame("01:00:5e:00:00:fb", me, "0800", Ipv4(attacker.ip, "224.0.0.251")),
  };
  const std::string last = Frame(kBroadcast, me, "0806", Arp("0001", me, attacker.ip, "10.78.0.1"));
  for (const char* passes : {"0", "1"}) {
    SCOPED_TRACE(passes);
    LetBridgedPacketsPass(passes);
    for (const std::string& frame : bad) Send(wire, frame);
    Send(wire, last);
    EXPECT_TRUE(OnlyArrives(gateway, last));
    // The host has the last of them, so those before would be here.
    for (std::string got = Receive(tap, 0); !got.empty(); got = Receive(tap, 0)) {
      EXPECT_NE(got.substr(6, 6), Mac(me)) << absl::BytesToHexString(got);
    }
    EXPECT_EQ(Ask(attacker.netns, victim.ip, 80, kStaysAwayMs), "");
    EXPECT_EQ(Ask(attacker.netns, "10.78.0.1", kPort, kComesMs), "victim\n");
  }
  // Nor by the host's hand, but for what is published.
  Inside(attacker.netns.get(), [&] { Sh("ip route add " + victim.ip + "/32 via 10.78.0.1"); });
  EXPECT_EQ(Ask(attacker.netns, victim.ip, 80, kStaysAwayMs), "");
  EXPECT_EQ(Ask(attacker.netns, "10.78.0.1", kPort, kComesMs), "victim\n");
  bed_->CtlOut({"rm", "-f", "attacker", "victim"});
}

// A link opens what its target exposes, to the container that has the link, and nothing else.
TEST_F(NetworkAttackTest, LinkOpensExposedPortsWhereNeighboursDoNotMeet) {
  bed_->CtlOut({"network", "create", "--subnet", "10.78.0.0/24", "--ipv6", "--subnet", "fd78::/64",
                "-o", "com.docker.network.bridge.enable_icc=false", "apart"});
  const Container victim = Start("apart", "victim", {"--expose", "80"});
  const Container client =
      Start("apart", "client", {"--link", "victim:db", "-p", absl::StrCat(kPort, ":80")});
  const Container attacker = Start("apart", "attacker");
  const auto stands = [&] {
    for (const char* passes : {"0", "1"}) {
      SCOPED_TRACE(passes);
      LetBridgedPacketsPass(passes);
      EXPECT_EQ(Ask(client.netns, victim.ip, 80, kComesMs), "victim\n");
      EXPECT_EQ(Ask(client.netns, victim.ip6, 80, kComesMs), "victim\n");
      EXPECT_EQ(Ask(client.netns, victim.ip, 81, kStaysAwayMs), "");
      EXPECT_EQ(Ask(victim.netns, client.ip, 80, kStaysAwayMs), "");
      EXPECT_EQ(Ask(attacker.netns, victim.ip, 80, kStaysAwayMs), "");
      EXPECT_EQ(Ask(attacker.netns, victim.ip6, 80, kStaysAwayMs), "");
      EXPECT_EQ(Ask(attacker.netns, client.ip, 80, kStaysAwayMs), "");
    }
  };
  stands();
  // Frames that are no part of it: a datagram to the same port, and one with another's address.
  const UniqueFd wire = RawSocket(client.netns.get(), "eth0");
  const UniqueFd tap = RawSocket(victim.netns.get(), "eth0");
  const std::vector<std::string> bad = {
      Frame(victim.mac, client.mac, "0800", Ipv4(client.ip, victim.ip)),
      Frame(victim.mac, client.mac, "0800", Ipv4(attacker.ip, victim.ip)),
      Frame("01:00:5e:00:00:fb", client.mac, "0800", Ipv4(client.ip, "224.0.0.251")),
  };
  const std::string last =
      Frame(kBroadcast, client.mac, "0806", Arp("0001", client.mac, client.ip, victim.ip));
  for (const std::string& frame : bad) Send(wire, frame);
  Send(wire, last);
  EXPECT_TRUE(OnlyArrives(tap, last, bad));
  // The target opens no connection from the port that is open; its answers pass.
  const UniqueFd back = RawSocket(victim.netns.get(), "eth0");
  const UniqueFd heard = RawSocket(client.netns.get(), "eth0");
  LetBridgedPacketsPass("0");
  const std::string opens = Frame(client.mac, victim.mac, "0800", Tcp(victim.ip, client.ip, "02"));
  const std::string answers =
      Frame(client.mac, victim.mac, "0800", Tcp(victim.ip, client.ip, "12"));
  Send(back, opens);
  Send(back, answers);
  EXPECT_TRUE(OnlyArrives(heard, answers, {opens}));
  // A published port of the client is open to all, its target too.
  for (const char* passes : {"0", "1"}) {
    SCOPED_TRACE(passes);
    LetBridgedPacketsPass(passes);
    for (const Container* from : {&victim, &attacker, &client}) {
      for (const char* gateway : {"10.78.0.1", "fd78::1"})
        EXPECT_EQ(Ask(from->netns, gateway, kPort, kComesMs), "client\n") << from->name << gateway;
    }
  }
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  stands();
  bed_->CtlOut({"rm", "-f", "client"});
  EXPECT_EQ(Ask(attacker.netns, victim.ip, 80, kStaysAwayMs), "");
  bed_->CtlOut({"rm", "-f", "attacker", "victim"});
}

TEST_F(NetworkAttackTest, LoopbackPortsAndContainersAreOutOfReachFromOutside) {
  bed_->CtlOut({"network", "create", "--subnet", "10.77.0.0/24", "web"});
  const Container attacker = Start("web", "attacker");
  const Container victim =
      Start("web", "victim",
            {"-p", absl::StrCat("127.0.0.1:", kPort, ":80"), "-p", absl::StrCat(kPort + 1, ":80")});
  // Another machine on the same wire as the host, which knows the way to the containers.
  UniqueFd machine;
  std::thread([&] {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    machine = NetnsOf("/proc/thread-self/ns/net");
  }).join();
  Sh(absl::StrCat("ip link add wire type veth peer name eth0 netns /proc/", getpid(), "/fd/",
                  machine.get(), " && ip addr add 192.0.2.1/24 dev wire && ip link set wire up"));
  Inside(machine.get(), [] {
    Sh("ip link set lo up; ip addr add 192.0.2.9/24 dev eth0; ip link set eth0 up; "
       "ip route add default via 192.0.2.1");
  });
  EXPECT_EQ(Ask(host_, "127.0.0.1", kPort, kComesMs), "victim\n");
  EXPECT_EQ(Ask(machine, "192.0.2.1", kPort + 1, kComesMs), "victim\n");
  EXPECT_EQ(Ask(machine, victim.ip, 80, kStaysAwayMs), "");
  EXPECT_EQ(Ask(machine, "192.0.2.1", kPort, kStaysAwayMs), "");
  EXPECT_EQ(Ask(attacker.netns, "10.77.0.1", kPort, kStaysAwayMs), "");
  EXPECT_EQ(Ask(attacker.netns, "192.0.2.1", kPort, kStaysAwayMs), "");
  // Both send to 127.0.0.1 by the host.
  const auto by_the_host = [](const UniqueFd& from, const std::string& gateway) {
    Inside(from.get(), [&gateway] {
      Sh(
          absl::StrCat("echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; "
                       "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via ",
                       gateway, " src $(ip -4 -o addr show eth0 | sed 's/.*inet //; s,/.*,,')"));
    });
    return Ask(from, "127.0.0.1", kPort, kStaysAwayMs);
  };
  EXPECT_EQ(by_the_host(machine, "192.0.2.1"), "");
  EXPECT_EQ(by_the_host(attacker.netns, "10.77.0.1"), "");
  bed_->CtlOut({"rm", "-f", "attacker", "victim"});
  Sh("ip link del wire");
}

}  // namespace
}  // namespace gantry::integration
