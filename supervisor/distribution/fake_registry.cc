#include "supervisor/distribution/fake_registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace gantry::distribution {
namespace {

constexpr size_t kMaxHead = 256 << 10;

std::string Decode(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> ParseForm(absl::string_view form) {
  std::vector<std::pair<std::string, std::string>> out;
  for (absl::string_view part : absl::StrSplit(form, '&', absl::SkipEmpty())) {
    std::pair<std::string, std::string> pair = absl::StrSplit(part, absl::MaxSplits('=', 1));
    out.emplace_back(Decode(pair.first), Decode(pair.second));
  }
  return out;
}

int64_t NowSeconds() { return absl::ToInt64Seconds(Clock::Real().Monotonic()); }

std::string ErrorBody(absl::string_view code, absl::string_view message) {
  nlohmann::json error = {{"code", std::string(code)}, {"message", std::string(message)}};
  return nlohmann::json{{"errors", nlohmann::json::array({error})}}.dump();
}

const char* Reason(int status) {
  switch (status) {
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
    case 307:
      return "Temporary Redirect";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 416:
      return "Range Not Satisfiable";
    case 429:
      return "Too Many Requests";
    default:
      return status >= 500 ? "Internal Server Error" : "Status";
  }
}

[[noreturn]] void Fatal(const char* what) {
  std::cerr << "fake registry: " << what << ": " << std::strerror(errno) << std::endl;
  std::abort();
}

std::optional<std::pair<std::string, std::string>> BasicLogin(const std::string& header) {
  absl::string_view rest = header;
  std::string decoded;
  if (!absl::ConsumePrefix(&rest, "Basic ") || !absl::Base64Unescape(rest, &decoded))
    return std::nullopt;
  size_t colon = decoded.find(':');
  if (colon == std::string::npos) return std::nullopt;
  return std::make_pair(decoded.substr(0, colon), decoded.substr(colon + 1));
}

}  // namespace

std::string FakeRegistry::Request::header(absl::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return "";
}

std::vector<std::string> FakeRegistry::Request::parameters(absl::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : ParseForm(query)) {
    if (key == name) out.push_back(value);
  }
  return out;
}

std::string FakeRegistry::Request::parameter(absl::string_view name) const {
  std::vector<std::string> all = parameters(name);
  return all.empty() ? "" : all.front();
}

class FakeRegistry::Socket : public FakeRegistry::Connection {
 public:
  Socket(UniqueFd fd, int number, const std::atomic<bool>& stopping)
      : fd_(std::move(fd)), number_(number), stopping_(stopping) {}
  ~Socket() override {
    if (ssl_ != nullptr) SSL_free(ssl_);
  }

  bool Handshake(SSL_CTX* context) {
    if (context == nullptr) return true;
    ssl_ = SSL_new(context);
    SSL_set_fd(ssl_, fd_.get());
    return SSL_accept(ssl_) == 1;
  }

  ssize_t Read(char* buffer, size_t n) {
    if (ssl_ != nullptr) return SSL_read(ssl_, buffer, static_cast<int>(n));
    ssize_t got;
    do {
      got = recv(fd_.get(), buffer, n, 0);
    } while (got < 0 && errno == EINTR);
    return got;
  }

  int number() const override { return number_; }

