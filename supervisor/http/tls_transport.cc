#include "supervisor/http/tls_transport.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry::http {
namespace {

constexpr absl::Duration kHandshakeTime = absl::Seconds(10);
// How long a closed connection is read on, so that the client gets what was written.
constexpr absl::Duration kLinger = absl::Seconds(1);
constexpr size_t kRelayBytes = 32 << 10;

absl::Duration Now() { return Clock::Real().Monotonic(); }

int PollTimeout(absl::Duration deadline) {
  if (deadline == absl::InfiniteDuration()) return -1;
  const int64_t left = absl::ToInt64Milliseconds(deadline - Now()) + 1;
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT_MAX));
}

// The reason that OpenSSL noted last on this thread.
std::string TlsError() {
  char text[256] = "no reason given";
  if (const unsigned long code = ERR_peek_last_error(); code != 0)
    ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return text;
}

// HTTP/1.1 where the client chooses by ALPN; a client that does not choose gets it, too.
int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_length,
                   const unsigned char* offered, unsigned int offered_length, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, kOurs, sizeof kOurs - 1, offered,
                            offered_length) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

class TlsTransport : public Transport {
 public:
  TlsTransport(UniqueFd socket, SSL* ssl) : socket_(std::move(socket)), ssl_(ssl) {
    if (ssl_ != nullptr) SSL_set_fd(ssl_, socket_.get());
    const int on = 1;
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~TlsTransport() override {
    AwaitReleased();
    SSL_free(ssl_);
  }

  absl::Status Handshake() override {
    if (ssl_ == nullptr) return absl::ResourceExhaustedError("TLS: no memory for a connection");
    const absl::Duration deadline = Now() + kHandshakeTime;
    while (true) {
      ERR_clear_error();
      const int done = SSL_accept(ssl_);
      if (done == 1) return absl::OkStatus();
      GANTRY_RETURN_IF_ERROR(Settle(done, "handshake", deadline));
    }
  }

  absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration deadline) override {
    while (true) {
      ERR_clear_error();
      const int got = SSL_read(ssl_, buffer, static_cast<int>(std::min<size_t>(size, INT_MAX)));
      if (got > 0) return static_cast<size_t>(got);
      if (SSL_get_error(ssl_, got) == SSL_ERROR_ZERO_RETURN) return 0;
      GANTRY_RETURN_IF_ERROR(Settle(got, "read", deadline));
    }
  }

  absl::Status Write(absl::string_view bytes, absl::Duration stall,
                     absl::Duration deadline) override {
    absl::Duration until = std::min(Now() + stall, deadline);
    while (!bytes.empty()) {
      if (Now() >= deadline) return absl::DeadlineExceededError("the response took too long");
      ERR_clear_error();
      const int sent =
          SSL_write(ssl_, bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), INT_MAX)));
      if (sent > 0) {
        bytes.remove_prefix(static_cast<size_t>(sent));
        until = std::min(Now() + stall, deadline);
        continue;
      }
      GANTRY_RETURN_IF_ERROR(Settle(sent, "write", until));
    }
    return absl::OkStatus();
  }

  void Close() override {
    if (broken_ || !SSL_is_init_finished(ssl_)) {
      shutdown(socket_.get(), SHUT_RDWR);
      return;
    }
    ERR_clear_error();
    // A word of farewell that finds no room is left out: the end of the stream says as much.
    SSL_shutdown(ssl_);
    shutdown(socket_.get(), SHUT_WR);
    DrainSocket();
  }

  void Break() override {
    shutdown(socket_.get(), SHUT_RDWR);
    absl::MutexLock lock(&release_);
    if (inner_.valid()) shutdown(inner_.get(), SHUT_RDWR);
  }

  UniqueFd Release() override {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
      return UniqueFd();
    UniqueFd given(ends[0]);
    {
      absl::MutexLock lock(&release_);
      inner_.reset(ends[1]);
    }
    absl::StatusOr<std::thread> relay = NewThread([this] { Relay(); });
    if (!relay.ok()) return UniqueFd();
    relay_ = *std::move(relay);
    return given;
  }

  void AwaitReleased() override {
    if (relay_.joinable()) relay_.join();
  }

  int descriptor() const override { return socket_.get(); }

 private:
  // Waits until a call that could not go on can. An error: it cannot.
  absl::Status Settle(int result, absl::string_view what, absl::Duration deadline) {
    short events = 0;
    switch (SSL_get_error(ssl_, result)) {
      case SSL_ERROR_WANT_READ:
        events = POLLIN;
        break;
      case SSL_ERROR_WANT_WRITE:
        events = POLLOUT;
        break;
      case SSL_ERROR_ZERO_RETURN:
        broken_ = true;
        return absl::UnavailableError(absl::StrCat("TLS ", what, ": the client has closed"));
      case SSL_ERROR_SYSCALL:
        broken_ = true;
        return absl::UnavailableError(absl::StrCat("TLS ", what, ": the connection broke"));
      default:
        broken_ = true;
        return absl::UnavailableError(absl::StrCat("TLS ", what, ": ", TlsError()));
    }
    pollfd one = {socket_.get(), events, 0};
    const int ready = poll(&one, 1, PollTimeout(deadline));
    if (ready < 0 && errno != EINTR) return ErrnoToStatus(errno, "poll");
    if (ready == 0 && Now() >= deadline)
      return absl::DeadlineExceededError("the client did not go on in time");
    return absl::OkStatus();
  }

  // Bytes that nobody read would make the kernel cut off what the client has not received.
  void DrainSocket() {
    const absl::Duration deadline = Now() + kLinger;
    char dropped[4096];
    while (true) {
      const ssize_t got = recv(socket_.get(), dropped, sizeof dropped, 0);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return;
      if (Now() >= deadline) return;
      pollfd one = {socket_.get(), POLLIN, 0};
      if (got < 0) poll(&one, 1, PollTimeout(deadline));
    }
  }

  void Relay();

  const UniqueFd socket_;
  SSL* const ssl_;       // null: there was no memory for it
  absl::Mutex release_;  // Break() comes from another thread
  UniqueFd inner_;       // the relay's end of the socket pair; stays open once it is there
  std::thread relay_;
  bool broken_ = false;  // of the thread that uses the connection
};

