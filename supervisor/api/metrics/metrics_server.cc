#include "supervisor/api/metrics/metrics_server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::api {
namespace {

absl::Duration Now() { return Clock::Real().Monotonic(); }

absl::StatusOr<UniqueFd> Listen(const std::string& address) {
  const absl::Status malformed = absl::InvalidArgumentError(absl::StrCat(
      "metrics address \"", address, "\": HOST:PORT is wanted, as in 127.0.0.1:9323 or [::]:9323"));
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return malformed;
  std::string host = address.substr(0, colon);
  const std::string port = address.substr(colon + 1);
  if (host.empty() || host == "localhost") host = "127.0.0.1";
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  struct addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  struct addrinfo* found = nullptr;
  if (port.empty() || getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0)
    return malformed;
  const std::unique_ptr<struct addrinfo, decltype(&freeaddrinfo)> held(found, &freeaddrinfo);
  const std::string what = absl::StrCat("metrics address ", address);
  UniqueFd fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoToStatus(errno, what);
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0) {
    if (errno == EADDRINUSE) {
      return absl::UnavailableError(
          absl::StrCat(what, ": somebody listens there already; choose another --metrics-address"));
    }
    return ErrnoToStatus(errno, absl::StrCat(what, ": bind"));
  }
  if (listen(fd.get(), static_cast<int>(MetricsServer::kConnections)) != 0)
    return ErrnoToStatus(errno, absl::StrCat(what, ": listen"));
  return fd;
}

int PortOf(int fd) {
  struct sockaddr_storage bound = {};
  socklen_t size = sizeof bound;
  if (getsockname(fd, reinterpret_cast<struct sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6
                   ? reinterpret_cast<const struct sockaddr_in6*>(&bound)->sin6_port
                   : reinterpret_cast<const struct sockaddr_in*>(&bound)->sin_port);
}

std::string Respond(absl::string_view status, absl::string_view type, absl::string_view body,
                    bool head_only = false, absl::string_view more = "") {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type,
                      "\r\nContent-Length: ", body.size(), "\r\nConnection: close\r\n", more,
                      "\r\n", head_only ? "" : body);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, std::function<std::string()> text) {
  GANTRY_ASSIGN_OR_RETURN(UniqueFd listener, Listen(address));
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return ErrnoToStatus(errno, "metrics: eventfd");
  const int port = PortOf(listener.get());
  std::unique_ptr<MetricsServer> server(
      new MetricsServer(std::move(listener), std::move(stop), port, std::move(text)));
  server->thread_ = std::thread([self = server.get()] { self->Serve(); });
  return server;
}

MetricsServer::MetricsServer(UniqueFd listener, UniqueFd stop, int port,
                             std::function<std::string()> text)
    : listener_(std::move(listener)), stop_(std::move(stop)), port_(port), text_(std::move(text)) {}

MetricsServer::~MetricsServer() {
  const uint64_t one = 1;
  // An eventfd that is already readable takes no harm from a write that fails.
  if (write(stop_.get(), &one, sizeof one) < 0) errno = 0;
  if (thread_.joinable()) thread_.join();
}

void MetricsServer::Serve() {
  pthread_setname_np(pthread_self(), "metrics");
  std::vector<Connection> connections;
  while (true) {
    std::vector<struct pollfd> waits = {{stop_.get(), POLLIN, 0}, {listener_.get(), 0, 0}};
    if (connections.size() < kConnections) waits[1].events = POLLIN;
    absl::Duration until = absl::InfiniteDuration();
    for (const Connection& one : connections) {
      waits.push_back({one.fd.get(), static_cast<short>(one.out.empty() ? POLLIN : POLLOUT), 0});
      until = std::min(until, one.until);
    }
    const absl::Duration left = until - Now();
    const int timeout =
        connections.empty()
            ? -1
            : static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(left) + 1));
    const int ready = poll(waits.data(), waits.size(), timeout);
    if (ready < 0 && errno != EINTR) return;
    if (waits[0].revents != 0) return;
    for (size_t i = connections.size(); i-- > 0;) {
      const bool over =
          Now() >= connections[i].until || (waits[i + 2].revents != 0 && !Advance(connections[i]));
      if (over) connections.erase(connections.begin() + static_cast<ptrdiff_t>(i));
    }
    if (waits[1].revents != 0) Accept(connections);
  }
}

void MetricsServer::Accept(std::vector<Connection>& connections) const {
  UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) return;  // gone again, or no descriptors left: the next poll tells
  Connection fresh;
  fresh.fd = std::move(fd);
  fresh.until = Now() + kDeadline;
  connections.push_back(std::move(fresh));
}

bool MetricsServer::Advance(Connection& connection) const {
  if (connection.out.empty()) {
    char buffer[2048];
    const ssize_t got = recv(connection.fd.get(), buffer, sizeof buffer, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    connection.in.append(buffer, static_cast<size_t>(got));
    const size_t end = connection.in.find("\r\n\r\n");
    if (end == std::string::npos && connection.in.size() <= kRequestBytes) return true;
    connection.out = end == std::string::npos || end > kRequestBytes
                         ? Respond("431 Request Header Fields Too Large", "text/plain",
                                   "the request is too long\n")
                         : Answer(absl::string_view(connection.in).substr(0, end));
    connection.until = Now() + kDeadline;
  }
  const ssize_t sent = send(connection.fd.get(), connection.out.data() + connection.sent,
                            connection.out.size() - connection.sent, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  connection.sent += static_cast<size_t>(sent);
  if (connection.sent < connection.out.size()) return true;
  shutdown(connection.fd.get(), SHUT_WR);
  return false;
}

std::string MetricsServer::Answer(absl::string_view request) const {
  const absl::string_view line = request.substr(0, request.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t second = first == absl::string_view::npos ? first : line.find(' ', first + 1);
  if (second == absl::string_view::npos || !absl::StartsWith(line.substr(second + 1), "HTTP/1."))
    return Respond("400 Bad Request", "text/plain", "this is no HTTP/1 request\n");
  const absl::string_view method = line.substr(0, first);
  absl::string_view path = line.substr(first + 1, second - first - 1);
  path = path.substr(0, path.find('?'));
  const bool head = method == "HEAD";
  if (method != "GET" && !head) {
    return Respond("405 Method Not Allowed", "text/plain", "GET it\n", false,
                   "Allow: GET, HEAD\r\n");
  }
  // The second is where containerd has them.
  if (path != "/metrics" && path != "/v1/metrics")
    return Respond("404 Not Found", "text/plain", "the metrics are at /metrics\n", head);
  return Respond("200 OK", "text/plain; version=0.0.4; charset=utf-8", text_(), head);
}

}  // namespace gantry::api
