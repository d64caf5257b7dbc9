#include "shim/port_forward.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "shim/shim_log.h"

namespace gantry::shim {
namespace {

// Per wake-up of the loop, which has the container's output to carry too.
constexpr int kBurst = 16;
constexpr absl::Duration kScarcePause = absl::Milliseconds(100);
constexpr absl::Duration kIdleCheck = absl::Seconds(10);

int64_t MonotonicNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

absl::StatusOr<UniqueFd> Listen(const ForwardedPort& port) {
  UniqueFd fd(socket(port.host.family(),
                     (port.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return absl::UnavailableError("the host has no IPv6");
  const int on = 1;
  if (!port.udp) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (port.host.family() == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
  }
  if (bind(fd.get(), port.host.get(), port.host.length) != 0 ||
      (!port.udp && listen(fd.get(), SOMAXCONN) != 0)) {
    if (errno == EADDRNOTAVAIL) {
      return absl::UnavailableError(
          absl::StrCat(port.host.ToString(), " is not an address of this host"));
    }
    if (errno == EADDRINUSE) {
      return absl::AlreadyExistsError(absl::StrCat("failed to bind host port ",
                                                   port.host.ToString(), port.udp ? "/udp" : "/tcp",
                                                   ": address already in use"));
    }
    return ErrnoToStatus(errno, absl::StrCat("binding ", port.host.ToString()));
  }
  return fd;
}

}  // namespace

absl::StatusOr<SocketAddress> SocketAddress::Parse(const std::string& address, uint16_t port) {
  SocketAddress made;
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&made.storage);
  auto* in = reinterpret_cast<sockaddr_in*>(&made.storage);
  if (inet_pton(AF_INET6, address.c_str(), &in6->sin6_addr) == 1) {
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    made.length = sizeof *in6;
  } else if (inet_pton(AF_INET, address.c_str(), &in->sin_addr) == 1) {
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    made.length = sizeof *in;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\" is not an address"));
  }
  return made;
}

std::string SocketAddress::ToString() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    return absl::StrCat("[", text, "]:", ntohs(in6->sin6_port));
  }
  const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
  inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
  return absl::StrCat(text, ":", ntohs(in->sin_port));
}

absl::StatusOr<std::vector<ForwardedPort>> ParseForwardedPorts(absl::string_view text) {
  std::vector<ForwardedPort> ports;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    uint32_t host_port = 0;
    uint32_t container_port = 0;
    if (words.size() != 6 || (words[0] != "tcp" && words[0] != "udp") ||
        !absl::SimpleAtoi(words[2], &host_port) || host_port > 65535 ||
        !absl::SimpleAtoi(words[4], &container_port) || container_port > 65535 ||
        (words[5] != "required" && words[5] != "if-possible"))
      return absl::InvalidArgumentError(absl::StrCat("\"", line, "\" is not a forwarded port"));
    ForwardedPort port;
    port.udp = words[0] == "udp";
    port.if_possible = words[5] == "if-possible";
    GANTRY_ASSIGN_OR_RETURN(port.host,
                            SocketAddress::Parse(words[1], static_cast<uint16_t>(host_port)));
    GANTRY_ASSIGN_OR_RETURN(port.container,
                            SocketAddress::Parse(words[3], static_cast<uint16_t>(container_port)));
    ports.push_back(std::move(port));
  }
  return ports;
}

absl::StatusOr<std::unique_ptr<PortForward>> PortForward::Open(
    const std::vector<ForwardedPort>& ports) {
  std::list<Listener> listeners;
  for (const ForwardedPort& port : ports) {
    absl::StatusOr<UniqueFd> fd = Listen(port);
    if (port.if_possible && absl::IsUnavailable(fd.status())) continue;
    GANTRY_RETURN_IF_ERROR(fd.status());
    listeners.push_back({*std::move(fd), port});
  }
  return std::unique_ptr<PortForward>(new PortForward(std::move(listeners)));
}