// One direction of a relay.
struct Flow {
  std::string bytes;
  size_t moved = 0;
  bool ended = false;     // no more comes
  bool finished = false;  // and the other side knows

  bool empty() const { return moved == bytes.size(); }
  void Clear() {
    bytes.clear();
    moved = 0;
  }
};

void TlsTransport::Relay() {
  Flow in, out;  // from the client, to it
  std::string buffer(kRelayBytes, '\0');
  bool open = true;
  while (open && !(out.finished && in.ended)) {
    short socket_events = 0, inner_events = 0;
    bool moved = false;
    // What OpenSSL says of a call that did not go on; false: the connection has ended.
    const auto wants = [&](int result) {
      switch (SSL_get_error(ssl_, result)) {
        case SSL_ERROR_WANT_READ:
          socket_events |= POLLIN;
          return true;
        case SSL_ERROR_WANT_WRITE:
          socket_events |= POLLOUT;
          return true;
        default:
          return false;
      }
    };
    if (in.empty() && !in.ended) {
      ERR_clear_error();
      const int got = SSL_read(ssl_, buffer.data(), static_cast<int>(buffer.size()));
      if (got > 0) {
        in.bytes.assign(buffer, 0, static_cast<size_t>(got));
        in.moved = 0;
        moved = true;
      } else if (!wants(got)) {
        // A farewell ends only its direction, anything else ends both.
        open = SSL_get_error(ssl_, got) == SSL_ERROR_ZERO_RETURN;
        in.ended = true;
        moved = true;
      }
    }
    if (!in.empty()) {
      const ssize_t sent =
          send(inner_.get(), in.bytes.data() + in.moved, in.bytes.size() - in.moved, MSG_NOSIGNAL);
      if (sent > 0) {
        in.moved += static_cast<size_t>(sent);
        moved = true;
      } else if (errno == EAGAIN) {
        inner_events |= POLLOUT;
      } else if (errno != EINTR) {
        in.Clear();  // its owner reads no more
        in.ended = true;
      }
    } else if (in.ended && !in.finished) {
      shutdown(inner_.get(), SHUT_WR);
      in.finished = true;
    }
    if (out.empty() && !out.ended) {
      const ssize_t got = recv(inner_.get(), buffer.data(), buffer.size(), 0);
      if (got > 0) {
        out.bytes.assign(buffer, 0, static_cast<size_t>(got));
        out.moved = 0;
        moved = true;
      } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        out.ended = true;
        moved = true;
      } else {
        inner_events |= POLLIN;
      }
    }
    if (!out.empty() && open) {
      ERR_clear_error();
      const int sent = SSL_write(ssl_, out.bytes.data() + out.moved,
                                 static_cast<int>(out.bytes.size() - out.moved));
      if (sent > 0) {
        out.moved += static_cast<size_t>(sent);
        moved = true;
      } else if (!wants(sent)) {
        open = false;
      }
    } else if (out.ended && !out.finished && open) {
      ERR_clear_error();
      SSL_shutdown(ssl_);
      shutdown(socket_.get(), SHUT_WR);
      out.finished = true;
      // Its owner has ended and waits for nothing more of the client.
      break;
    }
    if (moved || !open) continue;
    pollfd waits[2] = {{socket_.get(), socket_events, 0}, {inner_.get(), inner_events, 0}};
    // A client that said farewell and then closed its side takes nothing any more.
    if (in.ended) waits[0].events |= POLLRDHUP;
    // An end that nothing is wanted of reports its hang-up all the same, and would keep the loop
    // awake.
    if (waits[0].events == 0) waits[0].fd = -1;
    if (inner_events == 0) waits[1].fd = -1;
    if (poll(waits, 2, -1) < 0 && errno != EINTR) break;
    if (in.ended && (waits[0].revents & POLLRDHUP) != 0) open = false;
  }
  broken_ = broken_ || !open;
  shutdown(inner_.get(), SHUT_RDWR);
  if (open) {
    DrainSocket();
  } else {
    shutdown(socket_.get(), SHUT_RDWR);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Load(const Files& files) {
  ERR_clear_error();
  SSL_CTX* const context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) return absl::ResourceExhaustedError(absl::StrCat("TLS: ", TlsError()));
  std::unique_ptr<TlsContext> out(new TlsContext(context));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context, ChooseProtocol, nullptr);
  const auto refuse = [](absl::string_view what, const std::string& file) {
    return absl::InvalidArgumentError(absl::StrCat("TLS ", what, " ", file, ": ", TlsError()));
  };
  if (SSL_CTX_load_verify_locations(context, files.ca.c_str(), nullptr) != 1)
    return refuse("CA", files.ca);
  if (STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(files.ca.c_str()); names != nullptr)
    SSL_CTX_set_client_CA_list(context, names);  // owns them from here on
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1)
    return refuse("certificate", files.certificate);
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1)
    return refuse("key", files.key);
  return out;
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

std::unique_ptr<Transport> TlsContext::Accept(UniqueFd socket) const {
  SSL* const ssl = SSL_new(context_);
  return std::make_unique<TlsTransport>(std::move(socket), ssl);
}

}  // namespace gantry::http