  bool Raw(absl::string_view bytes) override {
    while (!bytes.empty()) {
      ssize_t sent;
      if (ssl_ != nullptr) {
        sent = SSL_write(ssl_, bytes.data(),
                         static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20)));
      } else {
        sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
      }
      if (sent <= 0) {
        open_ = false;
        return false;
      }
      bytes.remove_prefix(sent);
    }
    return true;
  }

  bool Answer(int status, const std::vector<std::pair<std::string, std::string>>& headers,
              absl::string_view body) override {
    std::string head = absl::StrCat("HTTP/1.1 ", status, " ", Reason(status), "\r\n");
    bool has_length = status == 204;
    for (const auto& [name, value] : headers) {
      absl::StrAppend(&head, name, ": ", value, "\r\n");
      has_length |= absl::EqualsIgnoreCase(name, "content-length") ||
                    absl::EqualsIgnoreCase(name, "transfer-encoding");
    }
    if (!has_length) absl::StrAppend(&head, "Content-Length: ", body.size(), "\r\n");
    absl::StrAppend(&head, "\r\n");
    return Raw(head) && (is_head || Raw(body));
  }

  void Close() override {
    open_ = false;
    shutdown(fd_.get(), SHUT_WR);
  }

  void Reset() override {
    open_ = false;
    linger now{1, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    reset_ = true;
  }

  // Ends reads and writes of the serving thread.
  void Break() { shutdown(fd_.get(), SHUT_RDWR); }
  bool stopping() const override { return stopping_; }
  bool open() const { return open_; }
  // With SO_LINGER 0 set, closing is what sends the RST.
  void Done() {
    if (ssl_ != nullptr && !reset_) SSL_shutdown(ssl_);
    if (ssl_ != nullptr) SSL_free(ssl_);
    ssl_ = nullptr;
    absl::MutexLock lock(&close_mutex_);
    fd_.reset();
  }
  void BreakIfOpen() {
    absl::MutexLock lock(&close_mutex_);
    if (fd_.valid()) Break();
  }

  bool is_head = false;
  std::string buffer;  // read and not used

 private:
  absl::Mutex close_mutex_;
  UniqueFd fd_;
  const int number_;
  const std::atomic<bool>& stopping_;
  SSL* ssl_ = nullptr;
  bool open_ = true;
  bool reset_ = false;
};

