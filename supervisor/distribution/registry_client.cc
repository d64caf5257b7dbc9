#include "supervisor/distribution/registry_client.h"

#include <algorithm>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/http_client.h"
#include "supervisor/distribution/registry_auth.h"

namespace gantry::distribution {
namespace {

constexpr size_t kMaxErrorBody = 64 << 10;
constexpr absl::Duration kPlainHostMemory = absl::Minutes(1);
// A host that was there so short ago is worth waiting for.
constexpr absl::Duration kAnsweredLately = absl::Minutes(1);
constexpr size_t kMaxAnswered = 1024;

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool IsTransient(int status) {
  return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
         status == 503 || status == 504;
}

absl::StatusCode CodeFor(int status) {
  switch (status) {
    case 400:
      return absl::StatusCode::kInvalidArgument;
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
    case 410:
      return absl::StatusCode::kNotFound;
    case 405:
    case 409:
    case 412:
    case 413:
    case 415:
    case 422:
      return absl::StatusCode::kFailedPrecondition;
    case 416:
      return absl::StatusCode::kOutOfRange;
    case 429:
      return absl::StatusCode::kResourceExhausted;
    case 501:
      return absl::StatusCode::kUnimplemented;
    default:
      return status >= 500 || status == 408 || status == 425
                 ? absl::StatusCode::kUnavailable
                 : absl::StatusCode::kFailedPrecondition;
  }
}

// A registry's words, fit for a terminal and a log line.
std::string Shown(absl::string_view text, size_t limit) {
  std::string out;
  for (char c : text) {
    if (out.size() >= limit) {
      out += "...";
      break;
    }
    unsigned char byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f || byte >= 0x80 ? ' ' : c;
  }
  return std::string(absl::StripAsciiWhitespace(out));
}

// {"errors":[{"code":...,"message":...,"detail":...}]}
std::string ErrorText(absl::string_view body) {
  nlohmann::json object =
      nlohmann::json::parse(body.begin(), body.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return "";
  auto text = [](const nlohmann::json& value, const char* key) {
    auto it = value.find(key);
    return it != value.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  auto errors = object.find("errors");
  if (errors != object.end() && errors->is_array() && !errors->empty() &&
      errors->front().is_object()) {
    const nlohmann::json& error = errors->front();
    std::string code = text(error, "code"), message = text(error, "message"),
                detail = text(error, "detail");
    std::string out = code;
    if (!message.empty()) absl::StrAppend(&out, out.empty() ? "" : ": ", message);
    if (!detail.empty()) absl::StrAppend(&out, out.empty() ? "" : ": ", detail);
    return Shown(out, 400);
  }
  return Shown(text(object, "message"), 400);
}

// Seconds, or a date. Zero: not given.
absl::Duration RetryAfter(absl::string_view value) {
  int64_t seconds = 0;
  if (absl::SimpleAtoi(value, &seconds))
    return absl::Seconds(std::clamp<int64_t>(seconds, 0, 86400 * 30));
  absl::Time when;
  if (!value.empty() && absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", value, &when, nullptr)) {
    return std::max(absl::ZeroDuration(), when - absl::Now());
  }
  return absl::ZeroDuration();
}

int Telling(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kFailedPrecondition:
      return 6;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 5;
    case absl::StatusCode::kResourceExhausted:
      return 4;
    case absl::StatusCode::kNotFound:
      return 3;
    case absl::StatusCode::kUnavailable:
      return 2;
    default:
      return 1;
  }
}

// 299 - "text"
std::string WarningText(absl::string_view header) {
  size_t open = header.find('"'), close = header.rfind('"');
  if (!absl::StartsWith(header, "299") || open == absl::string_view::npos || close <= open)
    return "";
  return Shown(header.substr(open + 1, close - open - 1), 500);
}

}  // namespace

absl::string_view RegistryResponse::header(absl::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

// The life of one Send(): several exchanges with the host and with those it redirects to.
class RegistryClient::Call {
 public:
  Call(RegistryClient& client, const RegistryHost& host, const RegistryRequest& request,
       const CallContext& context, ResponseSink* sink)
      : client_(client), host_(host), request_(request), context_(context), sink_(sink) {}

  absl::StatusOr<RegistryResponse> Run();

 private:
  // One exchange with one server.
  class Receiver : public HttpReceiver {
   public:
    Receiver(Call& call, const Url& url) : call_(call), url_(url) {}

    absl::Status OnHead(const HttpHead& head) override {
      response.status = head.status;
      response.headers = head.headers;
      response.url = url_.without_query();
      reason = head.reason;
      success_ = head.status >= 200 && head.status < 300;
      absl::string_view location = head.header("location");
      if (!location.empty()) {
        absl::StatusOr<Url> target = url_.Resolve(location);
        if (target.ok()) {
          // Behind a proxy that ends TLS, registries often call themselves http. The stronger
          // scheme is kept.
          if (target->host == url_.host && target->scheme == "http" && url_.scheme == "https")
            target->scheme = "https";
          response.location = target->str();
        } else {
          location_error = target.status();
        }
      }
      if (success_ && call_.sink_ != nullptr) {
        begun = true;
        return call_.sink_->Begin(response);
      }
      return absl::OkStatus();
    }

    absl::Status OnBody(absl::string_view bytes) override {
      if (begun) return call_.sink_->Write(bytes);
      int64_t limit = success_ ? call_.request_.max_response_bytes : kMaxErrorBody;
      if (static_cast<int64_t>(response.body.size() + bytes.size()) > limit) {
        cut = true;
        return absl::ResourceExhaustedError(
            absl::StrCat("the answer is larger than ", limit, " bytes"));
      }
      response.body.append(bytes.data(), bytes.size());
      return absl::OkStatus();
    }

    RegistryResponse response;
    std::string reason;
    absl::Status location_error;
    bool begun = false;
    bool cut = false;  // we stopped reading, the body was beyond its limit

   private:
    Call& call_;
    const Url url_;
    bool success_ = false;
  };

  absl::StatusOr<Url> FirstUrl() const;
  absl::Status Wait(absl::Duration how_long) const;
  std::string What() const {
    return absl::StrCat("registry ", host_.origin(), ": ", request_.method, " ", shown_path_);
  }
  absl::Status Fail(absl::StatusCode code, absl::string_view text) const {
    return absl::Status(code,
                        Redact(absl::StrCat(What(), ": ", text), credential_, authorization_));
  }
  absl::Status TooNear(const Url& url) const {
    return Fail(absl::StatusCode::kFailedPrecondition,
                absl::StrCat("leads to ", url.origin(),
                             ", an address of this machine or its network, where a registry on ",
                             NameOf(nearest_),
                             " must not send us; private_redirects = true for this host in its "
                             "hosts.toml allows it"));
  }
  void Report(const Url& url, int status, absl::string_view answer, bool authorized,
              absl::Duration took) const;
  AuthRequest Auth() const;

  RegistryClient& client_;
  RegistryHost host_;  // a copy: its scheme may fall back to http
  const RegistryRequest& request_;
  const CallContext& context_;
  ResponseSink* const sink_;

  std::string shown_path_;
  Reach nearest_ = Reach::kPublic;  // what the registry may name: nothing nearer than itself
  std::optional<Credential> credential_;
  absl::Status credential_error_;
  std::string authorization_;
};

absl::StatusOr<Url> RegistryClient::Call::FirstUrl() const {
  Url url;
  if (absl::StrContains(request_.path, "://")) {
    GANTRY_ASSIGN_OR_RETURN(url, Url::Parse(request_.path));
  } else {
    GANTRY_ASSIGN_OR_RETURN(url,
                            Url::Parse(absl::StrCat(host_.origin(), host_.path, request_.path)));
  }
  auto add = [&](absl::string_view name, absl::string_view value) {
    absl::StrAppend(&url.target, absl::StrContains(url.target, "?") ? "&" : "?", UrlEncode(name),
                    "=", UrlEncode(value));
  };
  for (const auto& [name, value] : request_.query) add(name, value);
  if (host_.mirror && url.origin() == host_.origin()) add("ns", host_.upstream_domain);
  return url;
}

AuthRequest RegistryClient::Call::Auth() const {
  AuthRequest auth;
  auth.host = &host_;
  auth.credential = &credential_;
  if (!request_.scope_repository.empty()) {
    auth.scopes.push_back(
        absl::StrCat("repository:", request_.scope_repository, ":", request_.scope_actions));
  }
  if (!request_.extra_scope.empty()) auth.scopes.push_back(request_.extra_scope);
  std::sort(auth.scopes.begin(), auth.scopes.end());
  auth.cancel = context_.cancel;
  auth.nearest = nearest_;
  auth.connect_timeout = client_.options_.connect_timeout;
  auth.stall_timeout = client_.options_.stall_timeout;
  return auth;
}

absl::Status RegistryClient::Call::Wait(absl::Duration how_long) const {
  if (context_.cancel != nullptr) return context_.cancel->Sleep(how_long);
  absl::SleepFor(how_long);
  return absl::OkStatus();
}

void RegistryClient::Call::Report(const Url& url, int status, absl::string_view answer,
                                  bool authorized, absl::Duration took) const {
  if (!context_.on_attempt) return;
  Attempt attempt;
  attempt.host = url.origin();
  attempt.rule =
      url.origin() == host_.origin() ? host_.rule : absl::StrCat("redirected by ", host_.origin());
  attempt.request = absl::StrCat(request_.method, " ", url.target.substr(0, url.target.find('?')));
  attempt.credential = !authorized   ? "anonymous"
                       : credential_ ? credential_->source
                                     : "anonymous token";
  attempt.status = status;
  attempt.answer = Redact(std::string(answer), credential_, authorization_);
  attempt.took = took;
  context_.on_attempt(attempt);
}

absl::StatusOr<RegistryResponse> RegistryClient::Call::Run() {
  const RegistryClientOptions& options = client_.options_;
  CredentialSource* source =
      context_.credentials != nullptr ? context_.credentials : options.credentials;
  if (source != nullptr) {
    // A helper that fails is no reason to refuse a public image; if it comes to a 401, its failure
    // is the explanation.
    absl::StatusOr<std::optional<Credential>> found = source->Find(host_.host);
    if (found.ok()) {
      credential_ = *std::move(found);
    } else {
      credential_error_ = found.status();
    }
  }
  if (host_.http_fallback && host_.scheme == "https") {
    absl::MutexLock lock(&client_.mutex_);
    auto it = client_.plain_hosts_.find(host_.host);
    if (it != client_.plain_hosts_.end() &&
        Clock::Real().Monotonic() - it->second < kPlainHostMemory)
      host_.scheme = "http";
  }
  absl::StatusOr<Url> first = FirstUrl();
  if (!first.ok()) return first.status();
  shown_path_ = first->target.substr(0, first->target.find('?'));
  bool answered_lately = false;
  {
    absl::MutexLock lock(&client_.mutex_);
    auto known = client_.answered_.find(host_.host);
    if (known != client_.answered_.end()) {
      answered_lately = Clock::Real().Monotonic() - known->second.at < kAnsweredLately;
      nearest_ = known->second.peer;
    }
  }
  nearest_ = std::max({nearest_, ReachOfHost(host_.host),
                       host_.private_redirects ? Reach::kLoopback : Reach::kPublic});
  authorization_ = client_.tokens_->Known(Auth());

  int max_attempts = request_.retry ? (request_.last_resort ? options.max_attempts
                                                            : std::min(options.max_attempts, 2))
                                    : 1;
  int attempt = 1;
  int redirects = 0;
  int auth_rounds = 0;
  bool fresh_token = false;  // what is sent was made for this call; refused, it is an answer
  Url url = *first;
  auto start_over = [&] {
    url = *first;
    if (host_.http_fallback && url.host == host_.host) url.scheme = host_.scheme;
    redirects = 0;
  };
  const auto tell_retry = [&](absl::string_view why, absl::Duration wait) {
    if (!context_.on_retry) return;
    const std::string when =
        wait > absl::ZeroDuration() ? absl::StrCat("in ", absl::FormatDuration(wait), " ") : "";
    context_.on_retry(absl::StrCat(when, "(", attempt + 1, " of ", max_attempts,
                                   "): ", url.origin(), ": ",
                                   Redact(std::string(why), credential_, authorization_)));
  };
  while (true) {
    bool own = url.origin() == host_.origin();
    HttpRequest http;
    http.method = request_.method;
    http.url = url;
    http.headers = request_.headers;
    // Bodies are named by the digest of their bytes, so no encoding on the way.
    http.headers.emplace_back("Accept-Encoding", "identity");
    bool authorized = own && !authorization_.empty();
    if (authorized) http.headers.emplace_back("Authorization", authorization_);
    if (own) {
      http.headers.insert(http.headers.end(), host_.headers.begin(), host_.headers.end());
      http.headers.insert(http.headers.end(), context_.headers.begin(), context_.headers.end());
    }
    std::unique_ptr<ByteSource> body;
    if (request_.open_body) {
      GANTRY_ASSIGN_OR_RETURN(body, request_.open_body());
      http.source = body.get();
      http.body_size_bytes = request_.body_size_bytes;
    } else {
      http.body = request_.body;
      http.body_size_bytes = request_.body.size();
    }
    TlsConfig tls = host_.tls;
    if (!own) tls.client_pairs.clear();
    http.tls = &tls;
    http.connect_timeout = std::min(host_.dial_timeout, options.connect_timeout);
    http.stall_timeout = options.stall_timeout;
    http.min_bytes_per_stall = options.min_bytes_per_stall;
    http.cancel = context_.cancel;
    if (!own) {
      // By address when it is one, because a proxy would connect without asking; else once the name
      // has become one.
      http.nearest = nearest_;
      if (ReachOfHost(url.host) > nearest_) return TooNear(url);
    }

    Receiver receiver(*this, url);
    absl::Duration started = Clock::Real().Monotonic();
    HttpResult result = options.http->Do(http, receiver);
    absl::Duration took = Clock::Real().Monotonic() - started;
    RegistryResponse& response = receiver.response;
    int status = response.status;
    bool success = status >= 200 && status < 300;
    std::string answer;
    if (result.got_head) {
      answer = absl::StrCat(status, " ", Shown(receiver.reason, 60));
      std::string detail = success ? "" : ErrorText(response.body);
      if (!detail.empty()) absl::StrAppend(&answer, ": ", detail);
    }
    Report(url, status, result.got_head ? answer : std::string(result.status.message()), authorized,
           took);
    for (const auto& [name, value] : response.headers) {
      if (name != "warning" || !context_.on_warning) continue;
      std::string text = WarningText(value);
      if (!text.empty()) context_.on_warning(text);
    }

    if (result.too_near) return TooNear(url);
    if (own && result.got_head) {
      nearest_ = std::max(nearest_, result.peer);
      answered_lately = true;
      absl::MutexLock lock(&client_.mutex_);
      if (client_.answered_.size() >= kMaxAnswered) client_.answered_.clear();
      client_.answered_[host_.host] = {Clock::Real().Monotonic(), result.peer};
    }

    // An error's body that was cut short still says enough.
    bool transport_ok = result.status.ok() || (receiver.cut && !success);
    if (!transport_ok) {
      if (result.from_caller && receiver.begun) return result.status;
      if (result.from_caller) return Fail(result.status.code(), result.status.message());
      if (absl::IsCancelled(result.status) || absl::IsDeadlineExceeded(result.status)) {
        return absl::Status(result.status.code(),
                            absl::StrCat(What(), ": ", result.status.message()));
      }
      if (receiver.begun) return Fail(result.status.code(), result.status.message());
      bool may_be_plain = own && host_.http_fallback && host_.scheme == "https" &&
                          !result.got_head &&
                          (result.tls_failed || absl::IsUnavailable(result.status));
      if (may_be_plain) {
        host_.scheme = "http";
        url.scheme = "http";
        authorization_.clear();
        continue;
      }
      // A host that is not there is a mistyped name far more often than one that will be back; one
      // that has just answered will.
      const bool not_there = (result.no_such_host || result.refused) && !answered_lately;
      if (!absl::IsUnavailable(result.status) || not_there || attempt >= max_attempts) {
        std::string from = own ? "" : absl::StrCat("redirected to ", url.origin(), ": ");
        std::string tries = attempt > 1 ? absl::StrCat(" (", attempt, " attempts)") : "";
        return Fail(result.status.code(), absl::StrCat(from, result.status.message(), tries));
      }
      tell_retry(result.status.message(), absl::ZeroDuration());
      GANTRY_RETURN_IF_ERROR(client_.Backoff(attempt, context_));
      ++attempt;
      start_over();
      continue;
    }

    if (own && host_.http_fallback && host_.scheme == "http") {
      absl::MutexLock lock(&client_.mutex_);
      client_.plain_hosts_[host_.host] = Clock::Real().Monotonic();
    }
    if (success) return std::move(response);

    if (IsRedirect(status) && request_.may_redirect) {
      if (response.location.empty()) {
        return Fail(absl::StatusCode::kDataLoss,
                    absl::StrCat("redirects to nowhere: ",
                                 receiver.location_error.ok() ? "no Location"
                                                              : receiver.location_error.message()));
      }
      if (++redirects > options.max_redirects) {
        return Fail(absl::StatusCode::kDataLoss,
                    absl::StrCat("redirects more than ", options.max_redirects, " times"));
      }
      GANTRY_ASSIGN_OR_RETURN(Url next, Url::Parse(response.location));
      if (url.scheme == "https" && next.scheme == "http") {
        return Fail(
            absl::StatusCode::kFailedPrecondition,
            absl::StrCat("redirects from https to plain http (", next.origin(), "): refused"));
      }
      if (request_.method != "GET" && request_.method != "HEAD" &&
          next.origin() != host_.origin()) {
        return Fail(absl::StatusCode::kFailedPrecondition,
                    absl::StrCat("redirects an upload to ", next.origin(), ": refused"));
      }
      url = std::move(next);
      continue;
    }

    if (status == 401 && own && !fresh_token && auth_rounds++ < 4) {
      std::vector<Challenge> challenges;
      for (const auto& [name, value] : response.headers) {
        if (name != "www-authenticate") continue;
        std::vector<Challenge> more = ParseChallenges(value);
        challenges.insert(challenges.end(), more.begin(), more.end());
      }
      absl::StatusOr<std::string> next =
          client_.tokens_->Answer(Auth(), challenges, authorization_, fresh_token);
      if (!next.ok()) {
        std::string helper =
            credential_error_.ok() ? "" : absl::StrCat(" (", credential_error_.message(), ")");
        return Fail(next.status().code(),
                    absl::StrCat(answer, ": ", next.status().message(), helper));
      }
      authorization_ = *std::move(next);
      continue;
    }

    if (IsTransient(status) && attempt < max_attempts) {
      absl::Duration wait = RetryAfter(response.header("retry-after"));
      if (wait > options.max_retry_after) {
        return Fail(CodeFor(status),
                    absl::StrCat(answer, "; it asks to wait ", absl::FormatDuration(wait),
                                 " before the next try"));
      }
      tell_retry(answer, wait);
      if (wait > absl::ZeroDuration()) {
        GANTRY_RETURN_IF_ERROR(Wait(wait));
      } else {
        GANTRY_RETURN_IF_ERROR(client_.Backoff(attempt, context_));
      }
      ++attempt;
      start_over();
      continue;
    }

    std::string text = own ? answer : absl::StrCat("redirected to ", url.origin(), ": ", answer);
    if (attempt > 1) absl::StrAppend(&text, " (", attempt, " attempts)");
    if (status == 401) {
      if (!own) {
        absl::StrAppend(&text, "; credentials are not sent there");
      } else if (!credential_) {
        absl::StrAppend(&text, "; log in to ", host_.host, ", or the image does not exist");
        if (!credential_error_.ok()) absl::StrAppend(&text, " (", credential_error_.message(), ")");
      } else {
        absl::StrAppend(&text, "; the credential of ", credential_->source, " does not allow it");
      }
    }
    if (status == 429)
      absl::StrAppend(&text, credential_ ? "; rate limit reached"
                                         : "; rate limit reached, a login may raise it");
    return Fail(CodeFor(status), text);
  }
}

absl::Status MostTelling(const std::vector<absl::Status>& failures) {
  const absl::Status* best = nullptr;
  for (const absl::Status& status : failures) {
    if (best == nullptr || Telling(status) > Telling(*best)) best = &status;
  }
  if (best == nullptr) return absl::InternalError("no host was asked");
  std::string text(best->message());
  for (const absl::Status& status : failures) {
    if (&status != best && status.message() != best->message())
      absl::StrAppend(&text, "; also: ", status.message());
  }
  return absl::Status(best->code(), text);
}

RegistryClient::RegistryClient(const RegistryClientOptions& options)
    : options_(options), tokens_(std::make_unique<TokenCache>(options.http)) {}

RegistryClient::~RegistryClient() = default;

absl::StatusOr<std::vector<RegistryHost>> RegistryClient::Hosts(const Reference& ref, Need need,
                                                                const CallContext& context) {
  const HostsConfig* config = context.hosts != nullptr ? context.hosts : options_.hosts;
  GANTRY_ASSIGN_OR_RETURN(HostsLookup lookup, config->Lookup(ref.domain()));
  std::vector<RegistryHost> usable;
  for (RegistryHost& host : lookup.hosts) {
    bool can = false;
    switch (need) {
      case Need::kPull:
        can = host.can_pull;
        break;
      case Need::kResolve:
        can = host.can_resolve;
        break;
      case Need::kPush:
        can = host.can_push;
        break;
      case Need::kReferrers:
        can = host.can_referrers;
        break;
    }
    if (can) usable.push_back(std::move(host));
  }
  if (usable.empty()) {
    static constexpr const char* kNames[] = {"pull", "resolve", "push", "referrers"};
    return absl::FailedPreconditionError(absl::StrCat("registry ", ref.domain(), ": no host in ",
                                                      lookup.used, " has the capability ",
                                                      kNames[static_cast<int>(need)]));
  }
  return usable;
}

absl::StatusOr<RegistryResponse> RegistryClient::Send(const RegistryHost& host,
                                                      const RegistryRequest& request,
                                                      const CallContext& context,
                                                      ResponseSink* sink) {
  return Call(*this, host, request, context, sink).Run();
}

absl::Status RegistryClient::Backoff(int attempt, const CallContext& context) {
  absl::Duration wait = options_.first_backoff;
  for (int i = 1; i < attempt && wait < options_.max_backoff; ++i) wait *= 2;
  wait = std::min(wait, options_.max_backoff);
  absl::BitGen random;
  wait *= absl::Uniform(random, 0.75,
                        1.25);  // many clients that fail together shall not come back together
  if (context.cancel != nullptr) return context.cancel->Sleep(wait);
  absl::SleepFor(wait);
  return absl::OkStatus();
}

}  // namespace gantry::distribution
