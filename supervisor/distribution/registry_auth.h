// Answers a registry's 401: which header to send instead.
//
// Knows the Basic and Bearer schemes. Tokens are kept per origin, identity and set of scopes until
// they expire, so one pull asks for one token. The token server is the registry's choice, hence the
// rules: credentials go to one of another origin only when it is built in (docker.io,
// registry.gitlab.com) or allowed by `token_realms` in hosts.toml; never over plain http when the
// registry is https; no user information in its URL; redirects within its own origin only; bounded
// answers.
//
// Thread-safe. Spec: RFC 9110 section 11, RFC 6750, docker's token authentication.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_AUTH_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_AUTH_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/http_client.h"

namespace gantry::distribution {

struct Challenge {
  std::string scheme;                         // lower case: "basic", "bearer"
  std::map<std::string, std::string> params;  // names in lower case
};

// Every challenge of one WWW-Authenticate header, as far as it can be read.
std::vector<Challenge> ParseChallenges(absl::string_view header);

struct AuthRequest {
  const RegistryHost* host = nullptr;
  const std::optional<Credential>* credential = nullptr;
  std::vector<std::string> scopes;  // "repository:library/ubuntu:pull"; sorted
  CancelToken* cancel = nullptr;
  Reach nearest = Reach::kLoopback;  // how near a token server that was not allowed by name may be
  absl::Duration connect_timeout = absl::Seconds(30);
  absl::Duration stall_timeout = absl::Seconds(30);
};

class TokenCache {
 public:
  explicit TokenCache(HttpClient* http) : http_(http) {}

  // The Authorization value to begin with; empty: none is known.
  std::string Known(const AuthRequest& request);

  // The value to send after `refused` (may be empty) was answered with these challenges. `fresh`:
  // it was made for this call, so if it is refused too, there is no point in asking again.
  //   kUnauthenticated  no credential, or the token server refuses it
  //   kUnavailable      the token server does not answer
  //   kFailedPrecondition, kDataLoss  the challenge is not acceptable, or no scheme we know
  absl::StatusOr<std::string> Answer(const AuthRequest& request,
                                     const std::vector<Challenge>& challenges,
                                     const std::string& refused, bool& fresh);

 private:
  struct Entry {
    std::string value;
    absl::Duration expires;  // monotonic
  };

  absl::StatusOr<Entry> FetchToken(const AuthRequest& request, const Challenge& challenge);

  HttpClient* const http_;
  absl::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

// "a secret" -> "***" wherever a secret of `credential` or `header` shows up in text that came from
// outside.
std::string Redact(std::string text, const std::optional<Credential>& credential,
                   absl::string_view header);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_AUTH_H_
