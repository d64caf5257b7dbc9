#include "supervisor/api/cri/forward_session.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/network/netns.h"

namespace gantry::api::cri {
namespace {

constexpr size_t kForwardedBytes = 32 << 10;
// Of one connection, for a program in the pod that does not read. Beyond, nothing more is read from
// the client, whose other connections wait then too.
constexpr size_t kMostUnsent = 1 << 20;

absl::StatusOr<UniqueFd> NewSocket(int netns, int family) {
  UniqueFd made;
  const auto make = [&]() -> absl::Status {
    made.reset(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return made.valid() ? absl::OkStatus() : ErrnoToStatus(errno, "socket");
  };
  // A socket stays in the namespace in which it was made, whoever uses it.
  GANTRY_RETURN_IF_ERROR(netns >= 0 ? network::InNetns(netns, make) : make());
  return made;
}

// 0, EINPROGRESS or why not.
int Connect(int fd, int family, uint16_t port) {
  if (family == AF_INET) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
  }
  sockaddr_in6 to = {};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  to.sin6_addr = in6addr_loopback;
  return connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
}

// One forwarded connection.
struct Forward {
  uint16_t port = 0;
  std::optional<uint32_t> data;  // channels
  std::optional<uint32_t> error;
  absl::Duration since = absl::ZeroDuration();

  UniqueFd socket;
  int family = AF_INET;
  bool connecting = false;
  std::string unsent;            // to the pod
  bool client_finished = false;  // shut the socket down once `unsent` is sent
  bool shut_down = false;
  bool pod_finished = false;
  bool ended = false;
  size_t polled = SIZE_MAX;  // its place among the descriptors that are waited for
};

class ForwardSession {
 public:
  ForwardSession(LinkConnection& connection, const std::string& pod_id, UniqueFd netns,
                 absl::Status netns_status)
      : connection_(connection),
        link_(connection.link()),
        pod_id_(pod_id),
        netns_(std::move(netns)),
        netns_status_(std::move(netns_status)) {}

  void Run(absl::Duration creation_time) {
    while (true) {
      const absl::Duration deadline = RefuseIncomplete(creation_time);
      std::vector<pollfd> waits = Waits();
      std::vector<LinkEvent> events;
      if (!connection_.Wait(HasRoom(), deadline, waits, events).ok()) return;
      for (LinkEvent& event : events) {
        if (event.kind == LinkEvent::Kind::kClosed) return;
        Handle(event);
      }
      for (Forward& one : forwards_) {
        if (one.polled < waits.size()) OnReady(one, waits[one.polled].revents);
      }
      forwards_.remove_if([](const Forward& one) { return one.ended; });
    }
  }

 private:
  bool HasRoom() const {
    return std::all_of(forwards_.begin(), forwards_.end(),
                       [](const Forward& one) { return one.unsent.size() < kMostUnsent; });
  }

  std::vector<pollfd> Waits() {
    std::vector<pollfd> waits;
    for (Forward& one : forwards_) {
      one.polled = SIZE_MAX;
      if (!one.socket.valid()) continue;
      short wanted = 0;
      if (one.connecting || !one.unsent.empty()) wanted |= POLLOUT;
      if (!one.connecting && !one.pod_finished && !connection_.full()) wanted |= POLLIN;
      if (wanted == 0) continue;  // a descriptor that is waited for with nothing reports hang-ups
      one.polled = waits.size();
      waits.push_back({one.socket.get(), wanted, 0});
    }
    return waits;
  }

  // The next moment at which a pair is to be refused.
  absl::Duration RefuseIncomplete(absl::Duration creation_time) {
    absl::Duration next = absl::InfiniteDuration();
    for (Forward& one : forwards_) {
      if (one.data.has_value() && one.error.has_value()) continue;
      if (one.since + creation_time > Clock::Real().Monotonic()) {
        next = std::min(next, one.since + creation_time);
        continue;
      }
      if (one.data.has_value()) link_.Refuse(*one.data);
      if (one.error.has_value()) link_.Refuse(*one.error);
      one.ended = true;
    }
    forwards_.remove_if([](const Forward& one) { return one.ended; });
    return next;
  }

  void Handle(LinkEvent& event) {
    if (event.kind == LinkEvent::Kind::kOpened) {
      Open(event);
      return;
    }
    for (Forward& one : forwards_) {
      if (one.ended) continue;
      if (one.error == event.channel && event.kind == LinkEvent::Kind::kReset) return;
      if (one.data != event.channel) continue;
      if (event.kind == LinkEvent::Kind::kReset) {
        End(one);
      } else if (event.kind == LinkEvent::Kind::kFinished) {
        one.client_finished = true;
        Send(one);
      } else if (!one.client_finished) {
        one.unsent += event.data;
        link_.Consumed(event.channel, event.data.size());
        Send(one);
      }
      return;
    }
  }