FakeRegistry::FakeRegistry(Options options) : options_(std::move(options)) {
  if (!options_.certificate_file.empty()) {
    tls_ = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(tls_, options_.certificate_file.c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_, options_.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
      Fatal("certificate or key cannot be loaded");
    }
    if (!options_.client_ca_file.empty()) {
      if (SSL_CTX_load_verify_locations(tls_, options_.client_ca_file.c_str(), nullptr) != 1)
        Fatal("client CA cannot be loaded");
      SSL_CTX_set_verify(tls_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
  }
  listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener_.valid()) Fatal("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener_.get(), 64) != 0) {
    Fatal("bind");
  }
  socklen_t size = sizeof address;
  getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

FakeRegistry::~FakeRegistry() {
  stopping_ = true;
  shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  std::list<Worker> workers;
  {
    absl::MutexLock lock(&mutex_);
    workers.swap(workers_);
  }
  for (Worker& worker : workers) worker.socket->BreakIfOpen();
  for (Worker& worker : workers) worker.thread.join();
  if (tls_ != nullptr) SSL_CTX_free(tls_);
}

std::string FakeRegistry::host() const { return absl::StrCat("127.0.0.1:", port_); }
std::string FakeRegistry::origin() const {
  return absl::StrCat(tls_ != nullptr ? "https" : "http", "://", host());
}

content::Descriptor FakeRegistry::AddBlob(const std::string& repository, std::string bytes,
                                          std::string media_type) {
  content::Descriptor descriptor;
  descriptor.media_type = std::move(media_type);
  descriptor.digest = content::Digest::Sha256Of(bytes);
  descriptor.size_bytes = bytes.size();
  absl::MutexLock lock(&mutex_);
  repositories_[repository].blobs[descriptor.digest.str()] =
      std::make_shared<const std::string>(std::move(bytes));
  return descriptor;
}

content::Descriptor FakeRegistry::AddManifest(const std::string& repository, const std::string& tag,
                                              std::string bytes, std::string media_type) {
  content::Descriptor descriptor;
  descriptor.media_type = media_type;
  descriptor.digest = content::Digest::Sha256Of(bytes);
  descriptor.size_bytes = bytes.size();
  absl::MutexLock lock(&mutex_);
  Repository& target = repositories_[repository];
  target.manifests[descriptor.digest.str()] = {std::move(media_type), std::move(bytes)};
  if (!tag.empty()) target.tags[tag] = descriptor.digest.str();
  return descriptor;
}

namespace {

nlohmann::json ToJson(const content::Descriptor& descriptor) {
  nlohmann::json out = {{"mediaType", descriptor.media_type},
                        {"digest", descriptor.digest.str()},
                        {"size", descriptor.size_bytes}};
  if (!descriptor.annotations.empty()) out["annotations"] = descriptor.annotations;
  if (!descriptor.urls.empty()) out["urls"] = descriptor.urls;
  if (descriptor.platform) {
    out["platform"] = {{"os", descriptor.platform->os},
                       {"architecture", descriptor.platform->architecture}};
    if (!descriptor.platform->variant.empty())
      out["platform"]["variant"] = descriptor.platform->variant;
  }
  return out;
}

}  // namespace

content::Descriptor FakeRegistry::AddImage(const std::string& repository, const std::string& tag,
                                           const std::vector<std::string>& layers,
                                           const std::string& architecture) {
  nlohmann::json manifest = {{"schemaVersion", 2},
                             {"mediaType", "application/vnd.oci.image.manifest.v1+json"}};
  nlohmann::json diff_ids = nlohmann::json::array();
  manifest["layers"] = nlohmann::json::array();
  for (const std::string& layer : layers) {
    content::Descriptor descriptor =
        AddBlob(repository, layer, "application/vnd.oci.image.layer.v1.tar");
    manifest["layers"].push_back(ToJson(descriptor));
    diff_ids.push_back(descriptor.digest.str());
  }
  nlohmann::json config = {{"os", "linux"},
                           {"architecture", architecture},
                           {"config", nlohmann::json::object()},
                           {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}};
  manifest["config"] =
      ToJson(AddBlob(repository, config.dump(), "application/vnd.oci.image.config.v1+json"));
  content::Descriptor descriptor =
      AddManifest(repository, tag, manifest.dump(), "application/vnd.oci.image.manifest.v1+json");
  descriptor.platform = content::Platform{"linux", architecture, "", "", {}};
  return descriptor;
}

content::Descriptor FakeRegistry::AddIndex(const std::string& repository, const std::string& tag,
                                           const std::vector<content::Descriptor>& children) {
  nlohmann::json index = {{"schemaVersion", 2},
                          {"mediaType", "application/vnd.oci.image.index.v1+json"}};
  index["manifests"] = nlohmann::json::array();
  for (const content::Descriptor& child : children) index["manifests"].push_back(ToJson(child));
  return AddManifest(repository, tag, index.dump(), "application/vnd.oci.image.index.v1+json");
}

bool FakeRegistry::HasBlob(const std::string& repository, const content::Digest& digest) const {
  absl::MutexLock lock(&mutex_);
  auto it = repositories_.find(repository);
  return it != repositories_.end() && it->second.blobs.count(digest.str()) > 0;
}

std::string FakeRegistry::Manifest(const std::string& repository, const std::string& object) const {
  absl::MutexLock lock(&mutex_);
  auto it = repositories_.find(repository);
  if (it == repositories_.end()) return "";
  auto tag = it->second.tags.find(object);
  auto manifest = it->second.manifests.find(tag == it->second.tags.end() ? object : tag->second);
  return manifest == it->second.manifests.end() ? "" : manifest->second.second;
}

void FakeRegistry::RemoveBlob(const std::string& repository, const content::Digest& digest) {
  absl::MutexLock lock(&mutex_);
  repositories_[repository].blobs.erase(digest.str());
}

void FakeRegistry::SetHook(Hook hook) {
  absl::MutexLock lock(&mutex_);
  hook_ = std::move(hook);
}
void FakeRegistry::BreakBlobs(int64_t after_bytes, int times) {
  absl::MutexLock lock(&mutex_);
  break_blobs_after_ = after_bytes;
  break_blobs_times_ = times;
}
void FakeRegistry::BreakUploads(int64_t after_bytes, int times) {
  absl::MutexLock lock(&mutex_);
  break_uploads_after_ = after_bytes;
  break_uploads_times_ = times;
}
void FakeRegistry::SetRate(int64_t bytes_per_second) {
  absl::MutexLock lock(&mutex_);
  rate_ = bytes_per_second;
}
void FakeRegistry::SetRanges(bool supported) {
  absl::MutexLock lock(&mutex_);
  ranges_ = supported;
}
void FakeRegistry::SetReferrersApi(bool supported) {
  absl::MutexLock lock(&mutex_);
  referrers_ = supported;
}
void FakeRegistry::SetTokenLifetime(int seconds) {
  absl::MutexLock lock(&mutex_);
  token_lifetime_ = seconds;
}
void FakeRegistry::ExpireTokens() {
  absl::MutexLock lock(&mutex_);
  tokens_.clear();
}

std::vector<FakeRegistry::Request> FakeRegistry::requests() const {
  absl::MutexLock lock(&mutex_);
  return requests_;
}

std::vector<std::string> FakeRegistry::lines() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> out;
  for (const Request& request : requests_)
    out.push_back(absl::StrCat(request.method, " ", request.path));
  return out;
}

int FakeRegistry::CountRequests(absl::string_view method, absl::string_view path_part) const {
  absl::MutexLock lock(&mutex_);
  int count = 0;
  for (const Request& request : requests_)
    count += request.method == method && absl::StrContains(request.path, path_part);
  return count;
}

void FakeRegistry::ClearLog() {
  absl::MutexLock lock(&mutex_);
  requests_.clear();
  blob_bytes_sent_ = 0;
}

void FakeRegistry::Accept() {
  while (!stopping_) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    int one = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    auto socket = std::make_shared<Socket>(std::move(fd), ++connections_, stopping_);
    absl::MutexLock lock(&mutex_);
    for (auto it = workers_.begin(); it != workers_.end();) {
      if (it->done) {
        it->thread.join();
        it = workers_.erase(it);
      } else {
        ++it;
      }
    }
    Worker& worker = workers_.emplace_back();
    worker.socket = socket;
    worker.thread = std::thread([this, socket, &worker] {
      if (socket->Handshake(tls_)) Serve(*socket);
      socket->Done();
      worker.done = true;
    });
  }
}

