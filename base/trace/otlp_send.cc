// SendSpans() of otlp.h: one HTTP request, plain or within TLS.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/trace/otlp.h"
#include "base/trace/otlp_body.h"
#include "base/unique_fd.h"

namespace gantry::trace {
namespace {

// False: not before `deadline`, or `stop` became readable.
bool Ready(int fd, short events, absl::Time deadline, int stop) {
  while (true) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left <= 0) return false;
    pollfd both[2] = {{fd, events, 0}, {stop, POLLIN, 0}};
    const int n = poll(both, 2, static_cast<int>(std::min<int64_t>(left, 60000)));
    if (n > 0) return both[1].revents == 0;
    if (n < 0 && errno != EINTR) return false;
  }
}

absl::StatusOr<UniqueFd> Dial(const OtlpTarget& target, absl::Time deadline, int stop) {
  const std::string what = absl::StrCat("collector ", target.host, ":", target.port);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &found);
      error != 0) {
    return absl::UnavailableError(absl::StrCat(what, ": ", gai_strerror(error)));
  }
  const absl::Cleanup freed = [found] { freeaddrinfo(found); };
  absl::Status last = absl::UnavailableError(absl::StrCat(what, ": no address"));
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    UniqueFd fd(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return ErrnoToStatus(errno, what);
    if (connect(fd.get(), one->ai_addr, one->ai_addrlen) == 0) return fd;
    if (errno == EINPROGRESS) {
      if (!Ready(fd.get(), POLLOUT, deadline, stop))
        return absl::DeadlineExceededError(absl::StrCat(what, ": no answer"));
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error == 0) return fd;
      errno = error;
    }
    last = ErrnoToStatus(errno, what);
  }
  return last;
}

// Keeps SIGPIPE from this thread: OpenSSL writes to sockets without asking for none.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    const timespec now = {};
    while (!was_pending_ && sigtimedwait(&pipe_, nullptr, &now) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_;
};

std::string TlsError() {
  char text[256] = "no reason given";
  if (const unsigned long code = ERR_get_error(); code != 0)
    ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return text;
}

// Bytes to the collector and back, each call bounded by the deadline.
class Connection {
 public:
  Connection(std::string what, UniqueFd fd, absl::Time deadline, int stop)
      : what_(std::move(what)), fd_(std::move(fd)), deadline_(deadline), stop_(stop) {}

