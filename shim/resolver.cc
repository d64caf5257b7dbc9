#include "shim/resolver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "shim/dns_port_rules.h"
#include "shim/shim_log.h"

namespace gantry::shim {
namespace {

// Beyond the ports that the kernel gives to programs that ask for any.
constexpr uint16_t kFirstPort = 61000;
constexpr uint16_t kPorts = 65535 - kFirstPort + 1;
constexpr int kPortTries = 64;
// At one wake-up, so that the shim's other work has its turn.
constexpr size_t kUdpBatch = 16;
constexpr int kUdpBatches = 2;
constexpr size_t kUdpQueryBytes = 2048;
constexpr int kAnswersAtOnce = 16;
constexpr size_t kMaxPending = 16 * 1024;  // of answers to one connection
constexpr absl::Duration kConnectionPatience = absl::Seconds(10);
constexpr size_t kLengthBytes = 2;  // before each message over TCP

int64_t MonotonicNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// Does `work` on this thread inside another network namespace.
absl::Status Inside(int netns, int home, const std::function<absl::Status()>& work) {
  if (netns < 0) return work();
  if (setns(netns, CLONE_NEWNET) != 0)
    return ErrnoToStatus(errno, "enter the container's network namespace");
  absl::Status done = work();
  // A shim that stayed in the container's network would act there for the host from now on.
  if (setns(home, CLONE_NEWNET) != 0) abort();
  return done;
}

absl::StatusOr<UniqueFd> Bind(int type, uint16_t port) {
  UniqueFd fd(socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoToStatus(errno, "socket of the resolver");
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(kResolverAddress);
  address.sin_port = htons(port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return ErrnoToStatus(errno, "bind the resolver");
  return fd;
}

size_t LengthOf(absl::string_view prefix) {
  return static_cast<unsigned char>(prefix[0]) << 8 | static_cast<unsigned char>(prefix[1]);
}

std::string WithLength(absl::string_view message) {
  std::string out;
  out.reserve(kLengthBytes + message.size());
  out.push_back(static_cast<char>(message.size() >> 8));
  out.push_back(static_cast<char>(message.size() & 0xff));
  out.append(message.data(), message.size());
  return out;
}

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;
};
bool Fill(absl::string_view text, uint16_t port, SocketAddress& out) {
  const size_t zone = text.find('%');
  const auto address = network::NameAddress::Parse(text.substr(0, zone));
  if (!address.has_value()) return false;
  if (address->size == 4) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, address->bytes, 4);
    out.size = sizeof *v4;
    return true;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  std::memcpy(&v6->sin6_addr, address->bytes, 16);
  if (zone != absl::string_view::npos) {
    v6->sin6_scope_id = if_nametoindex(std::string(text.substr(zone + 1)).c_str());
    if (v6->sin6_scope_id == 0) return false;
  }
  out.size = sizeof *v6;
  return true;
}

}  // namespace

Resolver::Resolver(UniqueFd host_netns, UniqueFd netns, UniqueFd udp, UniqueFd tcp, uint16_t port,
                   std::string config_path)
    : host_netns_(std::move(host_netns)),
      netns_(std::move(netns)),
      udp_(std::move(udp)),
      listener_(std::move(tcp)),
      port_(port),
      names_(std::move(config_path)) {}

Resolver::~Resolver() {
  if (loop_ == nullptr) return;
  loop_->Unwatch(udp_.get());
  loop_->Unwatch(listener_.get());
  for (const auto& [fd, upstream] : upstreams_) loop_->Unwatch(fd);
  for (auto& [number, connection] : connections_) {
    loop_->Unwatch(connection.fd.get());
    loop_->CancelTimer(connection.timer);
  }
  loop_->CancelTimer(deadline_timer_);
}

absl::StatusOr<std::unique_ptr<Resolver>> Resolver::Open(const std::string& netns,
                                                         std::string config_path) {
  UniqueFd home;
  UniqueFd inside;
  if (!netns.empty()) {
    home.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!home.valid()) return ErrnoToStatus(errno, "the host's network namespace");
    inside.reset(open(netns.c_str(), O_RDONLY | O_CLOEXEC));
    if (!inside.valid()) return ErrnoToStatus(errno, netns);
  }
  UniqueFd udp;
  UniqueFd tcp;
  uint16_t port = 0;
  GANTRY_RETURN_IF_ERROR(Inside(inside.get(), home.get(), [&]() -> absl::Status {
    for (int i = 0; port == 0; ++i) {
      uint16_t random;
      if (getrandom(&random, sizeof random, 0) != sizeof random)
        return ErrnoToStatus(errno, "a random port");
      const auto candidate = static_cast<uint16_t>(kFirstPort + random % kPorts);
      absl::StatusOr<UniqueFd> datagrams = Bind(SOCK_DGRAM, candidate);
      absl::StatusOr<UniqueFd> streams = Bind(SOCK_STREAM, candidate);
      if (datagrams.ok() && streams.ok()) {
        udp = *std::move(datagrams);
        tcp = *std::move(streams);
        port = candidate;
      } else if (i == kPortTries) {
        return datagrams.ok() ? streams.status() : datagrams.status();
      }
    }
    if (listen(tcp.get(), kMaxConnections) != 0) return ErrnoToStatus(errno, "resolver: listen");
    return netns.empty() ? absl::OkStatus() : RedirectDnsPort(port);
  }));
  return std::unique_ptr<Resolver>(new Resolver(std::move(home), std::move(inside), std::move(udp),
                                                std::move(tcp), port, std::move(config_path)));
}