bool FakeRegistry::ReadRequest(Socket& socket, Request& request) {
  std::string& buffer = socket.buffer;
  char chunk[64 << 10];
  size_t end;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
    if (buffer.size() > kMaxHead) return false;
    ssize_t got = socket.Read(chunk, sizeof chunk);
    if (got <= 0) return false;
    buffer.append(chunk, got);
    if (buffer[0] == '\x16') {  // a TLS handshake; Go's servers answer like this
      socket.Raw(
          "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n");
      return false;
    }
  }
  std::vector<std::string> lines = absl::StrSplit(buffer.substr(0, end), "\r\n");
  buffer.erase(0, end + 4);
  std::vector<std::string> first = absl::StrSplit(lines[0], ' ');
  if (first.size() != 3) return false;
  request.method = first[0];
  std::pair<std::string, std::string> target = absl::StrSplit(first[1], absl::MaxSplits('?', 1));
  request.path = Decode(target.first);
  request.query = target.second;
  for (size_t i = 1; i < lines.size(); ++i) {
    std::pair<std::string, std::string> header = absl::StrSplit(lines[i], absl::MaxSplits(':', 1));
    request.headers.emplace_back(absl::AsciiStrToLower(header.first),
                                 std::string(absl::StripAsciiWhitespace(header.second)));
  }
  socket.is_head = request.method == "HEAD";
  int64_t length = 0;
  if (!absl::SimpleAtoi(request.header("content-length"), &length)) length = 0;
  int64_t limit = length;
  bool break_here = false;
  {
    absl::MutexLock lock(&mutex_);
    if (break_uploads_times_ > 0 && length > break_uploads_after_ &&
        absl::StrContains(request.path, "/blobs/uploads/")) {
      --break_uploads_times_;
      break_here = true;
      limit = break_uploads_after_;
    }
  }
  request.body = buffer.substr(0, std::min<size_t>(limit, buffer.size()));
  buffer.erase(0, request.body.size());
  while (static_cast<int64_t>(request.body.size()) < limit) {
    ssize_t got = socket.Read(
        chunk, std::min<int64_t>(sizeof chunk, limit - static_cast<int64_t>(request.body.size())));
    if (got <= 0) {
      request.body_complete = false;
      break;
    }
    request.body.append(chunk, got);
  }
  if (break_here) request.body_complete = false;
  return true;
}

void FakeRegistry::Serve(Socket& socket) {
  while (socket.open() && !stopping_) {
    Request request;
    if (!ReadRequest(socket, request)) return;
    Hook hook;
    {
      absl::MutexLock lock(&mutex_);
      Request logged = request;
      logged.body.clear();
      requests_.push_back(std::move(logged));
      hook = hook_;
    }
    if (hook && hook(request, socket)) {
      if (request.header("connection") == "close") return;
      continue;
    }
    Handle(request, socket);
  }
}

