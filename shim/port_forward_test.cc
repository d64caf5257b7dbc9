// Clients at [::1], servers at 127.0.0.1, as for a container without IPv6.
#include "shim/port_forward.h"

#include <arpa/inet.h>
#include <poll.h>

#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::shim {
namespace {

using testing::HasSubstr;

constexpr timeval kPatience = {10, 0};

SocketAddress At(const char* address, uint16_t port = 0) {
  return SocketAddress::Parse(address, port).value();
}

UniqueFd Bound(const SocketAddress& address, int type) {
  UniqueFd fd(socket(address.family(), type | SOCK_CLOEXEC, 0));
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  EXPECT_EQ(bind(fd.get(), address.get(), address.length), 0) << strerror(errno);
  if (type == SOCK_STREAM) {
    EXPECT_EQ(listen(fd.get(), 16), 0);
  }
  return fd;
}

uint16_t PortOf(const UniqueFd& fd) {
  sockaddr_in6 address = {};
  socklen_t length = sizeof address;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin6_port);
}

// A port of [::1] that nothing has.
uint16_t FreePort(int type) { return PortOf(Bound(At("::1"), type)); }

UniqueFd Connected(const SocketAddress& address, int type) {
  UniqueFd fd(socket(address.family(), type | SOCK_CLOEXEC, 0));
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  EXPECT_EQ(connect(fd.get(), address.get(), address.length), 0) << strerror(errno);
  return fd;
}

std::string ReadAll(const UniqueFd& fd) {
  std::string all;
  char buffer[65536];
  ssize_t got;
  while ((got = recv(fd.get(), buffer, sizeof buffer, 0)) > 0)
    all.append(buffer, static_cast<size_t>(got));
  EXPECT_EQ(got, 0) << strerror(errno);
  return all;
}

void WriteAll(const UniqueFd& fd, const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t sent = send(fd.get(), text.data() + at, text.size() - at, MSG_NOSIGNAL);
    ASSERT_GT(sent, 0) << strerror(errno);
    at += static_cast<size_t>(sent);
  }
}

std::string Datagram(const UniqueFd& fd) {
  char buffer[2048];
  const ssize_t got = recv(fd.get(), buffer, sizeof buffer, 0);
  return got < 0 ? std::string("nothing") : std::string(buffer, static_cast<size_t>(got));
}