absl::Status Resolver::Start(EventLoop* loop) {
  loop_ = loop;
  GANTRY_RETURN_IF_ERROR(loop_->Watch(udp_.get(), EPOLLIN, [this](uint32_t) { OnUdp(); }));
  return loop_->Watch(listener_.get(), EPOLLIN, [this](uint32_t) { OnListener(); });
}

uint16_t Resolver::Random16() {
  if (random_.size() < 2) {
    random_.resize(256);
    // Cannot fail for so few bytes once the host is up.
    if (getrandom(random_.data(), random_.size(), 0) != static_cast<ssize_t>(random_.size()))
      abort();
  }
  uint16_t number;
  std::memcpy(&number, random_.data() + random_.size() - sizeof number, sizeof number);
  random_.resize(random_.size() - sizeof number);
  return number;
}

void Resolver::Shuffle(std::vector<network::NameAddress>& addresses) {
  for (size_t i = addresses.size(); i > 1; --i)
    std::swap(addresses[i - 1], addresses[Random16() % i]);
}

void Resolver::RefreshNames() {
  if (const absl::Status read = names_.Refresh(); !read.ok())
    ShimLog(LogLevel::kWarning, absl::StrCat("resolver: ", read.message()));
}

std::optional<std::string> Resolver::AnswerByItself(const DnsQuery& query, size_t limit) {
  const DnsQuestion& question = query.question;
  if (question.network_class != 1) return std::nullopt;
  if (question.type == DnsType::kPtr) {
    const std::optional<network::NameAddress> address = AddressOfReverseName(question.name);
    if (!address.has_value()) return std::nullopt;
    const std::string name = names_.NameOf(*address);
    if (name.empty()) return std::nullopt;
    return BuildPointerAnswer(query, name, limit);
  }
  NameLookup::Found found = names_.Find(question.name);
  const bool address_type = question.type == DnsType::kA || question.type == DnsType::kAaaa;
  if (!found.known) {
    if (!address_type || !names_.single_labels_stay() || question.name.empty() ||
        absl::StrContains(question.name, '.'))
      return std::nullopt;
  }
  const size_t size = question.type == DnsType::kA ? 4 : 16;
  std::erase_if(found.addresses,
                [&](const network::NameAddress& one) { return !address_type || one.size != size; });
  Shuffle(found.addresses);
  return BuildAnswer(query, DnsCode::kNoError, found.addresses, limit);
}