bool FakeRegistry::Authorize(const Request& request, const std::string& repository, bool push,
                             Socket& socket) {
  if (options_.auth == Auth::kNone) return true;
  std::string authorization = request.header("authorization");
  if (options_.auth == Auth::kBasic) {
    auto login = BasicLogin(authorization);
    if (login) {
      auto user = options_.users.find(login->first);
      if (user != options_.users.end() && user->second == login->second) return true;
    }
    socket.Answer(401, {{"WWW-Authenticate", "Basic realm=\"fake\""}},
                  ErrorBody("UNAUTHORIZED", "authentication required"));
    return false;
  }
  std::string wanted = repository.empty() ? ""
                                          : absl::StrCat("repository:", repository, ":",
                                                         push ? "pull,push" : "pull");
  absl::string_view token = authorization;
  if (absl::ConsumePrefix(&token, "Bearer ")) {
    absl::MutexLock lock(&mutex_);
    auto it = tokens_.find(std::string(token));
    if (it != tokens_.end() && it->second.second > NowSeconds()) {
      std::string prefix = absl::StrCat("repository:", repository, ":");
      bool enough = repository.empty();
      for (absl::string_view scope : absl::StrSplit(it->second.first, ' ', absl::SkipEmpty())) {
        if (!absl::StartsWith(scope, prefix)) continue;
        enough |= absl::StrContains(scope, push ? "push" : "pull");
      }
      if (enough) return true;
    }
  }
  std::string realm =
      options_.token_realm.empty() ? absl::StrCat(origin(), "/token") : options_.token_realm;
  socket.Answer(401,
                {{"WWW-Authenticate",
                  absl::StrCat("Bearer realm=\"", realm, "\",service=\"fake\"",
                               wanted.empty() ? "" : absl::StrCat(",scope=\"", wanted, "\""))}},
                ErrorBody("UNAUTHORIZED", "authentication required"));
  return false;
}

void FakeRegistry::Token(const Request& request, Socket& socket) {
  std::string user;
  std::string scopes;
  bool login_failed = false;
  auto check = [&](const std::string& name, const std::string& password) {
    auto it = options_.users.find(name);
    if (it != options_.users.end() && it->second == password) {
      user = name;
    } else {
      login_failed = true;
    }
  };
  if (request.method == "POST") {
    std::map<std::string, std::string> form;
    for (auto& [key, value] : ParseForm(request.body)) form[key] = value;
    scopes = form["scope"];
    if (form["grant_type"] == "refresh_token") {
      auto it = options_.refresh_tokens.find(form["refresh_token"]);
      if (it == options_.refresh_tokens.end()) {
        login_failed = true;
      } else {
        user = it->second;
      }
    } else {
      check(form["username"], form["password"]);
    }
  } else {
    scopes = absl::StrJoin(request.parameters("scope"), " ");
    auto login = BasicLogin(request.header("authorization"));
    if (login) check(login->first, login->second);
  }
  if (login_failed) {
    socket.Answer(401, {}, R"({"details":"incorrect username or password"})");
    return;
  }
  std::vector<std::string> granted;
  for (absl::string_view scope : absl::StrSplit(scopes, ' ', absl::SkipEmpty())) {
    if (user.empty() && (absl::StrContains(scope, "push") || !options_.anonymous_pull)) continue;
    granted.push_back(std::string(scope));
  }
  std::string token;
  int lifetime;
  {
    absl::MutexLock lock(&mutex_);
    token = absl::StrCat("token-", next_id_++, "-", user.empty() ? "anonymous" : user);
    lifetime = token_lifetime_;
    tokens_[token] = {absl::StrJoin(granted, " "), NowSeconds() + token_lifetime_};
  }
  socket.Answer(200, {{"Content-Type", "application/json"}},
                nlohmann::json{{"token", token}, {"expires_in", lifetime}}.dump());
}