class PortForwardTest : public testing::Test {
 protected:
  void Forward(const std::vector<ForwardedPort>& ports) {
    loop_ = EventLoop::Create().value();
    forward_ = PortForward::Open(ports).value();
    ASSERT_TRUE(forward_->Start(loop_.get()).ok());
    thread_ = std::thread([this] { loop_->Run(); });
  }
  void TearDown() override {
    if (!thread_.joinable()) return;
    loop_->Stop();
    thread_.join();
    forward_.reset();
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<PortForward> forward_;
  std::thread thread_;
};

// The loop's thread does it; a listener that stays keeps its place in the queue of the kernel.
TEST_F(PortForwardTest, PortsAreReplacedAndWhatLedElsewhereEnds) {
  const UniqueFd first = Bound(At("127.0.0.1"), SOCK_STREAM);
  const UniqueFd second = Bound(At("127.0.0.2"), SOCK_STREAM);
  const uint16_t port = FreePort(SOCK_STREAM);
  const uint16_t other = FreePort(SOCK_STREAM);
  Forward({{false, false, At("::1", port), At("127.0.0.1", PortOf(first))}});
  const auto replace = [this](std::vector<ForwardedPort> ports) {
    std::promise<absl::Status> done;
    loop_->Post([&] { done.set_value(forward_->Replace(ports)); });
    return done.get_future().get();
  };
  const UniqueFd old_client = Connected(At("::1", port), SOCK_STREAM);
  UniqueFd old_server(accept4(first.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_EQ(replace({{false, false, At("::1", port), At("127.0.0.2", PortOf(second))},
                     {false, false, At("::1", other), At("127.0.0.1", PortOf(first))}}),
            absl::OkStatus());
  EXPECT_EQ(ReadAll(old_client), "");
  const UniqueFd client = Connected(At("::1", port), SOCK_STREAM);
  const UniqueFd server(accept4(second.get(), nullptr, nullptr, SOCK_CLOEXEC));
  WriteAll(client, "hello");
  EXPECT_EQ(Datagram(server), "hello");
  // What stays as it is goes on; a port that another program has is said, and the rest is done.
  const UniqueFd holder = Bound(At("::1"), SOCK_STREAM);
  EXPECT_EQ(replace({{false, false, At("::1", port), At("127.0.0.2", PortOf(second))},
                     {false, false, At("::1", PortOf(holder)), At("127.0.0.1", PortOf(first))}})
                .code(),
            absl::StatusCode::kAlreadyExists);
  WriteAll(client, "again");
  EXPECT_EQ(Datagram(server), "again");
  const UniqueFd refused(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress gone = At("::1", other);
  EXPECT_NE(connect(refused.get(), gone.get(), gone.length), 0);
  // From one address to every address of the same port.
  ASSERT_EQ(replace({{false, false, At("::", port), At("127.0.0.2", PortOf(second))}}),
            absl::OkStatus());
  EXPECT_EQ(ReadAll(client), "");
  const UniqueFd last = Connected(At("::1", port), SOCK_STREAM);
  EXPECT_GE(accept4(second.get(), nullptr, nullptr, SOCK_CLOEXEC), 0);
}

TEST_F(PortForwardTest, BytesPassBothWaysAndEachEndIsPassedOn) {
  const UniqueFd server = Bound(At("127.0.0.1"), SOCK_STREAM);
  const uint16_t port = FreePort(SOCK_STREAM);
  Forward({{false, false, At("::1", port), At("127.0.0.1", PortOf(server))}});
  // More than any buffer on the way, in both directions.
  const std::string question(8 << 20, 'q');
  const std::string answer(5 << 20, 'a');
  std::string heard;
  std::thread serving([&] {
    const UniqueFd peer(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
    setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    heard = ReadAll(peer);  // until the client's end
    WriteAll(peer, answer);
  });
  const UniqueFd client = Connected(At("::1", port), SOCK_STREAM);
  WriteAll(client, question);
  shutdown(client.get(), SHUT_WR);
  EXPECT_TRUE(ReadAll(client) == answer);
  serving.join();
  EXPECT_TRUE(heard == question);
}

TEST_F(PortForwardTest, SlowConnectionHoldsUpNoOther) {
  const UniqueFd server = Bound(At("127.0.0.1"), SOCK_STREAM);
  const uint16_t port = FreePort(SOCK_STREAM);
  Forward({{false, false, At("::1", port), At("127.0.0.1", PortOf(server))}});
  // Nobody reads what the first sends: it fills every buffer.
  const UniqueFd slow = Connected(At("::1", port), SOCK_STREAM);
  const UniqueFd unread(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const std::string block(1 << 20, 's');
  ssize_t total = 0;
  for (;;) {
    const ssize_t sent = send(slow.get(), block.data(), block.size(), MSG_DONTWAIT);
    if (sent > 0) total += sent;
    pollfd ready = {slow.get(), POLLOUT, 0};
    if (sent < 0 && poll(&ready, 1, 200) == 0) break;
  }
  const UniqueFd other = Connected(At("::1", port), SOCK_STREAM);
  const UniqueFd peer(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  WriteAll(other, "hello");
  EXPECT_EQ(Datagram(peer), "hello");
  // Then it goes on, and nothing was lost.
  shutdown(slow.get(), SHUT_WR);
  setsockopt(unread.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  EXPECT_EQ(ReadAll(unread).size(), static_cast<size_t>(total));
}

TEST_F(PortForwardTest, RefusedByTheContainerEndsTheClientsConnection) {
  const uint16_t nobody = PortOf(Bound(At("127.0.0.1"), SOCK_STREAM));
  const uint16_t port = FreePort(SOCK_STREAM);
  Forward({{false, false, At("::1", port), At("127.0.0.1", nobody)}});
  const UniqueFd client = Connected(At("::1", port), SOCK_STREAM);
  pollfd ended = {client.get(), POLLIN, 0};
  ASSERT_EQ(poll(&ended, 1, 10'000), 1);
  char byte;
  EXPECT_LE(recv(client.get(), &byte, 1, 0), 0);
}

TEST_F(PortForwardTest, DatagramsFindTheirWayBackToEachClient) {
  const UniqueFd server = Bound(At("127.0.0.1"), SOCK_DGRAM);
  const uint16_t port = FreePort(SOCK_DGRAM);
  Forward({{true, false, At("::", port), At("127.0.0.1", PortOf(server))}});
  const UniqueFd one = Connected(At("::1", port), SOCK_DGRAM);
  const UniqueFd two = Connected(At("::1", port), SOCK_DGRAM);
  const auto answer = [&] {
    char buffer[64];
    sockaddr_in from = {};
    socklen_t length = sizeof from;
    const ssize_t got = recvfrom(server.get(), buffer, sizeof buffer, 0,
                                 reinterpret_cast<sockaddr*>(&from), &length);
    ASSERT_GT(got, 0);
    const std::string text =
        absl::StrCat("re: ", absl::string_view(buffer, static_cast<size_t>(got)));
    sendto(server.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&from), length);
  };
  for (int round = 0; round < 3; ++round) {
    send(one.get(), "first", 5, 0);
    answer();
    send(two.get(), "second", 6, 0);
    answer();
    EXPECT_EQ(Datagram(two), "re: second");
    EXPECT_EQ(Datagram(one), "re: first");
  }
}

TEST(ForwardedPortsTest, AreReadFromLines) {
  const auto ports = ParseForwardedPorts(
      "tcp :: 8080 10.1.0.2 80 if-possible\nudp ::1 53 fd00::2 5353 required\n");
  ASSERT_TRUE(ports.ok()) << ports.status();
  ASSERT_EQ(ports->size(), 2u);
  EXPECT_FALSE(ports->at(0).udp);
  EXPECT_TRUE(ports->at(0).if_possible);
  EXPECT_EQ(ports->at(0).host.ToString(), "[::]:8080");
  EXPECT_EQ(ports->at(0).container.ToString(), "10.1.0.2:80");
  EXPECT_TRUE(ports->at(1).udp);
  EXPECT_FALSE(ports->at(1).if_possible);
  EXPECT_EQ(ports->at(1).host.ToString(), "[::1]:53");
  EXPECT_EQ(ports->at(1).container.ToString(), "[fd00::2]:5353");
  EXPECT_TRUE(ParseForwardedPorts("")->empty());
  for (const char* bad : {"tcp", "tcp :: 8080 10.1.0.2 80", "tcp :: 99999 10.1.0.2 80 required",
                          "sctp :: 80 10.1.0.2 80 required", "tcp x 80 10.1.0.2 80 required"})
    EXPECT_EQ(ParseForwardedPorts(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
}

TEST_F(PortForwardTest, PortInUseIsNamed) {
  const UniqueFd other = Bound(At("::1"), SOCK_STREAM);
  const auto opened =
      PortForward::Open({{false, false, At("::1", PortOf(other)), At("127.0.0.1", 80)}});
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(opened.status().message()),
              HasSubstr(absl::StrCat("[::1]:", PortOf(other), "/tcp")));
  EXPECT_EQ(PortForward::Open({{false, false, At("2001:db8::1", 80), At("127.0.0.1", 80)}})
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
  EXPECT_TRUE(PortForward::Open({{false, true, At("2001:db8::1", 80), At("127.0.0.1", 80)}}).ok());
  EXPECT_FALSE(SocketAddress::Parse("localhost", 80).ok());
}

}  // namespace
}  // namespace gantry::shim
