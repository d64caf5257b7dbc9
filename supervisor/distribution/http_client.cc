#include "supervisor/distribution/http_client.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/file.h"
#include "supervisor/distribution/reference.h"

namespace gantry::distribution {
namespace {

constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxHeaderLines = 256;
// curl hands bodies out in 16 KiB pieces; receivers hash, write and inflate, and do better with
// fewer, larger ones.
constexpr size_t kBodyBuffer = 256 << 10;
constexpr long kReadBuffer = 256 << 10;
constexpr char kSystemBundle[] = "/etc/ssl/certs/ca-certificates.crt";

}  // namespace

absl::string_view HttpHead::header(absl::string_view lower_case_name) const {
  for (const auto& [name, value] : headers) {
    if (name == lower_case_name) return value;
  }
  return {};
}

namespace {

// CURL and CURLM are both void, so each needs a deleter of its own.
struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiDeleter {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, ListDeleter>;

// A connection with what belongs to it. Used by one thread at a time: the one whose exchange it is.
struct Lane {
  // The easy handle must be destroyed first, so it comes last.
  std::unique_ptr<CURLM, MultiDeleter> multi{curl_multi_init()};
  std::unique_ptr<CURL, EasyDeleter>
      easy;            // only while in use: it holds the large buffers, `multi` the connection
  std::string origin;  // of the last exchange
  absl::Duration last_used;  // monotonic
};

// The state of one exchange, which curl's callbacks work on.
class Exchange {
 public:
  Exchange(const HttpRequest& request, HttpReceiver& receiver)
      : request_(request), receiver_(receiver) {}

  static size_t OnHeader(char* data, size_t size, size_t count, void* self) {
    return static_cast<Exchange*>(self)->Header(absl::string_view(data, size * count))
               ? size * count
               : 0;
  }
  static size_t OnWrite(char* data, size_t size, size_t count, void* self) {
    return static_cast<Exchange*>(self)->Body(absl::string_view(data, size * count)) ? size * count
                                                                                     : 0;
  }
  static size_t OnRead(char* data, size_t size, size_t count, void* self) {
    return static_cast<Exchange*>(self)->Upload(data, size * count);
  }
  static int OnSeek(void* self, curl_off_t offset, int origin) {
    // curl rewinds when it sends a request again because a kept connection turned out to be dead.
    return static_cast<Exchange*>(self)->Rewind(offset, origin) ? CURL_SEEKFUNC_OK
                                                                : CURL_SEEKFUNC_CANTSEEK;
  }

  bool Flush() {
    if (buffer_.empty()) return true;
    absl::Status status = receiver_.OnBody(buffer_);
    buffer_.clear();
    return Keep(std::move(status));
  }

  bool Finish() {
    if (!DeliverHead()) return false;
    return Flush();
  }

  const absl::Status& failure() const { return failure_; }
  bool from_caller() const { return from_caller_; }
  bool head_delivered() const { return head_delivered_; }
  int64_t moved() const { return moved_; }
  bool sent_everything() const { return uploaded_ >= request_.body_size_bytes; }

 private:
  bool Keep(absl::Status status) {
    if (status.ok()) return true;
    failure_ = std::move(status);
    from_caller_ = true;
    return false;
  }

  bool Broken(absl::string_view why) {
    failure_ = absl::DataLossError(why);
    return false;
  }

  bool Header(absl::string_view line) {
    moved_ += line.size();
    if (absl::StartsWith(line, "HTTP/")) {
      // A new answer begins: after 100 Continue, or after a proxy's CONNECT.
      head_ = HttpHead();
      header_bytes_ = 0;
      std::vector<absl::string_view> parts =
          absl::StrSplit(absl::StripAsciiWhitespace(line), absl::MaxSplits(' ', 2));
      if (parts.size() < 2 || !absl::SimpleAtoi(parts[1], &head_.status))
        return Broken("the answer has no status");
      if (parts.size() > 2) head_.reason = std::string(parts[2].substr(0, 200));
      return true;
    }
    header_bytes_ += line.size();
    if (header_bytes_ > kMaxHeaderBytes || head_.headers.size() >= kMaxHeaderLines) {
      return Broken("the answer has more than 64 KiB or 256 lines of headers");
    }
    absl::string_view text = absl::StripAsciiWhitespace(line);
    if (text.empty()) return true;
    if (head_delivered_) return true;  // trailers
    size_t colon = text.find(':');
    if (colon == absl::string_view::npos) return true;
    head_.headers.emplace_back(absl::AsciiStrToLower(text.substr(0, colon)),
                               std::string(absl::StripAsciiWhitespace(text.substr(colon + 1))));
    return true;
  }

  bool DeliverHead() {
    if (head_delivered_) return true;
    head_delivered_ = true;
    return Keep(receiver_.OnHead(head_));
  }

  bool Body(absl::string_view bytes) {
    moved_ += bytes.size();
    if (!DeliverHead()) return false;
    if (buffer_.capacity() < kBodyBuffer && buffer_.size() + bytes.size() > buffer_.capacity()) {
      buffer_.reserve(buffer_.capacity() == 0 ? size_t{32} << 10 : kBodyBuffer);
    }
    if (buffer_.size() + bytes.size() > kBodyBuffer && !Flush()) return false;
    buffer_.append(bytes.data(), bytes.size());
    return true;
  }

  size_t Upload(char* data, size_t capacity) {
    int64_t left = request_.body_size_bytes - uploaded_;
    size_t n = static_cast<size_t>(std::min<int64_t>(left, capacity));
    if (n == 0) return 0;
    if (request_.source != nullptr) {
      absl::StatusOr<size_t> got = request_.source->Read(data, n);
      if (!got.ok()) {
        Keep(got.status());
        return CURL_READFUNC_ABORT;
      }
      if (*got == 0) {
        Keep(absl::DataLossError(absl::StrCat("the body to send ended after ", uploaded_, " of ",
                                              request_.body_size_bytes, " bytes")));
        return CURL_READFUNC_ABORT;
      }
      n = *got;
    } else {
      std::memcpy(data, request_.body.data() + uploaded_, n);
    }
    uploaded_ += n;
    moved_ += n;
    return n;
  }

  bool Rewind(curl_off_t offset, int origin) {
    if (origin != SEEK_SET || request_.source != nullptr) return offset == uploaded_;
    uploaded_ = offset;
    return true;
  }

  const HttpRequest& request_;
  HttpReceiver& receiver_;
  HttpHead head_;
  bool head_delivered_ = false;
  size_t header_bytes_ = 0;
  std::string buffer_;
  int64_t uploaded_ = 0;
  int64_t moved_ = 0;
  absl::Status failure_;
  bool from_caller_ = false;
};

std::string Environment(const char* lower, const char* upper) {
  const char* value = std::getenv(lower);
  if (value == nullptr || *value == 0) value = upper == nullptr ? nullptr : std::getenv(upper);
  return value == nullptr ? "" : value;
}

struct ProxySettings {
  std::string http, https, none;
};

class CurlHttpClient : public HttpClient {
 public:
  explicit CurlHttpClient(const CurlHttpClientOptions& options) : options_(options) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
    if (options_.proxy_from_environment) {
      std::string all = Environment("all_proxy", "ALL_PROXY");
      proxies_.http = Environment("http_proxy", "HTTP_PROXY");
      proxies_.https = Environment("https_proxy", "HTTPS_PROXY");
      if (proxies_.http.empty()) proxies_.http = all;
      if (proxies_.https.empty()) proxies_.https = all;
      proxies_.none = Environment("no_proxy", "NO_PROXY");
    }
  }

  HttpResult Do(const HttpRequest& request, HttpReceiver& receiver) override {
    HttpResult result;
    if (request.cancel != nullptr) {
      result.status = request.cancel->Check();
      if (!result.status.ok()) return result;
    }
    std::unique_ptr<Lane> lane = TakeLane(request.url.origin());
    lane->easy.reset(curl_easy_init());
    Exchange exchange(request, receiver);
    Peer peer{.nearest = request.nearest};
    HeaderList headers;
    char error[CURL_ERROR_SIZE] = "";
    std::string trust;
    result.status = Prepare(*lane, request, exchange, peer, headers, trust, error);
    if (!result.status.ok()) return result;
    CURLM* multi = lane->multi.get();
    CURL* easy = lane->easy.get();
    curl_multi_add_handle(multi, easy);
    absl::Status stopped;
    CURLcode code = CURLE_OK;
    {
      // Another thread's Cancel() must not wait for the poll below to time out.
      CancelToken::Registration wake;
      if (request.cancel != nullptr)
        wake = request.cancel->OnCancel([multi] { curl_multi_wakeup(multi); });
      stopped = Drive(multi, request, exchange, code);
    }
    curl_multi_remove_handle(multi, easy);
    if (exchange.failure().ok()) {
      // What came before a connection broke is as good as any other bytes.
      if (stopped.ok() && code == CURLE_OK) {
        exchange.Finish();
      } else {
        exchange.Flush();
      }
    }

    result.got_head = exchange.head_delivered();
    if (!exchange.failure().ok()) {
      result.status = exchange.failure();
      result.from_caller = exchange.from_caller();
    } else if (!stopped.ok()) {
      result.status = stopped;
    } else if (peer.too_near) {
      result.too_near = true;
      result.status = absl::FailedPreconditionError(
          absl::StrCat(request.url.host, " is an address of this machine or its network"));
    } else if (code != CURLE_OK) {
      Explain(code, error, result);
      if (result.no_such_host) {
        result.status = absl::UnavailableError(
            absl::StrCat("cannot resolve ", request.url.host, ": is there a network?"));
      }
      long cause = 0;
      curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &cause);
      if (code == CURLE_COULDNT_CONNECT && cause == ECONNREFUSED) {
        result.refused = true;
        result.status = absl::UnavailableError(
            absl::StrCat("connection refused: nothing listens on ", request.url.host));
      }
    }
    result.peer = peer.reach;
    if (code == CURLE_OK && stopped.ok()) {
      ReturnLane(std::move(lane), request.url.origin());
    }
    return result;
  }