void FakeRegistry::Handle(const Request& request, Socket& socket) {
  if (request.path == "/token") return Token(request, socket);
  absl::string_view path = request.path;
  if (!absl::ConsumePrefix(&path, "/v2/")) {
    socket.Answer(404, {}, "");
    return;
  }
  if (path.empty()) {
    if (Authorize(request, "", false, socket)) socket.Answer(200, {}, "{}");
    return;
  }
  if (path == "_catalog") {
    if (!Authorize(request, "", false, socket)) return;
    nlohmann::json names = nlohmann::json::array();
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [name, unused] : repositories_) names.push_back(name);
    }
    socket.Answer(200, {{"Content-Type", "application/json"}},
                  nlohmann::json{{"repositories", names}}.dump());
    return;
  }
  bool push = request.method != "GET" && request.method != "HEAD";
  for (absl::string_view mark :
       {"/manifests/", "/blobs/uploads/", "/blobs/", "/tags/list", "/referrers/"}) {
    size_t at = path.rfind(mark);
    if (at == absl::string_view::npos) continue;
    std::string repository(path.substr(0, at));
    std::string object(path.substr(at + mark.size()));
    if (!Authorize(request, repository, push, socket)) return;
    if (mark == "/manifests/") return ServeManifest(request, repository, object, socket);
    if (mark == "/blobs/uploads/") return ServeUpload(request, repository, object, socket);
    if (mark == "/blobs/") return ServeBlob(request, repository, object, socket);
    if (mark == "/tags/list") {
      std::vector<std::string> tags;
      {
        absl::MutexLock lock(&mutex_);
        auto it = repositories_.find(repository);
        if (it == repositories_.end()) {
          socket.Answer(404, {},
                        ErrorBody("NAME_UNKNOWN", "repository name not known to registry"));
          return;
        }
        for (const auto& [tag, unused] : it->second.tags) tags.push_back(tag);
      }
      std::string last = request.parameter("last");
      size_t limit = 1000;
      if (!request.parameter("n").empty() && !absl::SimpleAtoi(request.parameter("n"), &limit))
        limit = 1000;
      // Pages are small, so that they get tested.
      limit = std::min<size_t>(limit, 3);
      std::vector<std::string> page;
      bool more = false;
      for (const std::string& tag : tags) {
        if (!last.empty() && tag <= last) continue;
        if (page.size() == limit) {
          more = true;
          break;
        }
        page.push_back(tag);
      }
      std::vector<std::pair<std::string, std::string>> headers = {
          {"Content-Type", "application/json"}};
      if (more) {
        headers.emplace_back("Link", absl::StrCat("</v2/", repository, "/tags/list?last=",
                                                  page.back(), "&n=", limit, ">; rel=\"next\""));
      }
      socket.Answer(200, headers, nlohmann::json{{"name", repository}, {"tags", page}}.dump());
      return;
    }
    nlohmann::json manifests = nlohmann::json::array();
    {
      absl::MutexLock lock(&mutex_);
      if (!referrers_) {
        socket.Answer(404, {}, "404 page not found");
        return;
      }
      for (const auto& [digest, manifest] : repositories_[repository].manifests) {
        nlohmann::json document = nlohmann::json::parse(manifest.second, nullptr, false);
        if (!document.is_object() || !document.contains("subject") ||
            document["subject"]["digest"] != object)
          continue;
        manifests.push_back({{"mediaType", manifest.first},
                             {"digest", digest},
                             {"size", manifest.second.size()},
                             {"artifactType", document.value("artifactType", "")}});
      }
    }
    nlohmann::json index = {{"schemaVersion", 2},
                            {"mediaType", "application/vnd.oci.image.index.v1+json"},
                            {"manifests", manifests}};
    socket.Answer(200, {{"Content-Type", "application/vnd.oci.image.index.v1+json"}}, index.dump());
    return;
  }
  socket.Answer(404, {}, ErrorBody("UNSUPPORTED", "no such endpoint"));
}

