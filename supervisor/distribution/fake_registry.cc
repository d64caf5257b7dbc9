#include "supervisor/distribution/fake_registry.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <optional>

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
#include "base/status_macros.h"
#include "supervisor/http/server.h"

namespace gantry::distribution {
namespace {

int64_t NowSeconds() { return absl::ToInt64Seconds(Clock::Real().Monotonic()); }

std::string ErrorBody(absl::string_view code, absl::string_view message) {
  nlohmann::json error = {{"code", std::string(code)}, {"message", std::string(message)}};
  return nlohmann::json{{"errors", nlohmann::json::array({error})}}.dump();
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
  for (const auto& [key, value] : http::ParseQuery(query)) {
    if (key == name) out.push_back(value);
  }
  return out;
}

std::string FakeRegistry::Request::parameter(absl::string_view name) const {
  std::vector<std::string> all = parameters(name);
  return all.empty() ? "" : all.front();
}

// A connection, plain or encrypted, that can end in every bad way. Reads and writes block: this
// server serves tests only.
class FakeRegistry::Channel : public http::Transport {
 public:
  Channel(UniqueFd fd, SSL_CTX* tls, int number) : fd_(std::move(fd)), tls_(tls), number_(number) {
    fcntl(fd_.get(), F_SETFL, fcntl(fd_.get(), F_GETFL) & ~O_NONBLOCK);
    const int on = 1;
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Channel() override {
    if (ssl_ != nullptr && !reset_) SSL_shutdown(ssl_);
    if (ssl_ != nullptr) SSL_free(ssl_);
  }

  absl::Status Handshake() override {
    if (tls_ != nullptr) {
      ssl_ = SSL_new(tls_);
      SSL_set_fd(ssl_, fd_.get());
      if (SSL_accept(ssl_) != 1) return absl::UnavailableError("no TLS handshake");
      return absl::OkStatus();
    }
    // A TLS handshake, which Go's servers answer like this.
    char first = 0;
    if (recv(fd_.get(), &first, 1, MSG_PEEK) == 1 && first == '\x16') {
      GANTRY_RETURN_IF_ERROR(Send(
          "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n"));
      return absl::InvalidArgumentError("TLS where none is spoken");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration) override {
    ssize_t got;
    if (ssl_ != nullptr) {
      got = SSL_read(ssl_, buffer, static_cast<int>(std::min<size_t>(size, 1 << 20)));
    } else {
      do {
        got = recv(fd_.get(), buffer, size, 0);
      } while (got < 0 && errno == EINTR);
    }
    if (got < 0) return absl::UnavailableError("read");
    return static_cast<size_t>(got);
  }

  absl::Status Write(absl::string_view bytes, absl::Duration, absl::Duration) override {
    return Send(bytes);
  }
  absl::Status Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t sent;
      if (ssl_ != nullptr) {
        sent = SSL_write(ssl_, bytes.data(),
                         static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20)));
      } else {
        sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
      }
      if (sent <= 0) return absl::UnavailableError("write");
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return absl::OkStatus();
  }

  // An encrypted connection says its last word in the destructor; one with SO_LINGER 0 set is reset
  // when its descriptor is closed.
  void Close() override {
    if (!reset_ && ssl_ == nullptr) shutdown(fd_.get(), SHUT_WR);
  }
  void Reset() {
    const linger now = {1, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    reset_ = true;
  }
  void Break() override { shutdown(fd_.get(), SHUT_RDWR); }
  UniqueFd Release() override { return UniqueFd(); }

  int number() const { return number_; }

 private:
  const UniqueFd fd_;
  SSL_CTX* const tls_;
  const int number_;
  SSL* ssl_ = nullptr;
  bool reset_ = false;
};

// One request's connection, as hooks and the registry answer on it.
class FakeRegistry::Socket : public FakeRegistry::Connection {
 public:
  explicit Socket(http::Exchange& exchange)
      : exchange_(exchange), channel_(static_cast<Channel&>(exchange.transport())) {}