PortForward::~PortForward() {
  if (loop_ == nullptr) return;
  loop_->CancelTimer(idle_timer_);
  loop_->CancelTimer(accept_timer_);
  for (const Listener& listener : listeners_) loop_->Unwatch(listener.fd.get());
  for (const auto& [number, connection] : connections_) {
    loop_->Unwatch(connection.client.fd.get());
    loop_->Unwatch(connection.container.fd.get());
  }
  for (const auto& [number, flow] : flows_) loop_->Unwatch(flow.fd.get());
}

absl::Status PortForward::Start(EventLoop* loop) {
  loop_ = loop;
  for (Listener& listener : listeners_) GANTRY_RETURN_IF_ERROR(Watch(listener));
  return absl::OkStatus();
}

absl::Status PortForward::Watch(Listener& listener) {
  const uint32_t events = listener.port.udp || accepting_ ? uint32_t{EPOLLIN} : 0;
  return loop_->Watch(listener.fd.get(), events, [this, &listener](uint32_t) {
    if (listener.port.udp) {
      OnDatagrams(listener);
    } else {
      OnListener(listener);
    }
  });
}

absl::Status PortForward::Replace(const std::vector<ForwardedPort>& ports) {
  std::vector<ForwardedPort> fresh = ports;
  // What goes makes room first: [::1] and [::] of one port cannot be had side by side.
  for (auto it = listeners_.begin(); it != listeners_.end();) {
    const auto kept = std::find_if(fresh.begin(), fresh.end(), [&it](const ForwardedPort& one) {
      return one.udp == it->port.udp && one.host == it->port.host;
    });
    if (kept != fresh.end() && kept->container == it->port.container) {
      it->port = *kept;
      fresh.erase(kept);
      ++it;
      continue;
    }
    EndAll(*it);
    if (kept != fresh.end()) {
      it->port = *kept;
      fresh.erase(kept);
      ++it;
      continue;
    }
    loop_->Unwatch(it->fd.get());
    it = listeners_.erase(it);
  }
  absl::Status result;
  for (const ForwardedPort& port : fresh) {
    absl::StatusOr<UniqueFd> fd = Listen(port);
    if (port.if_possible && absl::IsUnavailable(fd.status())) continue;
    result.Update(fd.status());
    if (!fd.ok()) continue;
    listeners_.push_back({*std::move(fd), port});
    result.Update(Watch(listeners_.back()));
  }
  return result;
}

void PortForward::EndAll(const Listener& listener) {
  std::vector<uint64_t> ending;
  for (const auto& [number, connection] : connections_) {
    if (connection.listener == &listener) ending.push_back(number);
  }
  for (const uint64_t number : ending) Close(number);
  for (auto it = flow_numbers_.begin(); it != flow_numbers_.end();) {
    const auto flow = flows_.find(it->second);
    if (flow->second.listener != &listener) {
      ++it;
      continue;
    }
    loop_->Unwatch(flow->second.fd.get());
    flows_.erase(flow);
    it = flow_numbers_.erase(it);
  }
}

// --- TCP

void PortForward::Accepting(bool on) {
  if (accepting_ == on) return;
  accepting_ = on;
  for (const Listener& listener : listeners_) {
    if (!listener.port.udp) loop_->SetEvents(listener.fd.get(), on ? uint32_t{EPOLLIN} : 0);
  }
}