void FakeRegistry::ServeManifest(const Request& request, const std::string& repository,
                                 const std::string& object, Socket& socket) {
  if (request.method == "PUT") {
    content::Digest digest = content::Digest::Sha256Of(request.body);
    nlohmann::json document = nlohmann::json::parse(request.body, nullptr, false);
    bool subject = document.is_object() && document.contains("subject");
    std::vector<std::pair<std::string, std::string>> headers = {
        {"Location", absl::StrCat("/v2/", repository, "/manifests/", digest.str())},
        {"Docker-Content-Digest", digest.str()}};
    std::string missing;
    {
      absl::MutexLock lock(&mutex_);
      Repository& target = repositories_[repository];
      std::vector<nlohmann::json> children;
      if (document.is_object() && document.contains("layers")) {
        for (const nlohmann::json& layer : document["layers"]) children.push_back(layer);
        children.push_back(document["config"]);
      }
      for (const nlohmann::json& child : children) {
        if (target.blobs.count(child.value("digest", "")) == 0) missing = child.value("digest", "");
      }
      if (missing.empty()) {
        target.manifests[digest.str()] = {request.header("content-type"), request.body};
        if (!absl::StrContains(object, ":")) target.tags[object] = digest.str();
        if (subject && referrers_)
          headers.emplace_back("OCI-Subject", document["subject"].value("digest", ""));
      }
    }
    if (!missing.empty()) {
      socket.Answer(
          400, {},
          ErrorBody("MANIFEST_BLOB_UNKNOWN", absl::StrCat("blob unknown to registry: ", missing)));
      return;
    }
    socket.Answer(201, headers, "");
    return;
  }
  if (request.method == "DELETE") {
    bool gone = false;
    {
      absl::MutexLock lock(&mutex_);
      Repository& target = repositories_[repository];
      gone = target.manifests.erase(object) > 0 || target.tags.erase(object) > 0;
      for (auto it = target.tags.begin(); it != target.tags.end();) {
        it = it->second == object ? target.tags.erase(it) : std::next(it);
      }
    }
    socket.Answer(gone ? 202 : 404, {},
                  gone ? "" : ErrorBody("MANIFEST_UNKNOWN", "manifest unknown"));
    return;
  }
  std::string type, bytes;
  {
    absl::MutexLock lock(&mutex_);
    Repository& source = repositories_[repository];
    auto tag = source.tags.find(object);
    auto it = source.manifests.find(tag == source.tags.end() ? object : tag->second);
    if (it != source.manifests.end()) {
      type = it->second.first;
      bytes = it->second.second;
    }
  }
  if (bytes.empty()) {
    socket.Answer(404, {}, ErrorBody("MANIFEST_UNKNOWN", "manifest unknown"));
    return;
  }
  socket.Answer(
      200,
      {{"Content-Type", type}, {"Docker-Content-Digest", content::Digest::Sha256Of(bytes).str()}},
      bytes);
}

void FakeRegistry::ServeBlob(const Request& request, const std::string& repository,
                             const std::string& digest, Socket& socket) {
  std::shared_ptr<const std::string> blob;
  bool found = false, ranges = true;
  int64_t rate = 0, break_after = -1;
  {
    absl::MutexLock lock(&mutex_);
    Repository& source = repositories_[repository];
    auto it = source.blobs.find(digest);
    found = it != source.blobs.end();
    if (request.method == "DELETE") {
      if (found) source.blobs.erase(it);
    } else if (found) {
      blob = it->second;
      ranges = ranges_;
      rate = rate_;
      if (request.method == "GET" && break_blobs_times_ > 0) {
        --break_blobs_times_;
        break_after = break_blobs_after_;
      }
    }
  }
  if (!found) {
    socket.Answer(404, {}, ErrorBody("BLOB_UNKNOWN", "blob unknown to registry"));
    return;
  }
  if (request.method == "DELETE") {
    socket.Answer(202, {}, "");
    return;
  }
  std::vector<std::pair<std::string, std::string>> headers = {
      {"Content-Type", "application/octet-stream"}, {"Docker-Content-Digest", digest}};
  int status = 200;
  const std::string& bytes = *blob;
  absl::string_view body = bytes;
  absl::string_view range = "";
  std::string range_header = request.header("range");
  if (ranges && !range_header.empty()) {
    range = range_header;
    absl::ConsumePrefix(&range, "bytes=");
    std::pair<std::string, std::string> ends = absl::StrSplit(range, absl::MaxSplits('-', 1));
    int64_t first = 0, last = static_cast<int64_t>(bytes.size()) - 1, wanted_last = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) first = 0;
    if (absl::SimpleAtoi(ends.second, &wanted_last)) last = std::min(last, wanted_last);
    if (first > last) {
      socket.Answer(416, {{"Content-Range", absl::StrCat("bytes */", bytes.size())}}, "");
      return;
    }
    status = 206;
    headers.emplace_back("Content-Range",
                         absl::StrCat("bytes ", first, "-", last, "/", bytes.size()));
    body = body.substr(first, last - first + 1);
  }
  headers.emplace_back("Content-Length", absl::StrCat(body.size()));
  if (!socket.Answer(status, headers, "") || request.method == "HEAD") return;
  int64_t sent = 0;
  absl::Duration started = Clock::Real().Monotonic();
  while (!body.empty() && !stopping_) {
    size_t n =
        std::min<size_t>(body.size(), rate > 0 ? std::max<int64_t>(1024, rate / 400) : 256 << 10);
    if (break_after >= 0) n = std::min<int64_t>(n, break_after - sent);
    if (n == 0) {
      // What was sent shall arrive: an RST would make the other side drop what it has not read.
      socket.Close();
      return;
    }
    if (!socket.Raw(body.substr(0, n))) return;
    blob_bytes_sent_ += n;
    sent += n;
    body.remove_prefix(n);
    if (rate > 0) {
      absl::Duration due =
          absl::Seconds(static_cast<double>(sent) / rate) - (Clock::Real().Monotonic() - started);
      if (due > absl::ZeroDuration())
        absl::SleepFor(due);  // this is the slow network, not a wait of a test
    }
  }
}

