#include "supervisor/distribution/registry_auth.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "content-store/digest.h"
#include "supervisor/distribution/reference.h"

namespace gantry::distribution {
namespace {

constexpr size_t kMaxTokenAnswer = 1 << 20;
constexpr size_t kMaxTokenBytes = 64 << 10;
constexpr size_t kMaxEntries = 2048;
constexpr int kTokenAttempts = 4;
constexpr char kClientId[] = "gantry";

bool IsTokenChar(char c) {
  return absl::ascii_isalnum(c) || std::string("!#$%&'*+-.^_`|~").find(c) != std::string::npos;
}

class Collector : public HttpReceiver {
 public:
  absl::Status OnHead(const HttpHead& head) override {
    this->head = head;
    return absl::OkStatus();
  }
  absl::Status OnBody(absl::string_view bytes) override {
    if (body.size() + bytes.size() > kMaxTokenAnswer) {
      return absl::ResourceExhaustedError("the answer is larger than 1 MiB");
    }
    body.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  HttpHead head;
  std::string body;
};

std::string Form(const std::vector<std::pair<std::string, std::string>>& fields) {
  return absl::StrJoin(fields, "&", [](std::string* out, const auto& field) {
    absl::StrAppend(out, UrlEncode(field.first), "=", UrlEncode(field.second));
  });
}

std::string Text(const nlohmann::json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

// Who asks: tokens of one user are never used for another.
std::string Identity(const std::optional<Credential>& credential) {
  if (!credential) return "";
  return content::Digest::Sha256Of(
             absl::StrCat(credential->username, absl::string_view("\0", 1), credential->password,
                          absl::string_view("\0", 1), credential->identity_token,
                          absl::string_view("\0", 1), credential->registry_token))
      .str();
}

std::string Key(const AuthRequest& request, bool with_scopes) {
  return absl::StrCat(request.host->origin(), "\n", Identity(*request.credential), "\n",
                      with_scopes ? absl::StrJoin(request.scopes, " ") : "*");
}

// Whether the user knows that the registry's logins are that server's business.
bool MayAsk(const RegistryHost& host, const std::string& realm) {
  static constexpr std::pair<const char*, const char*> kBuiltIn[] = {
      {"https://registry-1.docker.io", "https://auth.docker.io"},
      {"https://registry.gitlab.com", "https://gitlab.com"}};
  if (realm == host.origin()) return true;
  for (const auto& [registry, server] : kBuiltIn) {
    if (host.origin() == registry && realm == server) return true;
  }
  return std::find(host.token_realms.begin(), host.token_realms.end(), realm) !=
         host.token_realms.end();
}

// "repository:a/b:pull,push" -> its actions, reduced to those we came for. A registry that asks us
// to fetch a more powerful token than the request needs gets the smaller one. For the repository we
// asked about it is our own scope, which also covers what the operation does next.
std::string Reduce(const std::string& offered, const std::vector<std::string>& wanted) {
  std::vector<std::string> parts = absl::StrSplit(offered, ':');
  if (parts.size() < 3 || parts[0] != "repository") return "";
  std::set<std::string> allowed;
  for (const std::string& scope : wanted) {
    std::vector<std::string> mine = absl::StrSplit(scope, ':');
    if (mine.size() < 3 || mine[0] != "repository") continue;
    if (mine[1] == parts[1]) return scope;
    for (absl::string_view action : absl::StrSplit(mine.back(), ','))
      allowed.insert(std::string(action));
  }
  std::vector<std::string> actions;
  for (absl::string_view action : absl::StrSplit(parts.back(), ',')) {
    if (allowed.count(std::string(action)) > 0) actions.push_back(std::string(action));
  }
  if (actions.empty()) return "";
  parts.back() = absl::StrJoin(actions, ",");
  return absl::StrJoin(parts, ":");
}

}  // namespace

std::vector<Challenge> ParseChallenges(absl::string_view header) {
  std::vector<Challenge> out;
  size_t i = 0;
  auto skip = [&] {
    while (i < header.size() && (header[i] == ' ' || header[i] == '\t' || header[i] == ',')) ++i;
  };
  auto token = [&] {
    size_t start = i;
    while (i < header.size() && IsTokenChar(header[i])) ++i;
    return header.substr(start, i - start);
  };
  while (out.size() < 16) {
    skip();
    absl::string_view name = token();
    if (name.empty()) break;
    size_t after = i;
    while (i < header.size() && header[i] == ' ') ++i;
    if (i < header.size() && header[i] == '=' && !out.empty()) {
      ++i;
      while (i < header.size() && header[i] == ' ') ++i;
      std::string value;
      if (i < header.size() && header[i] == '"') {
        ++i;
        while (i < header.size() && header[i] != '"') {
          if (header[i] == '\\' && i + 1 < header.size()) ++i;
          value += header[i++];
        }
        if (i == header.size()) break;  // the quote never ends: the parameter is not trusted
        ++i;
      } else {
        size_t start = i;
        while (i < header.size() && header[i] != ',' && header[i] != ' ') ++i;
        value = std::string(header.substr(start, i - start));
      }
      out.back().params.emplace(absl::AsciiStrToLower(name), std::move(value));
    } else {
      i = after;
      out.push_back({absl::AsciiStrToLower(name), {}});
    }
  }
  return out;
}

std::string Redact(std::string text, const std::optional<Credential>& credential,
                   absl::string_view header) {
  std::vector<std::string> secrets;
  if (credential)
    secrets = {credential->password, credential->identity_token, credential->registry_token};
  size_t space = header.find(' ');
  if (space != absl::string_view::npos) secrets.emplace_back(header.substr(space + 1));
  for (const std::string& secret : secrets) {
    // Replacing something very short would garble the text and hide nothing.
    if (secret.size() >= 4) text = absl::StrReplaceAll(text, {{secret, "***"}});
  }
  return text;
}

std::string TokenCache::Known(const AuthRequest& request) {
  if (*request.credential && !(*request.credential)->registry_token.empty()) {
    return absl::StrCat("Bearer ", (*request.credential)->registry_token);
  }
  absl::Duration now = Clock::Real().Monotonic();
  absl::MutexLock lock(&mutex_);
  for (bool with_scopes : {true, false}) {
    auto it = entries_.find(Key(request, with_scopes));
    if (it != entries_.end() && it->second.expires > now) return it->second.value;
  }
  return "";
}

absl::StatusOr<std::string> TokenCache::Answer(const AuthRequest& request,
                                               const std::vector<Challenge>& challenges,
                                               const std::string& refused, bool& fresh) {
  // Another exchange of the same operation may have renewed the token meanwhile.
  std::string known = Known(request);
  fresh = known.empty() || known == refused;
  if (!fresh) return known;

  const std::optional<Credential>& credential = *request.credential;
  std::string key;
  Entry entry;
  const Challenge* bearer = nullptr;
  bool basic = false;
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme == "bearer" && bearer == nullptr) bearer = &challenge;
    if (challenge.scheme == "basic") basic = true;
  }
  if (credential && !credential->registry_token.empty()) {
    return absl::UnauthenticatedError("the registry token is refused");
  }
  if (bearer != nullptr) {
    GANTRY_ASSIGN_OR_RETURN(entry, FetchToken(request, *bearer));
    key = Key(request, true);
  } else if (basic) {
    if (!credential)
      return absl::UnauthenticatedError("a user name and password are needed: log in");
    if (credential->password.empty()) {
      return absl::UnauthenticatedError(
          absl::StrCat("the registry wants a password, the credential of ", credential->source,
                       " has only a token"));
    }
    entry.value = absl::StrCat("Basic ", absl::Base64Escape(absl::StrCat(credential->username, ":",
                                                                         credential->password)));
    entry.expires = absl::InfiniteDuration();
    key = Key(request, false);
    if (entry.value == refused) {
      absl::MutexLock lock(&mutex_);
      entries_.erase(key);
      return absl::UnauthenticatedError(
          absl::StrCat("the user name or password of ", credential->source, " is refused"));
    }
  } else if (challenges.empty()) {
    return absl::UnauthenticatedError("the registry does not say how to authenticate");
  } else {
    return absl::FailedPreconditionError(absl::StrCat(
        "the registry wants authentication by \"",
        absl::CEscape(challenges[0].scheme.substr(0, 40)), "\"; Basic and Bearer are supported"));
  }