  int number() const override { return channel_.number(); }
  bool Raw(absl::string_view bytes) override {
    exchange_.AnsweredRaw();
    return Note(channel_.Send(bytes));
  }
  bool Answer(int status, const http::Fields& fields, absl::string_view body) override {
    return Note(exchange_.Respond(status, fields, body));
  }
  // An answer whose body follows with Write().
  bool Begin(int status, const http::Fields& fields) {
    return Note(exchange_.Begin(status, fields));
  }
  bool Write(absl::string_view bytes) { return Note(exchange_.Write(bytes)); }
  void End() { Note(exchange_.End()); }
  void Close() override {
    exchange_.AnsweredRaw();
    exchange_.CloseAfter();
  }
  void Reset() override {
    Close();
    channel_.Reset();
  }
  bool stopping() const override { return exchange_.stopping(); }

 private:
  bool Note(const absl::Status& status) {
    if (!status.ok()) exchange_.CloseAfter();
    return status.ok();
  }

  http::Exchange& exchange_;
  Channel& channel_;
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
  absl::StatusOr<UniqueFd> listener = http::ListenTcp("127.0.0.1:0");
  if (!listener.ok()) Fatal("listen");
  http::Server::Options serving;
  serving.thread_name = "registry";
  serving.limits.head_bytes = 256 << 10;
  serving.transport = [this](UniqueFd fd) {
    return std::make_unique<Channel>(std::move(fd), tls_, ++connections_);
  };
  absl::StatusOr<std::unique_ptr<http::Server>> server =
      http::Server::Start(*std::move(listener), std::move(serving),
                          [this](http::Exchange& exchange) { Serve(exchange); });
  if (!server.ok()) Fatal("serve");
  server_ = *std::move(server);
}

FakeRegistry::~FakeRegistry() {
  server_.reset();
  if (tls_ != nullptr) SSL_CTX_free(tls_);
}

int FakeRegistry::port() const { return server_->port(); }
std::string FakeRegistry::host() const { return absl::StrCat("127.0.0.1:", port()); }
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

FakeRegistry::Request FakeRegistry::ReadRequest(http::Exchange& exchange) {
  const http::RequestHead& head = exchange.head();
  Request request;
  request.method = head.method;
  request.path = http::PercentDecode(head.path, /*in_query=*/false);
  request.query = head.query;
  request.headers = head.fields;
  size_t limit = std::numeric_limits<size_t>::max();
  bool break_here = false;
  if (absl::StrContains(request.path, "/blobs/uploads/")) {
    int64_t length = 0;
    if (!absl::SimpleAtoi(head.field("content-length"), &length)) length = 0;
    absl::MutexLock lock(&mutex_);
    if (break_uploads_times_ > 0 && length > break_uploads_after_) {
      --break_uploads_times_;
      break_here = true;
      limit = static_cast<size_t>(break_uploads_after_);
    }
  }
  std::string chunk(64 << 10, '\0');
  while (request.body.size() < limit) {
    const absl::StatusOr<size_t> got =
        exchange.ReadBody(chunk.data(), std::min(chunk.size(), limit - request.body.size()));
    if (!got.ok()) request.body_complete = false;
    if (!got.ok() || *got == 0) break;
    request.body.append(chunk, 0, *got);
  }
  if (break_here) request.body_complete = false;
  return request;
}

void FakeRegistry::Serve(http::Exchange& exchange) {
  const Request request = ReadRequest(exchange);
  Socket socket(exchange);
  Hook hook;
  {
    absl::MutexLock lock(&mutex_);
    Request logged = request;
    logged.body.clear();
    requests_.push_back(std::move(logged));
    hook = hook_;
  }
  if (hook && hook(request, socket)) {
    // A hook that says nothing leaves its client without an answer.
    if (!exchange.begun()) socket.Close();
    return;
  }
  Handle(request, socket);
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
    for (auto& [key, value] : http::ParseQuery(request.body)) form[key] = value;
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
  if (!socket.Begin(status, headers)) return;
  if (request.method == "HEAD") return socket.End();
  int64_t sent = 0;
  absl::Duration started = Clock::Real().Monotonic();
  while (!body.empty() && !socket.stopping()) {
    size_t n =
        std::min<size_t>(body.size(), rate > 0 ? std::max<int64_t>(1024, rate / 400) : 256 << 10);
    if (break_after >= 0) n = std::min<int64_t>(n, break_after - sent);
    if (n == 0) {
      // What was sent shall arrive: an RST would make the other side drop what it has not read.
      socket.Close();
      return;
    }
    if (!socket.Write(body.substr(0, n))) return;
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
  socket.End();
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