void FakeRegistry::ServeUpload(const Request& request, const std::string& repository,
                               const std::string& id, Socket& socket) {
  auto location = [&](const std::string& which) {
    return absl::StrCat("/v2/", repository, "/blobs/uploads/", which, "?state=x");
  };
  if (request.method == "POST") {
    std::string mount = request.parameter("mount"), from = request.parameter("from");
    absl::MutexLock lock(&mutex_);
    if (!mount.empty() && repositories_.count(from) > 0 &&
        repositories_[from].blobs.count(mount) > 0) {
      repositories_[repository].blobs[mount] = repositories_[from].blobs[mount];
      socket.Answer(201,
                    {{"Location", absl::StrCat("/v2/", repository, "/blobs/", mount)},
                     {"Docker-Content-Digest", mount}},
                    "");
      return;
    }
    std::string fresh = absl::StrCat("upload-", next_id_++);
    uploads_[fresh].repository = repository;
    socket.Answer(202, {{"Location", location(fresh)}, {"Range", "0-0"}}, "");
    return;
  }
  absl::MutexLock lock(&mutex_);
  auto it = uploads_.find(id);
  if (it == uploads_.end()) {
    socket.Answer(404, {}, ErrorBody("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"));
    return;
  }
  std::string& bytes = it->second.bytes;
  if (request.method == "GET") {
    socket.Answer(204,
                  {{"Location", location(id)},
                   {"Range", absl::StrCat("0-", bytes.empty() ? 0 : bytes.size() - 1)}},
                  "");
    return;
  }
  if (request.method == "DELETE") {
    uploads_.erase(it);
    socket.Answer(204, {}, "");
    return;
  }
  std::string range = request.header("content-range");
  if (!range.empty()) {
    int64_t first = -1;
    std::pair<std::string, std::string> ends = absl::StrSplit(range, absl::MaxSplits('-', 1));
    if (!absl::SimpleAtoi(ends.first, &first) || first != static_cast<int64_t>(bytes.size())) {
      socket.Answer(416,
                    {{"Location", location(id)},
                     {"Range", absl::StrCat("0-", bytes.empty() ? 0 : bytes.size() - 1)}},
                    "");
      return;
    }
  }
  bytes += request.body;
  if (!request.body_complete) {
    socket.Reset();
    return;
  }
  if (request.method == "PATCH") {
    socket.Answer(202,
                  {{"Location", location(id)},
                   {"Range", absl::StrCat("0-", bytes.empty() ? 0 : bytes.size() - 1)}},
                  "");
    return;
  }
  std::string digest = request.parameter("digest");
  if (content::Digest::Sha256Of(bytes).str() != digest) {
    uploads_.erase(it);
    socket.Answer(400, {},
                  ErrorBody("DIGEST_INVALID", "provided digest did not match uploaded content"));
    return;
  }
  repositories_[repository].blobs[digest] = std::make_shared<const std::string>(std::move(bytes));
  uploads_.erase(it);
  socket.Answer(201,
                {{"Location", absl::StrCat("/v2/", repository, "/blobs/", digest)},
                 {"Docker-Content-Digest", digest}},
                "");
}

}  // namespace gantry::distribution