  absl::Duration now = Clock::Real().Monotonic();
  absl::MutexLock lock(&mutex_);
  if (entries_.size() >= kMaxEntries) {
    for (auto it = entries_.begin(); it != entries_.end();) {
      it = it->second.expires <= now ? entries_.erase(it) : std::next(it);
    }
    if (entries_.size() >= kMaxEntries) entries_.clear();
  }
  entries_[key] = entry;
  return entry.value;
}

absl::StatusOr<TokenCache::Entry> TokenCache::FetchToken(const AuthRequest& request,
                                                         const Challenge& challenge) {
  const RegistryHost& host = *request.host;
  const std::optional<Credential>& credential = *request.credential;
  auto param = [&](const char* name) {
    auto it = challenge.params.find(name);
    return it == challenge.params.end() ? std::string() : it->second;
  };
  absl::StatusOr<Url> realm = Url::Parse(param("realm"));
  if (!realm.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the registry names an unusable token server: ", realm.status().message()));
  }
  if (realm->scheme == "http" && host.scheme == "https") {
    return absl::FailedPreconditionError(
        absl::StrCat("the registry is https but names a token server over plain http (",
                     realm->origin(), "): refused, credentials would be readable on the way"));
  }
  std::string what = absl::StrCat("token server ", realm->origin());
  const bool allowed = MayAsk(host, realm->origin());
  if (credential && !allowed) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": the registry sends logins there, which is another server; the credential of ",
        credential->source, " stays here. To allow it, write token_realms = [\"", realm->origin(),
        "\"] for this host in its hosts.toml"));
  }

  std::vector<std::string> scopes;
  for (absl::string_view offered : absl::StrSplit(param("scope"), ' ', absl::SkipEmpty())) {
    std::string reduced = Reduce(std::string(offered), request.scopes);
    if (!reduced.empty()) scopes.push_back(reduced);
  }
  // The registry knows its own names best (a mirror may keep the repository below a prefix); ours
  // fill in what it left out.
  for (const std::string& scope : request.scopes) {
    if (scopes.empty() || (request.scopes.size() > 1 &&
                           std::find(scopes.begin(), scopes.end(), scope) == scopes.end())) {
      scopes.push_back(scope);
    }
  }

  // The registry's own certificates are shown to the registry's own origin only; its authorities
  // are trusted for both.
  TlsConfig tls = host.tls;
  if (realm->origin() != host.origin()) tls.client_pairs.clear();

  bool use_post = credential && !credential->identity_token.empty();
  bool tried_other_way = false;
  Url url;
  for (int attempt = 1, redirects = 0;;) {
    std::string body;
    HttpRequest http;
    if (redirects == 0) {
      url = *realm;
      std::vector<std::pair<std::string, std::string>> fields;
      if (!param("service").empty()) fields.emplace_back("service", param("service"));
      if (use_post) {
        fields.emplace_back("client_id", kClientId);
        if (!scopes.empty()) fields.emplace_back("scope", absl::StrJoin(scopes, " "));
        if (!credential->identity_token.empty()) {
          fields.emplace_back("grant_type", "refresh_token");
          fields.emplace_back("refresh_token", credential->identity_token);
        } else {
          fields.emplace_back("grant_type", "password");
          fields.emplace_back("access_type", "offline");
          fields.emplace_back("username", credential->username);
          fields.emplace_back("password", credential->password);
        }
      } else {
        for (const std::string& scope : scopes) fields.emplace_back("scope", scope);
        if (credential) {
          fields.emplace_back("account", credential->username);
          fields.emplace_back("client_id", kClientId);
        }
        if (!fields.empty())
          absl::StrAppend(&url.target, absl::StrContains(url.target, "?") ? "&" : "?",
                          Form(fields));
      }
      if (use_post) body = Form(fields);
    }
    http.url = url;
    http.headers = {{"Accept", "application/json"}};
    if (use_post) {
      http.method = "POST";
      http.headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
      http.body = body;
      http.body_size_bytes = body.size();
    } else if (credential) {
      http.headers.emplace_back(
          "Authorization",
          absl::StrCat("Basic ", absl::Base64Escape(absl::StrCat(credential->username, ":",
                                                                 credential->password))));
    }
    http.tls = &tls;
    http.nearest = allowed ? Reach::kLoopback : request.nearest;
    http.cancel = request.cancel;
    http.connect_timeout = request.connect_timeout;
    http.stall_timeout = request.stall_timeout;

    Collector answer;
    HttpResult result = http_->Do(http, answer);
    int status = answer.head.status;
    bool again = false;
    if (!result.status.ok()) {
      if (!absl::IsUnavailable(result.status) || result.no_such_host || result.refused ||
          attempt >= kTokenAttempts) {
        return absl::Status(result.status.code(),
                            absl::StrCat(what, ": ", result.status.message()));
      }
      again = true;
    } else if (status == 429 || status == 408 || status >= 500) {
      if (attempt >= kTokenAttempts) {
        return absl::UnavailableError(
            absl::StrCat(what, ": answers ", status, " ", absl::CEscape(answer.head.reason)));
      }
      again = true;
    }
    if (again) {
      absl::Duration wait = absl::Milliseconds(200) * (1 << attempt);
      ++attempt;
      redirects = 0;
      if (request.cancel != nullptr) {
        GANTRY_RETURN_IF_ERROR(request.cancel->Sleep(wait));
      } else {
        absl::SleepFor(wait);
      }
      continue;
    }

    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
      absl::StatusOr<Url> next = url.Resolve(answer.head.header("location"));
      if (!next.ok() || ++redirects > 3)
        return absl::DataLossError(absl::StrCat(what, ": redirects to nowhere"));
      if (use_post || next->origin() != realm->origin()) {
        return absl::FailedPreconditionError(
            absl::StrCat(what, ": redirects to ", next->origin(),
                         ": refused, credentials stay where they were meant for"));
      }
      url = *next;
      continue;
    }
    // Some token servers know only one of the two ways to show a password.
    bool has_password = credential && !credential->password.empty();
    if ((status == 404 || status == 405) && has_password && !tried_other_way) {
      tried_other_way = true;
      use_post = !use_post;
      redirects = 0;
      continue;
    }
    if (status == 401 || status == 403 || (use_post && status == 400)) {
      return absl::UnauthenticatedError(
          credential ? absl::StrCat(what, ": refuses the credential of ", credential->source)
                     : absl::StrCat(what, ": gives no token without a login"));
    }
    if (status < 200 || status >= 300) {
      return absl::UnavailableError(
          absl::StrCat(what, ": answers ", status, " ", absl::CEscape(answer.head.reason)));
    }
    nlohmann::json object = nlohmann::json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object())
      return absl::DataLossError(absl::StrCat(what, ": the answer is not a JSON object"));
    std::string token = Text(object, "token");
    if (token.empty()) token = Text(object, "access_token");
    if (token.empty()) return absl::DataLossError(absl::StrCat(what, ": the answer has no token"));
    bool printable = token.size() <= kMaxTokenBytes;
    for (char c : token) printable &= absl::ascii_isgraph(c) != 0;
    if (!printable)
      return absl::DataLossError(absl::StrCat(what, ": the token cannot be sent in a header"));
    double seconds = 60;
    auto expires = object.find("expires_in");
    if (expires != object.end() && expires->is_number())
      seconds = std::clamp(expires->get<double>(), 60.0, 86400.0);
    Entry entry;
    entry.value = absl::StrCat("Bearer ", token);
    // Not used in its last tenth: the clock that counts is the registry's.
    entry.expires = Clock::Real().Monotonic() + absl::Seconds(seconds * 0.9);
    return entry;
  }
}

}  // namespace gantry::distribution
