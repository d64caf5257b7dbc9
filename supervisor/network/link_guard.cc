#include "supervisor/network/link_guard.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

// Deletions of devices, and not of their ports in bridges, which are told under a family of their
// own. Of a message's fields the kernel's filter reads bytes in the network's order.
constexpr sock_filter kDeletions[] = {
    {BPF_LD | BPF_H | BPF_ABS, 0, 0, offsetof(nlmsghdr, nlmsg_type)},
    {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, __builtin_bswap16(RTM_DELLINK)},
    {BPF_LD | BPF_B | BPF_ABS, 0, 0, NLMSG_HDRLEN + offsetof(ifinfomsg, ifi_family)},
    {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, AF_UNSPEC},
    {BPF_RET | BPF_K, 0, 0, 0xffffffff},
    {BPF_RET | BPF_K, 0, 0, 0},
};

std::string NameIn(nlmsghdr* message) {
  if (message->nlmsg_type != RTM_DELLINK || message->nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg)))
    return "";
  auto* const info = static_cast<ifinfomsg*>(NLMSG_DATA(message));
  int left = static_cast<int>(message->nlmsg_len - NLMSG_LENGTH(sizeof *info));
  for (rtattr* one = IFLA_RTA(info); RTA_OK(one, left); one = RTA_NEXT(one, left)) {
    if (one->rta_type != IFLA_IFNAME) continue;
    const char* const name = static_cast<const char*>(RTA_DATA(one));
    return {name, strnlen(name, RTA_PAYLOAD(one))};
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<LinkGuard>> LinkGuard::Start(Deleted deleted) {
  UniqueFd events(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  sock_fprog program = {sizeof kDeletions / sizeof kDeletions[0],
                        const_cast<sock_filter*>(kDeletions)};
  if (!events.valid() || !stop.valid() ||
      setsockopt(events.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0 ||
      bind(events.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return ErrnoToStatus(errno, "watching network devices");
  std::unique_ptr<LinkGuard> guard(
      new LinkGuard(std::move(events), std::move(stop), std::move(deleted)));
  GANTRY_ASSIGN_OR_RETURN(guard->thread_, NewThread([raw = guard.get()] { raw->Loop(); }));
  return guard;
}

absl::StatusOr<std::unique_ptr<LinkGuard>> LinkGuard::StartIn(int netns, Deleted deleted) {
  absl::StatusOr<std::unique_ptr<LinkGuard>> made;
  GANTRY_RETURN_IF_ERROR(InNetns(netns, [&] {
    made = Start(std::move(deleted));
    return made.status();
  }));
  return made;
}

LinkGuard::~LinkGuard() {
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

void LinkGuard::Loop() {
  pthread_setname_np(pthread_self(), "link-guard");
  pollfd fds[] = {{stop_.get(), POLLIN, 0}, {events_.get(), POLLIN, 0}};
  while (true) {
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (fds[0].revents != 0) return;
    if (fds[1].revents != 0) Read();
  }
}

void LinkGuard::Read() {
  alignas(nlmsghdr) char buffer[16 * 1024];
  while (true) {
    const ssize_t got = recv(events_.get(), buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) {
      deleted_("");
      continue;
    }
    if (got <= 0) return;
    auto left = static_cast<unsigned>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      const std::string name = NameIn(message);
      if (!name.empty()) deleted_(name);
    }
  }
}

}  // namespace gantry::network
