#include "supervisor/http/server.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::http {
namespace {

// Of a body that the handler did not read: so much is read and dropped to keep the connection.
constexpr int64_t kMostDropped = 64 << 10;
// A chunk of at most so many bytes is copied behind its header.
constexpr size_t kJoined = 64 << 10;
// How long a closed connection is read on.
constexpr absl::Duration kLinger = absl::Seconds(1);
// How long accept() is left alone when there is no descriptor for a connection.
constexpr absl::Duration kShortage = absl::Milliseconds(100);

absl::Duration Now() { return Clock::Real().Monotonic(); }

int PollTimeout(absl::Duration deadline) {
  if (deadline == absl::InfiniteDuration()) return -1;
  const int64_t left = absl::ToInt64Milliseconds(deadline - Now()) + 1;
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

absl::string_view Reason(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 416:
      return "Range Not Satisfiable";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Status";
  }
}

// A line end inside a value would begin another field.
std::string OneLine(absl::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c == '\r' || c == '\n' || c == '\0') c = ' ';
  }
  return out;
}

class Socket : public Transport {
 public:
  explicit Socket(UniqueFd fd) : fd_(std::move(fd)) {}

  absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration deadline) override {
    while (true) {
      const ssize_t got = recv(fd_.get(), buffer, size, 0);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return ErrnoToStatus(errno, "receive");
      GANTRY_RETURN_IF_ERROR(Wait(POLLIN, deadline));
    }
  }

  absl::Status Write(absl::string_view bytes, absl::Duration stall,
                     absl::Duration deadline) override {
    absl::Duration until = std::min(Now() + stall, deadline);
    while (!bytes.empty()) {
      if (Now() >= deadline) return absl::DeadlineExceededError("the response took too long");
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<size_t>(sent));
        until = std::min(Now() + stall, deadline);
        continue;
      }
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return ErrnoToStatus(errno, "send");
      GANTRY_RETURN_IF_ERROR(Wait(POLLOUT, until));
    }
    return absl::OkStatus();
  }

  // A socket that is closed while bytes wait in it sends a reset, which may overtake the response.
  // So what still comes is read and dropped, for a while.
  void Close() override {
    shutdown(fd_.get(), SHUT_WR);
    char dropped[4096];
    int64_t bytes = 0;
    const absl::Duration deadline = Now() + kLinger;
    while (bytes < kMostDropped) {
      const absl::StatusOr<size_t> got = Read(dropped, sizeof dropped, deadline);
      if (!got.ok() || *got == 0) return;
      bytes += static_cast<int64_t>(*got);
    }
  }
  void Break() override {
    absl::MutexLock lock(&release_);
    const UniqueFd& fd = released_.valid() ? released_ : fd_;
    if (fd.valid()) shutdown(fd.get(), SHUT_RDWR);
  }
  UniqueFd Release() override {
    absl::MutexLock lock(&release_);
    // A handler that goes on with the connection itself is ended by Break(), too.
    released_.reset(fcntl(fd_.get(), F_DUPFD_CLOEXEC, 3));
    return std::move(fd_);
  }
  int descriptor() const override { return fd_.get(); }

 private:
  absl::Status Wait(short events, absl::Duration deadline) const {
    pollfd one = {fd_.get(), events, 0};
    const int ready = poll(&one, 1, PollTimeout(deadline));
    if (ready < 0 && errno != EINTR) return ErrnoToStatus(errno, "poll");
    if (ready == 0 && Now() >= deadline)
      return absl::DeadlineExceededError("the client did not go on in time");
    return absl::OkStatus();
  }

  absl::Mutex release_;  // Break() comes from another thread
  UniqueFd fd_;
  UniqueFd released_;  // a second descriptor of the connection that was given away
};

class ServedExchange : public Exchange {
 public:
  ServedExchange(Transport& transport, RequestReader& reader, const Limits& limits,
                 RequestHead head, absl::Duration deadline, const std::atomic<bool>& stopping,
                 PeerWatch& peers)
      : transport_(transport),
        reader_(reader),
        limits_(limits),
        head_(std::move(head)),
        deadline_(deadline),
        stopping_(stopping),
        peers_(peers) {
    close_ = !head_.keep_alive;
  }

  const RequestHead& head() const override { return head_; }

