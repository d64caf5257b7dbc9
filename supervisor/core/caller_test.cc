#include "supervisor/core/caller.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::core {
namespace {

// A connection to a server on the loopback address; what the server accepted.
UniqueFd AcceptedOverTcp(int family, UniqueFd& client) {
  const UniqueFd server(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address = {};
  socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  address.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else {
    reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
  }
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  if (bind(server.get(), raw, size) != 0 || listen(server.get(), 1) != 0 ||
      getsockname(server.get(), raw, &size) != 0)
    return UniqueFd();
  client = UniqueFd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(client.get(), raw, size) != 0) return UniqueFd();
  return UniqueFd(accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

// The port that this end of a connection has.
int PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                            : reinterpret_cast<sockaddr_in6&>(address).sin6_port);
}

TEST(CallerTest, OfAUnixSocketItIsTheProcessAtTheOtherEnd) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  Caller caller = CallerOfSocket(one.get(), "Docker");
  EXPECT_STREQ(caller.door, "Docker");
  EXPECT_EQ(caller.pid, getpid());
  EXPECT_EQ(caller.uid, geteuid());
  EXPECT_EQ(caller.address, "");
  EXPECT_EQ(caller.program, "");
  FindProgram(caller);
  char own[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", own, sizeof own - 1), 0);
  EXPECT_EQ(caller.program, own);
}

TEST(CallerTest, OfTheNetworkItIsTheClientsAddress) {
  UniqueFd client;
  const UniqueFd accepted = AcceptedOverTcp(AF_INET, client);
  ASSERT_TRUE(accepted.valid());
  const Caller caller = CallerOfSocket(accepted.get(), "Docker");
  EXPECT_EQ(caller.address, absl::StrCat("127.0.0.1:", PortOf(client.get())));
  EXPECT_EQ(caller.pid, 0);
}

TEST(CallerTest, AnIpv6AddressIsInBrackets) {
  UniqueFd client;
  const UniqueFd accepted = AcceptedOverTcp(AF_INET6, client);
  if (!accepted.valid()) GTEST_SKIP() << "there is no IPv6 here";
  EXPECT_EQ(CallerOfSocket(accepted.get(), "Docker").address,
            absl::StrCat("[::1]:", PortOf(client.get())));
}

TEST(CallerTest, WhatIsNotConnectedIsTheDoorAlone) {
  for (const int fd : {-1, STDIN_FILENO}) {
    const Caller caller = CallerOfSocket(fd, "CRI");
    EXPECT_STREQ(caller.door, "CRI");
    EXPECT_EQ(caller.address, "");
  }
  const UniqueFd lonely(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(CallerOfSocket(lonely.get(), "CRI").pid, 0);
}

TEST(CallerTest, GrpcsNameOfAPeerIsADescriptor) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  EXPECT_EQ(CallerOfPeer(absl::StrCat("fd:", one.get()), "gantry").pid, getpid());
  for (const char* peer : {"unix:", "ipv4:192.0.2.1:7", "fd:", "fd:x", ""}) {
    const Caller caller = CallerOfPeer(peer, "gantry");
    EXPECT_STREQ(caller.door, "gantry") << peer;
    EXPECT_EQ(caller.pid, 0) << peer;
  }
}

TEST(CallerTest, AProgramWhosePathIsNoTextCanBeRecorded) {
  TempDir dir;
  const std::string program = dir.Join("caf\xe9");
  std::filesystem::copy_file("/bin/sleep", program);
  Command command;
  command.argv = {program, "600"};
  absl::StatusOr<Process> process = Spawn(command);
  ASSERT_TRUE(process.ok()) << process.status();
  Caller caller;
  caller.pid = process->pid();
  FindProgram(caller);
  EXPECT_EQ(caller.program, dir.Join("caf\xef\xbf\xbd"));
}

TEST(CallerTest, AProcessThatHasEndedHasNoProgram) {
  Caller caller;
  caller.pid = 0;
  FindProgram(caller);
  EXPECT_EQ(caller.program, "");
  caller.pid = 0x3fffffff;  // above every process's
  FindProgram(caller);
  EXPECT_EQ(caller.program, "");
}

}  // namespace
}  // namespace gantry::core