  // The certificate has to be the host's, of an authority that the target's file or the system
  // names.
  absl::Status StartTls(const OtlpTarget& target) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    if (context_ == nullptr) return Failed("TLS");
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    if (target.ca_file.empty()) {
      SSL_CTX_set_default_verify_paths(context_.get());
    } else if (SSL_CTX_load_verify_locations(context_.get(), target.ca_file.c_str(), nullptr) !=
               1) {
      return Failed(absl::StrCat("OTEL_EXPORTER_OTLP_CERTIFICATE=", target.ca_file));
    }
    if (!target.certificate_file.empty() &&
        (SSL_CTX_use_certificate_chain_file(context_.get(), target.certificate_file.c_str()) != 1 ||
         SSL_CTX_use_PrivateKey_file(context_.get(), target.key_file.c_str(), SSL_FILETYPE_PEM) !=
             1)) {
      return Failed(
          absl::StrCat("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=", target.certificate_file));
    }
    ssl_.reset(SSL_new(context_.get()));
    if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), fd_.get()) != 1) return Failed("TLS");
    in6_addr address;
    const bool numeric = inet_pton(AF_INET, target.host.c_str(), &address) == 1 ||
                         inet_pton(AF_INET6, target.host.c_str(), &address) == 1;
    const int named =
        numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), target.host.c_str())
                : SSL_set1_host(ssl_.get(), target.host.c_str());
    if (named != 1) return Failed("TLS");
    if (!numeric) SSL_set_tlsext_host_name(ssl_.get(), target.host.c_str());
    while (true) {
      const int n = SSL_connect(ssl_.get());
      if (n == 1) return absl::OkStatus();
      if (const long verdict = SSL_get_verify_result(ssl_.get()); verdict != X509_V_OK) {
        ERR_clear_error();
        return absl::FailedPreconditionError(absl::StrCat(
            what_, ": its certificate is not trusted: ", X509_verify_cert_error_string(verdict),
            "; OTEL_EXPORTER_OTLP_CERTIFICATE names the file of its authority"));
      }
      GANTRY_RETURN_IF_ERROR(WaitForTls(n, "TLS handshake"));
    }
  }

  absl::Status Write(absl::string_view left) {
    while (!left.empty()) {
      const int64_t n = ssl_ != nullptr
                            ? SSL_write(ssl_.get(), left.data(), static_cast<int>(left.size()))
                            : send(fd_.get(), left.data(), left.size(), MSG_NOSIGNAL);
      if (n > 0) {
        left.remove_prefix(static_cast<size_t>(n));
        continue;
      }
      GANTRY_RETURN_IF_ERROR(ssl_ != nullptr ? WaitForTls(static_cast<int>(n), "takes nothing")
                                             : Wait(POLLOUT, "takes nothing"));
    }
    return absl::OkStatus();
  }

  // At least one byte. kUnavailable: the connection has ended.
  absl::StatusOr<std::string> Read() {
    char buffer[512];
    while (true) {
      const int64_t n = ssl_ != nullptr ? SSL_read(ssl_.get(), buffer, sizeof buffer)
                                        : recv(fd_.get(), buffer, sizeof buffer, 0);
      if (n > 0) return std::string(buffer, static_cast<size_t>(n));
      if (n == 0 && ssl_ == nullptr)
        return absl::UnavailableError(absl::StrCat(what_, ": ended the connection"));
      GANTRY_RETURN_IF_ERROR(ssl_ != nullptr ? WaitForTls(static_cast<int>(n), "no answer")
                                             : Wait(POLLIN, "no answer"));
    }
  }

 private:
  struct FreeTls {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };

  absl::Status Failed(absl::string_view step) const {
    return absl::FailedPreconditionError(absl::StrCat(what_, ": ", step, ": ", TlsError()));
  }

  absl::Status Wait(short events, absl::string_view problem) const {
    if (errno != EAGAIN && errno != EINTR) return ErrnoToStatus(errno, what_);
    if (!Ready(fd_.get(), events, deadline_, stop_))
      return absl::DeadlineExceededError(absl::StrCat(what_, ": ", problem));
    return absl::OkStatus();
  }

  absl::Status WaitForTls(int result, absl::string_view problem) {
    const int error = errno;
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        errno = EAGAIN;
        return Wait(POLLIN, problem);
      case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return Wait(POLLOUT, problem);
      case SSL_ERROR_ZERO_RETURN:
        return absl::UnavailableError(absl::StrCat(what_, ": ended the connection"));
      case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        return error != 0 ? ErrnoToStatus(error, what_)
                          : absl::UnavailableError(absl::StrCat(what_, ": ended the connection"));
      default:
        return absl::UnavailableError(absl::StrCat(what_, ": ", problem, ": ", TlsError()));
    }
  }

  const std::string what_;
  const UniqueFd fd_;
  const absl::Time deadline_;
  const int stop_;
  std::unique_ptr<SSL_CTX, FreeTls> context_;
  std::unique_ptr<SSL, FreeTls> ssl_;  // null: plain
};

}  // namespace

absl::Status SendSpans(const OtlpTarget& target, const std::vector<Span>& spans,
                       absl::Duration limit, int stop) {
  const std::string what = absl::StrCat("collector ", target.host, ":", target.port);
  const absl::Time deadline = absl::Now() + limit;
  const bool json = target.encoding == OtlpTarget::Encoding::kJson;
  const std::string body = json ? OtlpJson(target, spans) : OtlpProtobuf(target, spans);
  std::string request =
      absl::StrCat("POST ", target.path, " HTTP/1.1\r\nHost: ", target.host, ":", target.port,
                   "\r\nContent-Type: ", json ? "application/json" : "application/x-protobuf",
                   "\r\nContent-Length: ", body.size(), "\r\nConnection: close\r\n");
  for (const auto& [key, value] : target.headers)
    absl::StrAppend(&request, key, ": ", value, "\r\n");
  absl::StrAppend(&request, "\r\n", body);
  absl::StatusOr<UniqueFd> fd = Dial(target, deadline, stop);
  if (!fd.ok()) return fd.status();
  const NoSigpipe quiet;
  Connection connection(what, *std::move(fd), deadline, stop);
  if (target.tls) GANTRY_RETURN_IF_ERROR(connection.StartTls(target));
  GANTRY_RETURN_IF_ERROR(connection.Write(request));
  // "HTTP/1.1 200": the rest says nothing that matters here.
  std::string answer;
  while (answer.size() < 12) {
    GANTRY_ASSIGN_OR_RETURN(const std::string more, connection.Read());
    answer += more;
  }
  if (!absl::StartsWith(answer, "HTTP/1.") || answer[9] != '2') {
    return absl::UnavailableError(
        absl::StrCat(what, " answers ", answer.substr(0, answer.find('\r'))));
  }
  return absl::OkStatus();
}

}  // namespace gantry::trace