  void DropIdle() override {
    std::list<std::unique_ptr<Lane>> drop;
    absl::MutexLock lock(&mutex_);
    drop.swap(idle_);
  }

 private:
  // Where the connection of one exchange leads.
  struct Peer {
    Reach nearest = Reach::kLoopback;
    Reach reach = Reach::kUnknown;
    bool too_near = false;
  };

  // Before a connection is made.
  static curl_socket_t OnSocket(void* data, curlsocktype, curl_sockaddr* address) {
    Peer& peer = *static_cast<Peer*>(data);
    const Reach reach = ReachOf(address->addr);
    if (reach > peer.nearest) {
      peer.too_near = true;
      return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }

  // Before the request is sent, also over a connection that was kept.
  static int OnConnected(void* data, char* primary_ip, char*, int, int) {
    Peer& peer = *static_cast<Peer*>(data);
    const std::string ip(primary_ip);
    peer.reach = ReachOfHost(absl::StrContains(ip, ":") ? absl::StrCat("[", ip, "]") : ip);
    if (peer.reach <= peer.nearest) return CURL_PREREQFUNC_OK;
    peer.too_near = true;
    return CURL_PREREQFUNC_ABORT;
  }

  absl::Status Prepare(Lane& lane, const HttpRequest& request, Exchange& exchange, Peer& peer,
                       HeaderList& headers, std::string& trust, char* error) {
    CURL* easy = lane.easy.get();
    if (easy == nullptr || lane.multi == nullptr)
      return absl::ResourceExhaustedError("no memory for a connection");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(easy, CURLOPT_URL, request.url.str().c_str());
    // The path is ours to normalise; curl would fold "%2F" tricks and ".." in its own way.
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    curl_easy_setopt(easy, CURLOPT_UNRESTRICTED_AUTH, 0L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, options_.user_agent.c_str());
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReadBuffer);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, kReadBuffer);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(
                         std::max<int64_t>(1, absl::ToInt64Milliseconds(request.connect_timeout))));
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Exchange::OnHeader);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &exchange);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Exchange::OnWrite);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &exchange);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);

    if (request.method == "HEAD") {
      curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (request.method == "GET") {
      curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    } else {
      // An upload without body still says Content-Length: 0, which registries insist on for POST
      // and PUT.
      curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
      curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE,
                       static_cast<curl_off_t>(request.body_size_bytes));
      curl_easy_setopt(easy, CURLOPT_READFUNCTION, &Exchange::OnRead);
      curl_easy_setopt(easy, CURLOPT_READDATA, &exchange);
      curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, &Exchange::OnSeek);
      curl_easy_setopt(easy, CURLOPT_SEEKDATA, &exchange);
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }

    auto add_header = [&](const std::string& line) {
      curl_slist* longer = curl_slist_append(headers.get(), line.c_str());
      if (longer == nullptr) return false;
      headers.release();
      headers.reset(longer);
      return true;
    };
    // "Expect: 100-continue" costs a second with servers that ignore it.
    add_header("Expect:");
    for (const auto& [name, value] : request.headers) {
      if (absl::StrContains(name, "\n") || absl::StrContains(value, "\n") ||
          absl::StrContains(value, "\r")) {
        return absl::InvalidArgumentError(
            absl::StrCat("header ", name, ": line breaks are refused"));
      }
      // "Name;" is curl's way to send an empty value.
      if (!add_header(value.empty() ? absl::StrCat(name, ";") : absl::StrCat(name, ": ", value))) {
        return absl::ResourceExhaustedError("no memory for request headers");
      }
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());

    static const TlsConfig* const kDefaultTls = new TlsConfig;
    const TlsConfig& tls = request.tls == nullptr ? *kDefaultTls : *request.tls;
    if (tls.skip_verify) {
      curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
      curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (request.url.scheme == "https" && !tls.ca_files.empty()) {
      for (const std::string& file : tls.ca_files) {
        absl::StatusOr<std::string> text = ReadFile(file, 4 << 20);
        if (!text.ok()) {
          return absl::FailedPreconditionError(
              absl::StrCat("CA certificate ", file, ": ", text.status().message()));
        }
        if (!absl::StrContains(*text, "-----BEGIN")) {
          return absl::FailedPreconditionError(
              absl::StrCat("CA certificate ", file, ": there is no PEM certificate in it"));
        }
        absl::StrAppend(&trust, *text, "\n");
      }
      absl::StatusOr<std::string> system = ReadFile(kSystemBundle, 8 << 20);
      if (system.ok()) trust += *system;
      curl_blob blob{trust.data(), trust.size(), CURL_BLOB_NOCOPY};
      curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (request.url.scheme == "https" && !tls.client_pairs.empty()) {
      const auto& [cert, key] = tls.client_pairs.front();
      curl_easy_setopt(easy, CURLOPT_SSLCERT, cert.c_str());
      curl_easy_setopt(easy, CURLOPT_SSLKEY, key.empty() ? cert.c_str() : key.c_str());
    }

    const std::string& proxy = request.url.scheme == "https" ? proxies_.https : proxies_.http;
    if (proxy.empty() || IsLoopbackHost(request.url.host)) {
      curl_easy_setopt(easy, CURLOPT_PROXY, "");  // otherwise curl looks at the environment itself
      curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &CurlHttpClient::OnSocket);
      curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &peer);
      curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &CurlHttpClient::OnConnected);
      curl_easy_setopt(easy, CURLOPT_PREREQDATA, &peer);
    } else {
      curl_easy_setopt(easy, CURLOPT_PROXY, proxy.c_str());
      curl_easy_setopt(easy, CURLOPT_NOPROXY, proxies_.none.c_str());
    }
    return absl::OkStatus();
  }

  // Runs the exchange to its end. The returned status says why it was stopped early.
  absl::Status Drive(CURLM* multi, const HttpRequest& request, Exchange& exchange, CURLcode& code) {
    int64_t window_start = 0;
    absl::Duration idle = absl::ZeroDuration();
    // A registry that has everything may take its time to store it.
    absl::Duration patience = request.stall_timeout;
    while (true) {
      int running = 0;
      CURLMcode multi_code = curl_multi_perform(multi, &running);
      if (multi_code != CURLM_OK)
        return absl::InternalError(absl::StrCat("curl: ", curl_multi_strerror(multi_code)));
      int left = 0;
      while (CURLMsg* message = curl_multi_info_read(multi, &left)) {
        if (message->msg == CURLMSG_DONE) {
          code = message->data.result;
          return absl::OkStatus();
        }
      }
      if (request.cancel != nullptr) {
        absl::Status status = request.cancel->Check();
        if (!status.ok()) return status;
      }
      if (exchange.moved() - window_start >= request.min_bytes_per_stall) {
        window_start = exchange.moved();
        idle = absl::ZeroDuration();
      }
      patience = request.body_size_bytes > 0 && exchange.sent_everything()
                     ? 4 * request.stall_timeout
                     : request.stall_timeout;
      if (idle >= patience) {
        return absl::UnavailableError(absl::StrCat(
            "stalled: ", exchange.moved() - window_start, " bytes in ", absl::FormatDuration(idle),
            " (at least ", request.min_bytes_per_stall, " are expected)"));
      }
      // On a slow line the receiver gets what there is, before we wait for more.
      if (!exchange.Flush()) return absl::OkStatus();
      absl::Duration before = Clock::Real().Monotonic();
      absl::Duration wait =
          std::min(absl::Milliseconds(500), patience - idle + absl::Milliseconds(1));
      curl_multi_poll(multi, nullptr, 0, static_cast<int>(absl::ToInt64Milliseconds(wait)) + 1,
                      nullptr);
      idle += Clock::Real().Monotonic() - before;
    }
  }

  static void Explain(CURLcode code, const char* error, HttpResult& result) {
    std::string text = *error != 0 ? error : curl_easy_strerror(code);
    switch (code) {
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_ISSUER_ERROR:
      case CURLE_SSL_INVALIDCERTSTATUS:
        result.tls_failed = true;
        result.status = absl::FailedPreconditionError(
            absl::StrCat("TLS: the server's certificate is not trusted: ", text,
                         "; add its CA to the registry's configuration (ca = in hosts.toml)"));
        return;
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_CERTPROBLEM:
      case CURLE_SSL_CIPHER:
        result.tls_failed = true;
        result.status = absl::FailedPreconditionError(absl::StrCat("TLS: ", text));
        return;
      case CURLE_SSL_CONNECT_ERROR:
        result.tls_failed = true;
        // OpenSSL's words for "this was no TLS record": a plain HTTP server answered the handshake.
        result.not_tls = absl::StrContains(text, "wrong version number") ||
                         absl::StrContains(text, "http request") ||
                         absl::StrContains(text, "packet length too long") ||
                         absl::StrContains(text, "record layer failure");
        result.status = result.not_tls ? absl::FailedPreconditionError(absl::StrCat(
                                             "TLS: the server does not speak TLS (", text, ")"))
                                       : absl::UnavailableError(absl::StrCat("TLS: ", text));
        return;
      case CURLE_WEIRD_SERVER_REPLY:
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_BAD_CONTENT_ENCODING:
        result.status =
            absl::DataLossError(absl::StrCat("the answer is not HTTP as we know it: ", text));
        return;
      case CURLE_OUT_OF_MEMORY:
        result.status = absl::ResourceExhaustedError(text);
        return;
      case CURLE_URL_MALFORMAT:
        result.status = absl::InvalidArgumentError(text);
        return;
      case CURLE_COULDNT_RESOLVE_HOST:
        result.no_such_host = true;
        result.status = absl::UnavailableError(text);
        return;
      default:
        result.status = absl::UnavailableError(text);
        return;
    }
  }

  std::unique_ptr<Lane> TakeLane(const std::string& origin) {
    std::list<std::unique_ptr<Lane>> expired;
    {
      absl::MutexLock lock(&mutex_);
      absl::Duration now = Clock::Real().Monotonic();
      for (auto it = idle_.begin(); it != idle_.end();) {
        auto next = std::next(it);
        if (now - (*it)->last_used > absl::Seconds(90)) expired.splice(expired.end(), idle_, it);
        it = next;
      }
      for (auto it = idle_.begin(); it != idle_.end(); ++it) {
        if ((*it)->origin == origin) {
          std::unique_ptr<Lane> lane = std::move(*it);
          idle_.erase(it);
          return lane;
        }
      }
    }
    auto lane = std::make_unique<Lane>();
    if (lane->multi != nullptr) curl_multi_setopt(lane->multi.get(), CURLMOPT_MAXCONNECTS, 1L);
    return lane;
  }

  void ReturnLane(std::unique_ptr<Lane> lane, std::string origin) {
    lane->easy.reset();
    lane->origin = std::move(origin);
    lane->last_used = Clock::Real().Monotonic();
    std::unique_ptr<Lane> dropped;
    absl::MutexLock lock(&mutex_);
    idle_.push_front(std::move(lane));
    if (idle_.size() > static_cast<size_t>(options_.max_idle)) {
      dropped = std::move(idle_.back());
      idle_.pop_back();
    }
  }

  const CurlHttpClientOptions options_;
  ProxySettings proxies_;
  absl::Mutex mutex_;
  std::list<std::unique_ptr<Lane>> idle_ ABSL_GUARDED_BY(mutex_);  // most recently used first
};

}  // namespace

std::unique_ptr<HttpClient> NewCurlHttpClient(const CurlHttpClientOptions& options) {
  return std::make_unique<CurlHttpClient>(options);
}

}  // namespace gantry::distribution