  absl::StatusOr<size_t> ReadBody(char* buffer, size_t size) override {
    if (head_.expects_continue && head_.has_body && !begun_ && !std::exchange(continued_, true)) {
      GANTRY_RETURN_IF_ERROR(Send("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    absl::StatusOr<size_t> got = reader_.ReadBody(buffer, size);
    if (!got.ok()) close_ = true;
    return got;
  }

  absl::Status Respond(int status, const Fields& fields, absl::string_view body) override {
    GANTRY_RETURN_IF_ERROR(Begin(status, fields, body.size()));
    GANTRY_RETURN_IF_ERROR(Write(body));
    return End();
  }

  absl::Status Begin(int status, const Fields& fields, std::optional<uint64_t> length) override {
    begun_ = true;
    const bool bodyless = status < 200 || status == 204 || status == 304;
    bool framed = bodyless;
    // A body that the client has not sent yet, and now need not: what comes next cannot be told
    // apart.
    if (head_.expects_continue && head_.has_body && !continued_) close_ = true;
    std::string out = absl::StrCat("HTTP/1.1 ", status, " ", Reason(status), "\r\n");
    bool has_connection = false;
    for (const auto& [name, value] : fields) {
      framed |= absl::EqualsIgnoreCase(name, "content-length") ||
                absl::EqualsIgnoreCase(name, "transfer-encoding");
      has_connection |= absl::EqualsIgnoreCase(name, "connection");
      absl::StrAppend(&out, OneLine(name), ": ", OneLine(value), "\r\n");
    }
    if (!framed && length.has_value()) {
      absl::StrAppend(&out, "Content-Length: ", *length, "\r\n");
    } else if (!framed && head_.http_1_0) {
      close_ = true;
    } else if (!framed) {
      chunked_ = true;
      absl::StrAppend(&out, "Transfer-Encoding: chunked\r\n");
    }
    if (!has_connection && close_) absl::StrAppend(&out, "Connection: close\r\n");
    if (!has_connection && !close_ && head_.http_1_0)
      absl::StrAppend(&out, "Connection: keep-alive\r\n");
    no_body_ = bodyless || head_.method == "HEAD";
    absl::StrAppend(&out, "\r\n");
    return Send(out);
  }

  absl::Status Write(absl::string_view bytes) override {
    if (no_body_ || bytes.empty()) return absl::OkStatus();
    if (!chunked_) return Send(bytes);
    const std::string head = absl::StrCat(absl::Hex(bytes.size()), "\r\n");
    // One packet for what is small.
    if (bytes.size() <= kJoined) return Send(absl::StrCat(head, bytes, "\r\n"));
    GANTRY_RETURN_IF_ERROR(Send(head));
    GANTRY_RETURN_IF_ERROR(Send(bytes));
    return Send("\r\n");
  }

  absl::Status End() override {
    ended_ = true;
    if (!chunked_ || no_body_) return absl::OkStatus();
    return Send("0\r\n\r\n");
  }

  bool begun() const override { return begun_; }
  void CloseAfter() override { close_ = true; }
  bool stopping() const override { return stopping_; }

  absl::StatusOr<Hijacked> Hijack() override {
    Hijacked taken;
    taken.fd = transport_.Release();
    if (!taken.fd.valid()) return absl::UnimplementedError("this connection cannot be taken over");
    taken.read_already = reader_.TakeBuffered();
    hijacked_ = true;
    return taken;
  }

  PeerWatch::Watch OnGone(std::function<void()> gone) override {
    const int fd = transport_.descriptor();
    return fd < 0 ? PeerWatch::Watch() : peers_.Add(fd, std::move(gone));
  }

  Transport& transport() override { return transport_; }
  void AnsweredRaw() override {
    begun_ = true;
    ended_ = true;
  }

  // After the handler. True: the next request may come.
  bool Finish() {
    if (hijacked_) return false;
    if (!begun_ && !Respond(500, {}, "").ok()) return false;
    // Without its end the client cannot tell a complete response from one that was cut off.
    if (!ended_ || close_) return false;
    char dropped[4096];
    int64_t bytes = 0;
    while (!reader_.body_complete()) {
      const absl::StatusOr<size_t> got = reader_.ReadBody(dropped, sizeof dropped);
      if (!got.ok()) return false;
      bytes += static_cast<int64_t>(*got);
      if (bytes > kMostDropped) return false;
    }
    return true;
  }
  bool hijacked() const { return hijacked_; }

 private:
  absl::Status Send(absl::string_view bytes) {
    absl::Status sent = transport_.Write(bytes, limits_.stall_time, deadline_);
    if (!sent.ok()) close_ = true;
    return sent;
  }

  Transport& transport_;
  RequestReader& reader_;
  const Limits& limits_;
  const RequestHead head_;
  const absl::Duration deadline_;
  const std::atomic<bool>& stopping_;
  PeerWatch& peers_;
  bool close_ = false;
  bool begun_ = false;
  bool ended_ = false;
  bool continued_ = false;
  bool chunked_ = false;
  bool no_body_ = false;
  bool hijacked_ = false;
};

// 0: the connection is closed without a word.
int RefusalOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kResourceExhausted:
      return 431;
    case absl::StatusCode::kDeadlineExceeded:
      return 408;
    default:
      return 0;
  }
}

int PortOf(int fd) {
  sockaddr_storage bound = {};
  socklen_t size = sizeof bound;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  if (bound.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port);
  if (bound.ss_family == AF_INET)
    return ntohs(reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
  return 0;
}

void Signal(int wake) {
  const uint64_t one = 1;
  // An eventfd that is readable already needs no further write.
  if (write(wake, &one, sizeof one) < 0) errno = 0;
}

}  // namespace

std::unique_ptr<Transport> SocketTransport(UniqueFd socket) {
  return std::make_unique<Socket>(std::move(socket));
}

absl::StatusOr<std::string> Exchange::ReadAll(size_t most) {
  std::string body;
  char buffer[16 << 10];
  while (true) {
    GANTRY_ASSIGN_OR_RETURN(const size_t got, ReadBody(buffer, sizeof buffer));
    if (got == 0) return body;
    if (body.size() + got > most) {
      CloseAfter();
      return absl::ResourceExhaustedError(
          absl::StrCat("the request's body is larger than ", most, " bytes"));
    }
    body.append(buffer, got);
  }
}

absl::StatusOr<UniqueFd> ListenTcp(const std::string& address) {
  const absl::Status malformed = absl::InvalidArgumentError(
      absl::StrCat("address \"", address, "\": not HOST:PORT, as 127.0.0.1:9323 or [::]:9323"));
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return malformed;
  std::string host = address.substr(0, colon);
  const std::string port = address.substr(colon + 1);
  if (host.empty() || host == "localhost") host = "127.0.0.1";
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (port.empty() || getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0)
    return malformed;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> held(found, &freeaddrinfo);
  const std::string what = absl::StrCat("address ", address);
  UniqueFd fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoToStatus(errno, what);
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0) {
    if (errno == EADDRINUSE)
      return absl::UnavailableError(absl::StrCat(what, ": the address is in use"));
    return ErrnoToStatus(errno, absl::StrCat(what, ": bind"));
  }
  if (listen(fd.get(), 128) != 0) return ErrnoToStatus(errno, absl::StrCat(what, ": listen"));
  return fd;
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(UniqueFd listener, Options options,
                                                      Handler handler) {
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return ErrnoToStatus(errno, "HTTP server: eventfd");
  std::unique_ptr<Server> server(
      new Server(std::move(listener), std::move(wake), std::move(options), std::move(handler)));
  GANTRY_ASSIGN_OR_RETURN(server->acceptor_, NewThread([self = server.get()] { self->Accept(); }));
  return server;
}

Server::Server(UniqueFd listener, UniqueFd wake, Options options, Handler handler)
    : listener_(std::move(listener)),
      wake_(std::move(wake)),
      options_(std::move(options)),
      handler_(std::move(handler)),
      port_(PortOf(listener_.get())) {}

Server::~Server() {
  stopping_ = true;
  Signal(wake_.get());
  if (acceptor_.joinable()) acceptor_.join();
  {
    absl::MutexLock lock(&mutex_);
    for (Connection& one : connections_) {
      if (!one.done) one.transport->Break();
    }
  }
  while (true) {
    std::thread thread;
    {
      absl::MutexLock lock(&mutex_);
      if (connections_.empty()) return;
      thread = std::move(connections_.front().thread);
    }
    if (thread.joinable()) thread.join();
    absl::MutexLock lock(&mutex_);
    connections_.pop_front();
  }
}

size_t Server::Reap() {
  std::list<Connection> ended;
  size_t left = 0;
  {
    absl::MutexLock lock(&mutex_);
    for (auto one = connections_.begin(); one != connections_.end();) {
      const auto next = std::next(one);
      if (one->done) ended.splice(ended.end(), connections_, one);
      one = next;
    }
    left = connections_.size();
  }
  for (Connection& one : ended) {
    if (one.thread.joinable()) one.thread.join();
  }
  return left;
}

void Server::Accept() {
  pthread_setname_np(pthread_self(), options_.thread_name.c_str());
  absl::Duration retry_at = absl::ZeroDuration();
  while (!stopping_) {
    const bool shortage = Now() < retry_at;
    const bool room = Reap() < options_.limits.connections;
    pollfd waits[2] = {{wake_.get(), POLLIN, 0},
                       {listener_.get(), static_cast<short>(room && !shortage ? POLLIN : 0), 0}};
    const int timeout = PollTimeout(shortage ? retry_at : absl::InfiniteDuration());
    if (poll(waits, 2, timeout) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    uint64_t drained;
    if (waits[0].revents != 0 && read(wake_.get(), &drained, sizeof drained) < 0) errno = 0;
    if (waits[1].revents == 0 || stopping_) continue;
    UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      Add(std::move(socket));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      retry_at = Now() + kShortage;
    }
  }
}

void Server::Add(UniqueFd socket) {
  ++accepted_;
  std::unique_ptr<Transport> transport = options_.transport == nullptr
                                             ? SocketTransport(std::move(socket))
                                             : options_.transport(std::move(socket));
  absl::MutexLock lock(&mutex_);
  Connection& connection = connections_.emplace_back(std::move(transport));
  absl::StatusOr<std::thread> thread = NewThread([this, &connection] { Serve(connection); });
  // Without a thread the connection is closed: the client may try again.
  if (!thread.ok()) {
    connections_.pop_back();
    return;
  }
  connection.thread = *std::move(thread);
}

void Server::Serve(Connection& connection) {
  pthread_setname_np(pthread_self(), options_.thread_name.c_str());
  Transport& transport = *connection.transport;
  const Limits& limits = options_.limits;
  absl::Duration deadline = absl::InfiniteDuration();  // of the read at hand
  bool in_head = false, in_body = false;
  absl::Duration exchange_end = absl::InfiniteDuration();
  RequestReader reader(
      [&](char* buffer, size_t size) -> absl::StatusOr<size_t> {
        if (in_body) deadline = std::min(Now() + limits.stall_time, exchange_end);
        absl::StatusOr<size_t> got = transport.Read(buffer, size, deadline);
        if (got.ok() && !std::exchange(in_head, true)) deadline = Now() + limits.head_time;
        return got;
      },
      {limits.head_bytes, limits.body_bytes});

  bool open = transport.Handshake().ok();
  bool hijacked = false;
  while (open && !stopping_) {
    in_head = reader.has_buffered();
    in_body = false;
    deadline = Now() + (in_head ? limits.head_time : limits.idle_time);
    absl::StatusOr<RequestHead> head = reader.ReadHead();
    if (!head.ok()) {
      // A connection that was idle has nothing to be answered.
      const int status = in_head ? RefusalOf(head.status()) : 0;
      if (status != 0) {
        const std::string body = absl::StrCat(std::string(head.status().message()), "\n");
        // The connection ends next, whether the client takes this or not.
        transport
            .Write(absl::StrCat("HTTP/1.1 ", status, " ", Reason(status),
                                "\r\nContent-Type: text/plain\r\nContent-Length: ", body.size(),
                                "\r\nConnection: close\r\n\r\n", body),
                   limits.stall_time, absl::InfiniteDuration())
            .IgnoreError();
      }
      break;
    }
    in_body = true;
    exchange_end = Now() + limits.exchange_time;
    ServedExchange exchange(transport, reader, limits, *std::move(head), exchange_end, stopping_,
                            peers_);
    handler_(exchange);
    open = exchange.Finish();
    hijacked = exchange.hijacked();
  }
  hijacked ? transport.AwaitReleased() : transport.Close();
  absl::MutexLock lock(&mutex_);
  // From here on ~Server() does not touch the transport, and its descriptor is closed now.
  connection.done = true;
  connection.transport.reset();
  Signal(wake_.get());
}

}  // namespace gantry::http
