// How many name queries a container's resolver answers, and how fast.
//
//   dns_load PID NAME SECONDS [UNDER_WAY]
//
// Asks 127.0.0.11 in the network namespace of the process, with so many queries under way at a
// time, and prints one line: answers a second, and the time that half and 99 of 100 took.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "shim/dns_testing.h"

namespace {

int64_t Nanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: dns_load PID NAME SECONDS [UNDER_WAY]\n");
    return 2;
  }
  const std::string netns = std::string("/proc/") + argv[1] + "/ns/net";
  const int fd = open(netns.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) Fail(netns.c_str());
  const int seconds = std::atoi(argv[3]);
  const int under_way = argc > 4 ? std::atoi(argv[4]) : 8;

  // A socket for each, as programs have.
  std::vector<pollfd> sockets;
  std::vector<int64_t> asked_at(static_cast<size_t>(under_way));
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(53);
  to.sin_addr.s_addr = htonl(0x7f00000b);
  for (int i = 0; i < under_way; ++i) {
    const int one = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connect(one, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) Fail("connect");
    sockets.push_back({one, POLLIN, 0});
  }
  const std::string query = gantry::shim::QueryMessage(7, argv[2], 1);
  const auto ask = [&](size_t i) {
    asked_at[i] = Nanos();
    if (send(sockets[i].fd, query.data(), query.size(), 0) < 0) Fail("send");
  };
  const int64_t start = Nanos();
  const int64_t end = start + static_cast<int64_t>(seconds) * 1'000'000'000;
  std::vector<int64_t> took;
  uint64_t lost = 0;
  uint64_t wrong = 0;
  for (size_t i = 0; i < sockets.size(); ++i) ask(i);
  while (Nanos() < end) {
    if (poll(sockets.data(), sockets.size(), 1000) == 0) {
      for (size_t i = 0; i < sockets.size(); ++i) ask(i);
      lost += sockets.size();
      continue;
    }
    for (size_t i = 0; i < sockets.size(); ++i) {
      if ((sockets[i].revents & POLLIN) == 0) continue;
      char buffer[512];
      const ssize_t got = recv(sockets[i].fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got < 12) continue;
      took.push_back(Nanos() - asked_at[i]);
      if (gantry::shim::CodeOf({buffer, static_cast<size_t>(got)}) != 0) ++wrong;
      ask(i);
    }
  }
  if (took.empty()) {
    std::fprintf(stderr, "dns_load: no answers\n");
    return 1;
  }
  std::sort(took.begin(), took.end());
  std::printf("%.0f answers/s, half within %.0f us, 99%% within %.0f us, %llu lost, %llu wrong\n",
              static_cast<double>(took.size()) * 1e9 / static_cast<double>(Nanos() - start),
              static_cast<double>(took[took.size() / 2]) / 1e3,
              static_cast<double>(took[took.size() * 99 / 100]) / 1e3,
              static_cast<unsigned long long>(lost), static_cast<unsigned long long>(wrong));
  return 0;
}