void PortForward::OnListener(Listener& listener) {
  for (int i = 0; i < kBurst; ++i) {
    if (connections_.size() >= kMaxConnections) return Accepting(false);
    Connection connection;
    connection.client.fd.reset(
        accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    const bool scarce = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
    if (!connection.client.fd.valid() && !scarce) return;
    if (connection.client.fd.valid()) {
      connection.container.fd.reset(
          socket(listener.port.container.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    }
    if (!connection.container.fd.valid()) {
      // Descriptors or memory are short: what waits in the kernel's queue is taken later.
      Accepting(false);
      accept_timer_ = loop_->After(kScarcePause, [this] { Accepting(true); });
      return;
    }
    const int on = 1;
    setsockopt(connection.client.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(connection.container.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const SocketAddress& to = listener.port.container;
    // Refused at once: the client's connection ends with this scope.
    if (connect(connection.container.fd.get(), to.get(), to.length) != 0 && errno != EINPROGRESS)
      continue;
    connection.listener = &listener;
    const uint64_t number = next_++;
    const int client = connection.client.fd.get();
    const int container = connection.container.fd.get();
    connections_.emplace(number, std::move(connection));
    absl::Status watched =
        loop_->Watch(client, 0, [this, number](uint32_t events) { OnSide(number, true, events); });
    watched.Update(loop_->Watch(
        container, EPOLLOUT, [this, number](uint32_t events) { OnSide(number, false, events); }));
    if (!watched.ok()) {
      ShimLog(LogLevel::kError, absl::StrCat("forwarding a connection: ", watched.message()));
      Close(number);
    }
  }
}

void PortForward::OnSide(uint64_t number, bool from_client, uint32_t events) {
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  Side& side = from_client ? connection.client : connection.container;
  Side& other = from_client ? connection.container : connection.client;
  if (connection.connecting) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(connection.container.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0 || (events & (EPOLLERR | EPOLLHUP)) != 0) return Close(number);
    if (from_client) return;
    connection.connecting = false;
    return Arm(connection);
  }
  if ((events & EPOLLOUT) != 0 && !Flush(side, other)) return Close(number);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !side.ended && other.pending.empty() &&
      !Read(side, other))
    return Close(number);
  if (side.ended && other.ended && side.pending.empty() && other.pending.empty())
    return Close(number);
  Arm(connection);
}

bool PortForward::Read(Side& from, Side& to) {
  const absl::Span<char> buffer = loop_->scratch();
  const ssize_t got = recv(from.fd.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) {
    from.ended = true;
    shutdown(to.fd.get(), SHUT_WR);
    return true;
  }
  ssize_t sent = send(to.fd.get(), buffer.data(), static_cast<size_t>(got), MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) return false;
    sent = 0;
  }
  to.pending.assign(buffer.data() + sent, static_cast<size_t>(got - sent));
  return true;
}

bool PortForward::Flush(Side& side, const Side& from) {
  if (side.pending.empty()) return true;
  const ssize_t sent = send(side.fd.get(), side.pending.data(), side.pending.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  side.pending.erase(0, static_cast<size_t>(sent));
  if (side.pending.empty()) {
    side.pending.shrink_to_fit();
    if (from.ended) shutdown(side.fd.get(), SHUT_WR);
  }
  return true;
}

void PortForward::Arm(Connection& connection) {
  const auto wanted = [](const Side& side, const Side& other) -> uint32_t {
    return (side.ended || !other.pending.empty() ? 0 : uint32_t{EPOLLIN}) |
           (side.pending.empty() ? 0 : uint32_t{EPOLLOUT});
  };
  loop_->SetEvents(connection.client.fd.get(), wanted(connection.client, connection.container));
  loop_->SetEvents(connection.container.fd.get(), wanted(connection.container, connection.client));
}

void PortForward::Close(uint64_t number) {
  const auto found = connections_.find(number);
  loop_->Unwatch(found->second.client.fd.get());
  loop_->Unwatch(found->second.container.fd.get());
  connections_.erase(found);
  Accepting(true);
}

// --- UDP

void PortForward::OnDatagrams(Listener& listener) {
  const absl::Span<char> buffer = loop_->scratch();
  for (int i = 0; i < kBurst; ++i) {
    SocketAddress client;
    iovec piece = {buffer.data(), buffer.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(in6_pktinfo))];
    msghdr message = {};
    message.msg_name = &client.storage;
    message.msg_namelen = sizeof client.storage;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(listener.fd.get(), &message, 0);
    // An earlier answer was refused by its client: no concern of the others.
    if (got < 0 && errno == ECONNREFUSED) continue;
    if (got < 0 || (message.msg_flags & MSG_TRUNC) != 0) return;
    client.length = message.msg_namelen;
    in6_pktinfo to = {};
    for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
         head = CMSG_NXTHDR(&message, head)) {
      if (head->cmsg_level == IPPROTO_IPV6 && head->cmsg_type == IPV6_PKTINFO)
        std::memcpy(&to, CMSG_DATA(head), sizeof to);
    }
    const std::string key = absl::StrCat(
        listener.fd.get(), "/",
        absl::string_view(reinterpret_cast<const char*>(&client.storage), client.length),
        absl::string_view(reinterpret_cast<const char*>(&to.ipi6_addr), 16));
    auto known = flow_numbers_.find(key);
    if (known == flow_numbers_.end()) {
      if (flows_.size() >= kMaxFlows) continue;
      Flow flow;
      flow.fd.reset(
          socket(listener.port.container.family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!flow.fd.valid() || connect(flow.fd.get(), listener.port.container.get(),
                                      listener.port.container.length) != 0)
        continue;
      flow.listener = &listener;
      flow.client = client;
      flow.to = to;
      const uint64_t number = next_++;
      if (!loop_->Watch(flow.fd.get(), EPOLLIN, [this, number](uint32_t) { OnFlow(number); }).ok())
        continue;
      flows_.emplace(number, std::move(flow));
      known = flow_numbers_.emplace(key, number).first;
      if (idle_timer_ == 0) idle_timer_ = loop_->After(kIdleCheck, [this] { EndIdleFlows(); });
    }
    Flow& flow = flows_.at(known->second);
    flow.last = MonotonicNanos();
    // A datagram that cannot be passed on is lost, as on any network.
    (void)send(flow.fd.get(), buffer.data(), static_cast<size_t>(got), MSG_NOSIGNAL);
  }
}

void PortForward::OnFlow(uint64_t number) {
  const auto found = flows_.find(number);
  if (found == flows_.end()) return;
  Flow& flow = found->second;
  const absl::Span<char> buffer = loop_->scratch();
  for (int i = 0; i < kBurst; ++i) {
    const ssize_t got = recv(flow.fd.get(), buffer.data(), buffer.size(), MSG_TRUNC);
    if (got < 0 && errno == ECONNREFUSED) continue;
    if (got < 0 || static_cast<size_t>(got) > buffer.size()) return;
    flow.last = MonotonicNanos();
    iovec piece = {buffer.data(), static_cast<size_t>(got)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(in6_pktinfo))] = {};
    msghdr message = {};
    message.msg_name = &flow.client.storage;
    message.msg_namelen = flow.client.length;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (flow.client.family() == AF_INET6) {
      // From the address that the client sent to, whichever of the host's that is.
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = IPPROTO_IPV6;
      head->cmsg_type = IPV6_PKTINFO;
      head->cmsg_len = CMSG_LEN(sizeof flow.to);
      std::memcpy(CMSG_DATA(head), &flow.to, sizeof flow.to);
    }
    // As above.
    (void)sendmsg(flow.listener->fd.get(), &message, MSG_NOSIGNAL);
  }
}

void PortForward::EndIdleFlows() {
  idle_timer_ = 0;
  const int64_t oldest = MonotonicNanos() - absl::ToInt64Nanoseconds(kFlowLife);
  for (auto it = flow_numbers_.begin(); it != flow_numbers_.end();) {
    const auto flow = flows_.find(it->second);
    if (flow->second.last > oldest) {
      ++it;
      continue;
    }
    loop_->Unwatch(flow->second.fd.get());
    flows_.erase(flow);
    it = flow_numbers_.erase(it);
  }
  if (!flows_.empty()) idle_timer_ = loop_->After(kIdleCheck, [this] { EndIdleFlows(); });
}

}  // namespace gantry::shim
