// Who we are at a registry: docker's config.json with its credential helpers, or what a caller
// handed in.
//
// Secrets live in Credential values only; nothing here logs one or puts one into a status message.
// Format: facts are docker's (`auths`, `credsStore`, `credHelpers`).
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_CREDENTIALS_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_CREDENTIALS_H_

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry::distribution {

struct Credential {
  std::string username;
  std::string password;
  std::string identity_token;  // an OAuth2 refresh token; used instead of the password
  std::string registry_token;  // a bearer token, used as it is
  std::string
      source;  // for people: "/root/.docker/config.json auths[\"r:5000\"]", "docker-credential-pass"

  bool empty() const {
    return username.empty() && password.empty() && identity_token.empty() && registry_token.empty();
  }
};

// Thread-safe.
class CredentialSource {
 public:
  virtual ~CredentialSource() = default;

  // The credential for `host` ("docker.io" or "registry-1.docker.io" for the Hub, otherwise
  // host[:port]); nothing: be anonymous.
  // kUnavailable: a helper failed or timed out; kFailedPrecondition: the file is damaged.
  virtual absl::StatusOr<std::optional<Credential>> Find(absl::string_view host) = 0;
};

// One credential that belongs to one host: what a door was given with the request (X-Registry-Auth,
// CRI AuthConfig, --user).
class StaticCredentials : public CredentialSource {
 public:
  // An empty `host` means every host asked about: only for a request whose one registry is known,
  // and then never for its mirrors.
  StaticCredentials(std::string host, Credential credential);
  absl::StatusOr<std::optional<Credential>> Find(absl::string_view host) override;

 private:
  const std::string host_;
  const Credential credential_;
};

// Docker's config.json. Read at every call, so that `login` in another process is seen.
class DockerConfigCredentials : public CredentialSource {
 public:
  struct Options {
    std::string config_file;   // empty: $DOCKER_CONFIG/config.json, else $HOME/.docker/config.json
    std::string inline_auths;  // JSON with `auths` only, used before the file ($DOCKER_AUTH_CONFIG)
    std::string helper_path;   // searched for docker-credential-*; empty: $PATH
    absl::Duration helper_timeout = absl::Seconds(30);
  };

  explicit DockerConfigCredentials(Options options);

  absl::StatusOr<std::optional<Credential>> Find(absl::string_view host) override;

  // `login`: hands the secret to the helper that is configured for `host`, otherwise writes it to
  // the file (atomically, mode 0600, all other keys kept). Returns where it went, for the "stored
  // unencrypted" warning.
  struct StoreOutcome {
    std::string place;
    bool plain_text = false;
  };
  absl::StatusOr<StoreOutcome> Store(absl::string_view host, const Credential& credential);

  // `logout`. kNotFound: there was none.
  absl::Status Erase(absl::string_view host);

 private:
  const Options options_;
};

// Remembers another source's answers for the time of one operation, so that a helper is asked once
// and not for every blob.
class MemoCredentials : public CredentialSource {
 public:
  // `source` may be null: anonymous.
  explicit MemoCredentials(CredentialSource* source) : source_(source) {}
  absl::StatusOr<std::optional<Credential>> Find(absl::string_view host) override;

 private:
  CredentialSource* const source_;
  absl::Mutex mutex_;
  std::map<std::string, absl::StatusOr<std::optional<Credential>>, std::less<>> known_
      ABSL_GUARDED_BY(mutex_);
};

// The X-Registry-Auth header (base64url JSON) or a bare base64 `user:password`. kInvalidArgument:
// neither.
absl::StatusOr<Credential> ParseEncodedCredential(absl::string_view text);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_CREDENTIALS_H_