void Resolver::OnUdp() {
  RefreshNames();
  const absl::Span<char> scratch = loop_->scratch();
  static_assert(kUdpBatch * kUdpQueryBytes <= 32 * 1024);
  for (int batch = 0; batch < kUdpBatches; ++batch) {
    mmsghdr messages[kUdpBatch] = {};
    iovec pieces[kUdpBatch];
    sockaddr_in peers[kUdpBatch];
    for (size_t i = 0; i < kUdpBatch; ++i) {
      pieces[i] = {scratch.data() + i * kUdpQueryBytes, kUdpQueryBytes};
      messages[i].msg_hdr.msg_name = &peers[i];
      messages[i].msg_hdr.msg_namelen = sizeof peers[i];
      messages[i].msg_hdr.msg_iov = &pieces[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = recvmmsg(udp_.get(), messages, kUdpBatch, MSG_DONTWAIT, nullptr);
    if (count <= 0) return;
    std::string answers[kUdpBatch];
    mmsghdr out[kUdpBatch] = {};
    iovec out_pieces[kUdpBatch];
    unsigned answered = 0;
    for (int i = 0; i < count; ++i) {
      if ((messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) continue;
      const absl::string_view message(static_cast<const char*>(pieces[i].iov_base),
                                      messages[i].msg_len);
      DnsQuery query;
      std::string& answer = answers[answered];
      answer.clear();
      switch (ParseQuery(message, &query)) {
        case ParsedQuery::kIgnore:
          continue;
        case ParsedQuery::kMalformed:
          answer = BuildRefusal(message, DnsCode::kFormatError);
          break;
        case ParsedQuery::kUnknownOperation:
          answer = BuildRefusal(message, DnsCode::kNotImplemented);
          break;
        case ParsedQuery::kGood:
          if (std::optional<std::string> own = AnswerByItself(query, query.udp_bytes)) {
            answer = *std::move(own);
          } else if (!BeginForward(query, message, peers[i], 0)) {
            answer = BuildAnswer(query, DnsCode::kRefused, {}, query.udp_bytes);
          } else {
            continue;
          }
          break;
      }
      out_pieces[answered] = {answer.data(), answer.size()};
      out[answered].msg_hdr.msg_name = &peers[i];
      out[answered].msg_hdr.msg_namelen = sizeof peers[i];
      out[answered].msg_hdr.msg_iov = &out_pieces[answered];
      out[answered].msg_hdr.msg_iovlen = 1;
      ++answered;
    }
    // What one client does not take must not keep the answers behind it.
    for (unsigned sent = 0; sent < answered;) {
      const int done = sendmmsg(udp_.get(), out + sent, answered - sent, MSG_DONTWAIT);
      sent += done > 0 ? static_cast<unsigned>(done) : 1;
    }
    if (static_cast<size_t>(count) < kUdpBatch) return;
  }
}

void Resolver::OnListener() {
  UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) return;
  const uint64_t number = next_connection_++;
  Connection& connection = connections_[number];
  connection.fd = std::move(fd);
  const absl::Status watched =
      loop_->Watch(connection.fd.get(), EPOLLIN,
                   [this, number](uint32_t events) { OnConnection(number, events); });
  if (!watched.ok()) {
    connections_.erase(number);
    return;
  }
  ArmConnection(number);
  if (connections_.size() >= kMaxConnections) loop_->SetEvents(listener_.get(), 0);
}

void Resolver::ArmConnection(uint64_t number) {
  Connection& connection = connections_[number];
  loop_->CancelTimer(connection.timer);
  connection.timer = loop_->After(kConnectionPatience, [this, number] {
    const auto it = connections_.find(number);
    if (it == connections_.end()) return;
    it->second.timer = 0;
    // A forward has an end of its own.
    if (it->second.waiting) {
      ArmConnection(number);
    } else {
      CloseConnection(number);
    }
  });
}

void Resolver::CloseConnection(uint64_t number) {
  const auto it = connections_.find(number);
  if (it == connections_.end()) return;
  loop_->Unwatch(it->second.fd.get());
  loop_->CancelTimer(it->second.timer);
  connections_.erase(it);
  loop_->SetEvents(listener_.get(), EPOLLIN);
}

void Resolver::OnConnection(uint64_t number, uint32_t events) {
  const auto it = connections_.find(number);
  if (it == connections_.end()) return;
  Connection& connection = it->second;
  if ((events & EPOLLIN) != 0 && connection.out.empty() && !connection.waiting) {
    const absl::Span<char> scratch = loop_->scratch();
    const size_t room = kLengthBytes + kMaxQueryBytes - connection.in.size();
    const ssize_t got = recv(connection.fd.get(), scratch.data(), room, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return CloseConnection(number);
    if (got > 0) connection.in.append(scratch.data(), static_cast<size_t>(got));
    RefreshNames();
  } else if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    return CloseConnection(number);
  }
  TakeQueries(number);
}

void Resolver::TakeQueries(uint64_t number) {
  Connection& connection = connections_[number];
  while (!connection.waiting && connection.in.size() >= kLengthBytes) {
    const size_t size = LengthOf(connection.in);
    if (size > kMaxQueryBytes) return CloseConnection(number);
    if (connection.in.size() < kLengthBytes + size) break;
    // A client that does not take its answers gets no more of them.
    if (connection.out.size() >= kMaxPending && (!Flush(number) || !connection.out.empty())) return;
    const std::string message = connection.in.substr(kLengthBytes, size);
    connection.in.erase(0, kLengthBytes + size);
    ArmConnection(number);
    DnsQuery query;
    switch (ParseQuery(message, &query)) {
      case ParsedQuery::kIgnore:
        return CloseConnection(number);
      case ParsedQuery::kMalformed:
        connection.out += WithLength(BuildRefusal(message, DnsCode::kFormatError));
        break;
      case ParsedQuery::kUnknownOperation:
        connection.out += WithLength(BuildRefusal(message, DnsCode::kNotImplemented));
        break;
      case ParsedQuery::kGood:
        if (std::optional<std::string> own = AnswerByItself(query, kMaxDnsMessageBytes)) {
          connection.out += WithLength(*own);
        } else {
          // Answered at once when there is no server to ask.
          connection.waiting = true;
          if (!BeginForward(query, message, {}, number)) {
            connection.waiting = false;
            connection.out +=
                WithLength(BuildAnswer(query, DnsCode::kRefused, {}, kMaxDnsMessageBytes));
          }
        }
        break;
    }
  }
  Flush(number);
}

bool Resolver::Flush(uint64_t number) {
  Connection& connection = connections_[number];
  while (!connection.out.empty()) {
    const ssize_t sent = send(connection.fd.get(), connection.out.data(), connection.out.size(),
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) {
      CloseConnection(number);
      return false;
    }
    if (sent < 0) break;
    connection.out.erase(0, static_cast<size_t>(sent));
  }
  uint32_t events = EPOLLIN;
  if (!connection.out.empty()) {
    events = EPOLLOUT;
  } else if (connection.waiting) {
    events = 0;
  }
  loop_->SetEvents(connection.fd.get(), events);
  return true;
}

bool Resolver::BeginForward(const DnsQuery& query, absl::string_view message,
                            const sockaddr_in& peer, uint64_t connection) {
  if (forwards_.size() >= kMaxForwards) return false;
  const uint64_t number = next_forward_++;
  Forward& forward = forwards_[number];
  forward.query = std::string(message);
  forward.question_bytes = query.question_bytes.size();
  forward.peer = peer;
  forward.connection = connection;
  Ask(number);
  return true;
}

absl::StatusOr<UniqueFd> Resolver::Connect(const NameLookup::Server& server, int type) {
  UniqueFd fd;
  GANTRY_RETURN_IF_ERROR(
      Inside(server.of_host ? -1 : netns_.get(), host_netns_.get(), [&]() -> absl::Status {
        SocketAddress to;
        if (!Fill(server.address, server_port_, to))
          return absl::InvalidArgumentError(server.address);
        fd.reset(socket(to.storage.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!fd.valid()) return ErrnoToStatus(errno, "socket to a name server");
        // Of a datagram socket: takes a random port, and what others send is not for it.
        if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.storage), to.size) != 0 &&
            errno != EINPROGRESS)
          return ErrnoToStatus(errno, server.address);
        return absl::OkStatus();
      }));
  return fd;
}

