#include "shim/log_forward.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::shim {
namespace {

using Protocol = ForwardOptions::Protocol;

const absl::Time kAt = absl::FromUnixNanos(1700000000123456789);

ForwardOptions Options(Protocol protocol) {
  ForwardOptions options;
  options.protocol = protocol;
  options.tag = "web";
  options.host_name = "host1";
  options.pid = 42;
  return options;
}

TEST(EncodeForwardedTest, JournaldHasFieldsAndLengthsWhereThereIsANewline) {
  ForwardOptions options = Options(Protocol::kJournald);
  options.fields = {{"CONTAINER_NAME", "web"}};
  EXPECT_EQ(EncodeForwarded(options, LogStream::kStdout, "hello", {}, kAt),
            "MESSAGE=hello\nPRIORITY=6\nSYSLOG_IDENTIFIER=web\nCONTAINER_NAME=web\n");
  const std::string two =
      EncodeForwarded(options, LogStream::kStderr, "a\nb", {"5eed", 1, false}, kAt);
  EXPECT_EQ(two.substr(0, 21), std::string("MESSAGE\n") + '\3' + std::string(7, '\0') + "a\nb\nP");
  EXPECT_TRUE(absl::StrContains(two, "PRIORITY=3\n"));
  EXPECT_TRUE(absl::StrContains(two,
                                "CONTAINER_PARTIAL_ID=5eed\nCONTAINER_PARTIAL_ORDINAL=1\n"
                                "CONTAINER_PARTIAL_LAST=false\nCONTAINER_PARTIAL_MESSAGE=true\n"));
  const std::string last =
      EncodeForwarded(options, LogStream::kStderr, "c", {"5eed", 2, true}, kAt);
  EXPECT_TRUE(absl::StrContains(last,
                                "CONTAINER_PARTIAL_ID=5eed\nCONTAINER_PARTIAL_ORDINAL=2\n"
                                "CONTAINER_PARTIAL_LAST=true\nCONTAINER_NAME=web\n"));
}

TEST(EncodeForwardedTest, SyslogHasPriorityTimeAndTag) {
  EXPECT_TRUE(absl::StartsWith(
      EncodeForwarded(Options(Protocol::kSyslogLocal), LogStream::kStdout, "x", {}, kAt),
      "<30>Nov 1"));
  EXPECT_TRUE(absl::EndsWith(
      EncodeForwarded(Options(Protocol::kSyslogLocal), LogStream::kStderr, "x", {}, kAt),
      " web[42]: x\n"));
  EXPECT_TRUE(absl::EndsWith(
      EncodeForwarded(Options(Protocol::kSyslogRfc3164), LogStream::kStdout, "x", {}, kAt),
      " host1 web[42]: x\n"));
  ForwardOptions local = Options(Protocol::kSyslogRfc5424Micro);
  local.facility = 16;
  const std::string micro = EncodeForwarded(local, LogStream::kStderr, "x", {}, kAt);
  EXPECT_TRUE(absl::StartsWith(micro, "<131>1 2023-11-1")) << micro;
  EXPECT_TRUE(absl::StrContains(micro, ".123456")) << micro;
  EXPECT_TRUE(absl::EndsWith(micro, " host1 web 42 web - x\n")) << micro;
}

TEST(EncodeForwardedTest, FluentdIsMessagePack) {
  ForwardOptions options = Options(Protocol::kFluentd);
  const std::string message = EncodeForwarded(options, LogStream::kStdout, "hi", {}, kAt);
  const std::string expected = std::string("\x93\xa3web\xce\x65\x53\xf1\x00\xde\x00\x02", 13) +
                               "\xa6source\xa6stdout\xa3log\xa2hi";
  EXPECT_EQ(message, expected);
  options.sub_second = true;
  EXPECT_TRUE(absl::StrContains(EncodeForwarded(options, LogStream::kStdout, "hi", {}, kAt),
                                absl::string_view("\xd7\x00\x65\x53\xf1\x00\x07\x5b\xcd\x15", 10)));
  const std::string large =
      EncodeForwarded(options, LogStream::kStdout, std::string(300, 'x'), {"5eed", 2, true}, kAt);
  EXPECT_TRUE(absl::StrContains(large, absl::string_view("\xa3log\xda\x01\x2cxxx", 10)));
  EXPECT_TRUE(absl::EndsWith(large,
                             "\xafpartial_message\xa4true\xaapartial_id\xa4"
                             "5eed"
                             "\xafpartial_ordinal\xa1"
                             "2\xacpartial_last\xa4true"));
}

class LogForwardTest : public testing::Test {
 protected:
  LogForwardTest() : loop_(*EventLoop::Create()) {}
  // Runs the loop until `condition` holds; false after ten seconds.
  bool RunUntil(const std::function<bool()>& condition) {
    bool held = false;
    const absl::Time until = absl::Now() + absl::Seconds(10);
    std::function<void()> look = [&] {
      held = condition();
      if (held || absl::Now() > until) {
        loop_->Stop();
      } else {
        loop_->After(absl::Milliseconds(5), look);
      }
    };
    loop_->After(absl::ZeroDuration(), look);
    loop_->Run();
    return held;
  }
  UniqueFd ListenAt(const std::string& path, int type) {
    UniqueFd server(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(bind(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(type == SOCK_STREAM ? listen(server.get(), 4) : 0, 0);
    return server;
  }
  std::string Receive(int fd) {
    char buffer[65536];
    const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    return size > 0 ? std::string(buffer, static_cast<size_t>(size)) : "";
  }
  TempDir dir_;
  std::unique_ptr<EventLoop> loop_;
};

TEST_F(LogForwardTest, PiecesOfALineAreNumberedByStream) {
  const UniqueFd server = ListenAt(dir_.path() + "/log", SOCK_DGRAM);
  ForwardOptions options = Options(Protocol::kJournald);
  options.address = "unixgram:" + dir_.path() + "/log";
  LogForward forward(loop_.get(), options);
  forward.Write(LogStream::kStdout, "a", false, kAt);
  forward.Write(LogStream::kStderr, "whole", true, kAt);
  forward.Write(LogStream::kStdout, "b", true, kAt);
  forward.Write(LogStream::kStdout, "c", false, kAt);
  const auto id = [](const std::string& message) {
    const size_t at = message.find("CONTAINER_PARTIAL_ID=");
    return at == std::string::npos ? "" : message.substr(at + 21, 64);
  };
  const std::string first = Receive(server.get());
  EXPECT_EQ(id(first).find_first_not_of("0123456789abcdef"), std::string::npos) << first;
  EXPECT_TRUE(absl::StrContains(first, "CONTAINER_PARTIAL_ORDINAL=1\n")) << first;
  EXPECT_EQ(id(Receive(server.get())), "");
  const std::string second = Receive(server.get());
  EXPECT_EQ(id(second), id(first));
  EXPECT_TRUE(absl::StrContains(second, "CONTAINER_PARTIAL_ORDINAL=2\n")) << second;
  EXPECT_TRUE(absl::StrContains(second, "CONTAINER_PARTIAL_LAST=true\n")) << second;
  const std::string other = Receive(server.get());
  EXPECT_NE(id(other), id(first));
  EXPECT_TRUE(absl::StrContains(other, "CONTAINER_PARTIAL_ORDINAL=1\n")) << other;
}

TEST_F(LogForwardTest, LinesReachADatagramSocketOneEach) {
  const UniqueFd server = ListenAt(dir_.path() + "/log", SOCK_DGRAM);
  ForwardOptions options = Options(Protocol::kSyslogLocal);
  options.address = "unixgram:" + dir_.path() + "/log";
  options.status_path = dir_.path() + "/status";
  {
    LogForward forward(loop_.get(), options);
    forward.Write(LogStream::kStdout, "one", true, kAt);
    forward.Write(LogStream::kStdout, "two", true, kAt);
    EXPECT_EQ(forward.delivered_lines(), 2u);
  }
  EXPECT_TRUE(absl::EndsWith(Receive(server.get()), ": one\n"));
  EXPECT_TRUE(absl::EndsWith(Receive(server.get()), ": two\n"));
  EXPECT_EQ(*ReadFile(dir_.path() + "/status", 4096),
            "delivered 2\ndropped 0\nwaiting 0\nproblem \n");
}

TEST_F(LogForwardTest, APeerThatIsGoneCostsABoundedBufferAndIsToldOf) {
  ForwardOptions options = Options(Protocol::kFluentd);
  options.address = "unix:" + dir_.path() + "/late";
  options.max_buffer_bytes = 1000;
  options.status_path = dir_.path() + "/status";
  LogForward forward(loop_.get(), options);
  const std::string text(80, 'x');
  for (int i = 0; i < 100; ++i) forward.Write(LogStream::kStdout, text, true, kAt);
  EXPECT_LE(forward.waiting_bytes(), 1000u);
  EXPECT_GT(forward.dropped_lines(), 80u);
  EXPECT_TRUE(absl::StrContains(forward.problem(), "No such file")) << forward.problem();
  const uint64_t kept = 100 - forward.dropped_lines();
  // It comes: what waited is delivered, whole.
  const UniqueFd server = ListenAt(dir_.path() + "/late", SOCK_STREAM);
  EXPECT_TRUE(RunUntil([&] { return forward.delivered_lines() == kept; }));
  const UniqueFd peer(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_TRUE(peer.valid());
  EXPECT_EQ(Receive(peer.get()).size(),
            kept * EncodeForwarded(options, LogStream::kStdout, text, {}, kAt).size());
  EXPECT_EQ(forward.problem(), "");
}

TEST_F(LogForwardTest, APeerThatReadsNothingHoldsNothingUp) {
  const UniqueFd server = ListenAt(dir_.path() + "/slow", SOCK_STREAM);
  ForwardOptions options = Options(Protocol::kFluentd);
  options.address = "unix:" + dir_.path() + "/slow";
  options.max_buffer_bytes = 10000;
  LogForward forward(loop_.get(), options);
  const std::string text(4000, 'x');
  for (int i = 0; i < 1000; ++i) forward.Write(LogStream::kStdout, text, true, kAt);
  EXPECT_GT(forward.dropped_lines(), 0u);
  EXPECT_LE(forward.waiting_bytes(), 10000u);
  // It reads again: every line that was not dropped arrives, none torn.
  const UniqueFd peer(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_TRUE(peer.valid());
  const size_t each = EncodeForwarded(options, LogStream::kStdout, text, {}, kAt).size();
  size_t received = 0;
  const size_t expected = (1000 - forward.dropped_lines()) * each;
  EXPECT_TRUE(RunUntil([&] {
    received += Receive(peer.get()).size();
    return received == expected;
  })) << received
      << " of " << expected;
}

TEST_F(LogForwardTest, AConnectionThatBreaksIsMadeAnew) {
  const UniqueFd server = ListenAt(dir_.path() + "/s", SOCK_STREAM);
  ForwardOptions options = Options(Protocol::kSyslogRfc3164);
  options.address = "unix:" + dir_.path() + "/s";
  LogForward forward(loop_.get(), options);
  forward.Write(LogStream::kStdout, "one", true, kAt);
  UniqueFd peer(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(absl::EndsWith(Receive(peer.get()), "one\n"));
  peer.reset();
  forward.Write(LogStream::kStdout, "two", true, kAt);
  EXPECT_NE(forward.problem(), "");
  EXPECT_TRUE(RunUntil([&] { return forward.delivered_lines() == 2; }));
  peer.reset(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(absl::EndsWith(Receive(peer.get()), "two\n"));
}

TEST_F(LogForwardTest, TcpAddressesAreConnectedWithoutWaiting) {
  const UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(server.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(server.get(), 1), 0);
  ASSERT_EQ(getsockname(server.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  ForwardOptions options = Options(Protocol::kFluentd);
  options.address = absl::StrCat("tcp:127.0.0.1:", ntohs(address.sin_port));
  LogForward forward(loop_.get(), options);
  forward.Write(LogStream::kStdout, "hi", true, kAt);
  EXPECT_TRUE(RunUntil([&] { return forward.delivered_lines() == 1; }));
}

TEST_F(LogForwardTest, WhatIsNoAddressIsAProblemAndNoMore) {
  for (const char* address : {"", "tcp:", "tcp:1.2.3.4", "tcp:x:1", "udp:1.2.3.4:99999", "unix:"}) {
    ForwardOptions options = Options(Protocol::kFluentd);
    options.address = address;
    LogForward forward(loop_.get(), options);
    forward.Write(LogStream::kStdout, "x", true, kAt);
    EXPECT_NE(forward.problem(), "") << address;
  }
}

}  // namespace
}  // namespace gantry::shim