  void Open(const LinkEvent& event) {
    uint32_t port = 0;
    const bool is_data = event.role == "data";
    if ((!is_data && event.role != "error") || !absl::SimpleAtoi(event.port, &port) || port == 0 ||
        port > 65535) {
      link_.Refuse(event.channel);
      return;
    }
    // Old clients give no id; their data channel is the one behind its error channel.
    const std::string key = !event.request_id.empty() ? event.request_id
                            : is_data                 ? absl::StrCat("#", event.channel - 2)
                                                      : absl::StrCat("#", event.channel);
    auto found = keys_.find(key);
    if (found == keys_.end()) {
      forwards_.emplace_back();
      forwards_.back().port = static_cast<uint16_t>(port);
      forwards_.back().since = Clock::Real().Monotonic();
      found = keys_.emplace(key, &forwards_.back()).first;
    }
    Forward& one = *found->second;
    std::optional<uint32_t>& channel = is_data ? one.data : one.error;
    if (channel.has_value() || one.port != port) {
      link_.Refuse(event.channel);
      return;
    }
    channel = event.channel;
    link_.Accept(event.channel);
    if (!one.data.has_value() || !one.error.has_value()) return;
    keys_.erase(found);
    Dial(one, AF_INET);
  }

  void Dial(Forward& one, int family) {
    if (!netns_status_.ok()) {
      Fail(one, std::string(netns_status_.message()));
      return;
    }
    absl::StatusOr<UniqueFd> socket = NewSocket(netns_.valid() ? netns_.get() : -1, family);
    if (!socket.ok()) {
      Fail(one, std::string(socket.status().message()));
      return;
    }
    one.socket = *std::move(socket);
    one.family = family;
    const int error = Connect(one.socket.get(), family, one.port);
    one.connecting = error == EINPROGRESS;
    if (error != 0 && !one.connecting) Refused(one, error);
    if (error == 0) Send(one);
  }

  void Refused(Forward& one, int error) {
    one.connecting = false;
    one.socket.reset();
    if (one.family == AF_INET) {
      Dial(one, AF_INET6);
      return;
    }
    // Without IPv6 the first address's error is the one that helps.
    const int shown = error == EADDRNOTAVAIL || error == EAFNOSUPPORT || error == ENETUNREACH
                          ? ECONNREFUSED
                          : error;
    Fail(one, absl::StrCat("connect to port ", one.port, " inside: ",
                           std::string(ErrnoToStatus(shown, "127.0.0.1 and ::1").message())));
  }

  void OnReady(Forward& one, short ready) {
    if (one.ended || ready == 0) return;
    if (one.connecting) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(one.socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) {
        Refused(one, error);
        return;
      }
      one.connecting = false;
    }
    Send(one);
    if (!one.ended && (ready & (POLLIN | POLLHUP | POLLERR)) != 0) Receive(one);
  }

  void Send(Forward& one) {
    if (one.connecting || !one.socket.valid()) return;
    size_t done = 0;
    while (done < one.unsent.size()) {
      const ssize_t sent =
          send(one.socket.get(), one.unsent.data() + done, one.unsent.size() - done, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) {
        // The program does not take more. What it has written is still read.
        one.unsent.clear();
        done = 0;
        one.client_finished = true;
        break;
      }
      done += static_cast<size_t>(sent);
    }
    one.unsent.erase(0, done);
    if (one.unsent.empty() && one.client_finished && !std::exchange(one.shut_down, true)) {
      shutdown(one.socket.get(), SHUT_WR);
      if (one.pod_finished) End(one);
    }
  }

  void Receive(Forward& one) {
    if (one.pod_finished) return;
    char buffer[kForwardedBytes];
    const ssize_t got = recv(one.socket.get(), buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0) {
      link_.Send(*one.data, absl::string_view(buffer, static_cast<size_t>(got)));
      return;
    }
    if (got < 0) {
      Fail(one, std::string(ErrnoToStatus(errno, "connection inside").message()));
      return;
    }
    one.pod_finished = true;
    link_.Finish(*one.data);
    // The client closes its side when it likes; what it sends until then still goes to the pod.
    if (one.shut_down || !link_.has_half_close()) End(one);
  }

  void Fail(Forward& one, const std::string& why) {
    link_.Send(*one.error,
               absl::StrCat("error forwarding port ", one.port, " to pod ", pod_id_, ": ", why));
    End(one);
  }

  void End(Forward& one) {
    one.ended = true;
    one.socket.reset();
    link_.Finish(*one.error);
    link_.Finish(*one.data);
  }

  LinkConnection& connection_;
  StreamLink& link_;
  const std::string pod_id_;
  const UniqueFd netns_;
  const absl::Status netns_status_;
  std::list<Forward> forwards_;           // pointers to them stay valid
  std::map<std::string, Forward*> keys_;  // pairs that are not complete
};

}  // namespace

void ServeForwards(LinkConnection& connection, const std::string& pod_id,
                   absl::Duration creation_time,
                   const std::function<absl::StatusOr<UniqueFd>(const std::string&)>& netns) {
  absl::StatusOr<UniqueFd> opened = netns(pod_id);
  absl::Status status = opened.status();
  ForwardSession(connection, pod_id, opened.ok() ? *std::move(opened) : UniqueFd(),
                 std::move(status))
      .Run(creation_time);
}

}  // namespace gantry::api::cri