bool Resolver::AskOverUdp(uint64_t number, Forward& forward, const NameLookup::Server& server) {
  std::vector<int> open;
  for (const auto& [fd, upstream] : upstreams_) {
    if (!upstream.tcp && upstream.server == server.address) open.push_back(fd);
  }
  int fd;
  if (open.size() < kMaxSockets) {
    absl::StatusOr<UniqueFd> made = Connect(server, SOCK_DGRAM);
    if (!made.ok()) return false;
    fd = made->get();
    if (!loop_->Watch(fd, EPOLLIN, [this, fd](uint32_t) { OnUpstreamUdp(fd); }).ok()) return false;
    Upstream& upstream = upstreams_[fd];
    upstream.fd = *std::move(made);
    upstream.server = server.address;
  } else {
    fd = open[Random16() % open.size()];
  }
  Upstream& upstream = upstreams_[fd];
  do {
    forward.id = Random16();
  } while (upstream.forwards.count(forward.id) > 0);
  upstream.forwards.emplace(forward.id, number);
  forward.socket = fd;
  std::string query = forward.query;
  SetId(forward.id, query.data());
  if (send(fd, query.data(), query.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
  LeaveUpstream(number, forward);
  return false;
}

bool Resolver::AskOverTcp(uint64_t number, Forward& forward, const NameLookup::Server& server) {
  absl::StatusOr<UniqueFd> made = Connect(server, SOCK_STREAM);
  if (!made.ok()) return false;
  const int fd = made->get();
  if (!loop_->Watch(fd, EPOLLOUT, [this, fd](uint32_t) { OnUpstreamTcp(fd); }).ok()) return false;
  Upstream& upstream = upstreams_[fd];
  upstream.fd = *std::move(made);
  upstream.server = server.address;
  upstream.tcp = true;
  forward.id = Random16();
  forward.socket = fd;
  upstream.forwards.emplace(forward.id, number);
  upstream.out = WithLength(forward.query);
  SetId(forward.id, upstream.out.data() + kLengthBytes);
  return true;
}

void Resolver::Ask(uint64_t number) {
  Forward& forward = forwards_[number];
  const std::vector<NameLookup::Server>& servers = names_.servers();
  for (; forward.server < servers.size(); ++forward.server) {
    const NameLookup::Server& server = servers[forward.server];
    const bool asked = forward.connection != 0 ? AskOverTcp(number, forward, server)
                                               : AskOverUdp(number, forward, server);
    if (!asked) continue;
    forward.deadline = MonotonicNanos() + absl::ToInt64Nanoseconds(patience_);
    deadlines_.emplace(forward.deadline, number);
    ArmDeadline();
    return;
  }
  AnswerFailure(number);
}

void Resolver::LeaveUpstream(uint64_t number, Forward& forward) {
  deadlines_.erase({forward.deadline, number});
  const auto it = upstreams_.find(forward.socket);
  forward.socket = -1;
  if (it == upstreams_.end()) return;
  it->second.forwards.erase(forward.id);
  if (!it->second.forwards.empty()) return;
  loop_->Unwatch(it->first);
  upstreams_.erase(it);
}

void Resolver::TryNext(uint64_t number) {
  Forward& forward = forwards_[number];
  LeaveUpstream(number, forward);
  ++forward.server;
  Ask(number);
}

void Resolver::UpstreamFailed(int fd) {
  std::vector<uint64_t> waiting;
  const auto it = upstreams_.find(fd);
  if (it == upstreams_.end()) return;
  for (const auto& [id, number] : it->second.forwards) waiting.push_back(number);
  for (const uint64_t number : waiting) TryNext(number);
}

void Resolver::TakeAnswer(int fd, char* message, size_t size) {
  const auto upstream = upstreams_.find(fd);
  if (upstream == upstreams_.end() || size < kLengthBytes) return;
  const auto id = static_cast<uint16_t>(LengthOf({message, kLengthBytes}));
  const auto it = upstream->second.forwards.find(id);
  if (it == upstream->second.forwards.end()) return;
  const uint64_t number = it->second;
  const Forward& forward = forwards_[number];
  const absl::string_view question =
      absl::string_view(forward.query).substr(12, forward.question_bytes);
  switch (CheckAnswer(id, question, {message, size})) {
    case AnswerCheck::kForeign:
      // Over UDP the true one may still come; over TCP nothing can follow.
      if (upstream->second.tcp) TryNext(number);
      return;
    case AnswerCheck::kServerFailed:
      return TryNext(number);
    case AnswerCheck::kGood:
      message[0] = forward.query[0];
      message[1] = forward.query[1];
      return Answer(number, {message, size});
  }
}

void Resolver::OnUpstreamUdp(int fd) {
  const absl::Span<char> scratch = loop_->scratch();
  for (int i = 0; i < kAnswersAtOnce && upstreams_.count(fd) > 0; ++i) {
    const ssize_t got = recv(fd, scratch.data(), scratch.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    // Nobody listens there.
    if (got < 0) return UpstreamFailed(fd);
    if (static_cast<size_t>(got) > scratch.size()) continue;
    TakeAnswer(fd, scratch.data(), static_cast<size_t>(got));
  }
}

void Resolver::OnUpstreamTcp(int fd) {
  Upstream& upstream = upstreams_[fd];
  if (!upstream.out.empty()) {
    const ssize_t sent =
        send(fd, upstream.out.data(), upstream.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (sent < 0) return UpstreamFailed(fd);
    upstream.out.erase(0, static_cast<size_t>(sent));
    if (upstream.out.empty()) loop_->SetEvents(fd, EPOLLIN);
    return;
  }
  const absl::Span<char> scratch = loop_->scratch();
  const ssize_t got = recv(fd, scratch.data(), scratch.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return UpstreamFailed(fd);
  upstream.in.append(scratch.data(), static_cast<size_t>(got));
  if (upstream.in.size() < kLengthBytes) return;
  const size_t size = LengthOf(upstream.in);
  if (upstream.in.size() < kLengthBytes + size) return;
  std::string message = upstream.in.substr(kLengthBytes, size);
  const std::map<uint16_t, uint64_t> waiting = upstream.forwards;
  TakeAnswer(fd, message.data(), message.size());
  // An answer to another question than ours.
  if (upstreams_.count(fd) > 0 && !waiting.empty() && upstreams_[fd].forwards == waiting)
    UpstreamFailed(fd);
}

void Resolver::Answer(uint64_t number, absl::string_view message) {
  const auto it = forwards_.find(number);
  Forward forward = std::move(it->second);
  forwards_.erase(it);
  LeaveUpstream(number, forward);
  if (forward.connection == 0) {
    DnsQuery query;
    std::string shorter;
    if (ParseQuery(forward.query, &query) == ParsedQuery::kGood &&
        message.size() > query.udp_bytes) {
      shorter = BuildTruncated(query);
      message = shorter;
    }
    [[maybe_unused]] const ssize_t sent =
        sendto(udp_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&forward.peer), sizeof forward.peer);
    return;
  }
  const auto connection = connections_.find(forward.connection);
  if (connection == connections_.end()) return;
  connection->second.waiting = false;
  connection->second.out += WithLength(message);
  // Not from here: it may be the connection's own query that is answered while it is taken.
  loop_->SetEvents(connection->second.fd.get(), EPOLLOUT);
}

void Resolver::AnswerFailure(uint64_t number) {
  const std::string message = forwards_[number].query;
  DnsQuery query;
  if (ParseQuery(message, &query) != ParsedQuery::kGood) return;
  Answer(number, BuildAnswer(query, DnsCode::kServerFailure, {}, kPlainUdpBytes));
}

void Resolver::ArmDeadline() {
  if (deadline_timer_ != 0 || deadlines_.empty()) return;
  const int64_t left = std::max<int64_t>(deadlines_.begin()->first - MonotonicNanos(), 0);
  deadline_timer_ = loop_->After(absl::Nanoseconds(left), [this] {
    deadline_timer_ = 0;
    OnDeadline();
  });
}

void Resolver::OnDeadline() {
  const int64_t now = MonotonicNanos();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now)
    TryNext(deadlines_.begin()->second);
  ArmDeadline();
}

}  // namespace gantry::shim
