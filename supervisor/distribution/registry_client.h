// The distribution API of one or many registries: hosts in order, authentication, redirects,
// retries.
//
// Every other class of this room speaks through one RegistryClient, so that connections, tokens and
// rate limits are shared. Secrets go to the origin they belong to and nowhere else: not along a
// redirect to another scheme, host or port, not to a token server that the registry names and
// nobody allowed, not into logs, statuses or attempts. A registry leads to nothing that is nearer
// to us than itself: one on the internet not to this machine or its network. A host that does not
// resolve or refuses the connection is not tried again, unless it has answered within the last
// minute.
//
// Thread-safe. Spec: OCI distribution-spec v1.1.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_CLIENT_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_CLIENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "supervisor/distribution/address_reach.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/reference.h"

namespace gantry {
class CancelToken;
}

namespace gantry::distribution {

class CredentialSource;
class HttpClient;
class TokenCache;

// One exchange with one host, for `ctl registry explain` and for the final error.
struct Attempt {
  std::string host;        // "https://mirror:5000"
  std::string rule;        // RegistryHost::rule
  std::string request;     // "HEAD /v2/library/ubuntu/manifests/latest"
  std::string credential;  // Credential::source, or "anonymous"; never the secret
  int status = 0;          // HTTP status; 0: no answer
  std::string answer;      // "200 OK", "401 UNAUTHORIZED: ...", "connection refused"
  absl::Duration took;
};

// Whose authority and patience a call has. All pointers may be null and outlive the call.
struct CallContext {
  CancelToken* cancel = nullptr;
  CredentialSource* credentials = nullptr;  // null: the client's
  const HostsConfig* hosts = nullptr;       // null: the client's
  std::vector<std::pair<std::string, std::string>>
      headers;                                        // sent to the registry's own origins only
  std::function<void(const Attempt&)> on_attempt;     // may come from several threads
  std::function<void(absl::string_view)> on_warning;  // the registry's `Warning: 299` texts
  // Before the wait that a further try of a request begins with: "(2 of 6): https://host: 503 ...".
  // May come from several threads.
  std::function<void(absl::string_view)> on_retry;
};

struct RegistryClientOptions {
  HttpClient* http = nullptr;               // not null
  const HostsConfig* hosts = nullptr;       // not null
  CredentialSource* credentials = nullptr;  // null: anonymous
  int max_attempts = 6;                     // per request and host, counting the first
  absl::Duration first_backoff = absl::Milliseconds(250);  // doubled each time, jittered
  absl::Duration max_backoff = absl::Seconds(20);
  absl::Duration max_retry_after =
      absl::Seconds(120);  // a longer Retry-After ends the call with kResourceExhausted
  int max_redirects = 8;
  absl::Duration connect_timeout = absl::Seconds(30);
  absl::Duration stall_timeout = absl::Seconds(30);  // no usable progress for this long
  int64_t min_bytes_per_stall = 16 << 10;  // and less than this in that time counts as none
};

struct RegistryRequest {
  std::string method = "GET";
  std::string
      path;  // below the host's prefix: "/library/ubuntu/manifests/latest"; or an absolute URL from a Location
  std::vector<std::pair<std::string, std::string>> query;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string scope_repository;  // the repository the token is for; empty: none (ping, catalog)
  std::string scope_actions = "pull";  // "pull", "pull,push", "delete"
  std::string extra_scope;             // mount: "repository:<from>:pull"
  std::string body;                    // small bodies
  // Large bodies: called anew for each try. The length must be known.
  std::function<absl::StatusOr<std::unique_ptr<ByteSource>>()> open_body;
  int64_t body_size_bytes = 0;
  int64_t max_response_bytes = 8 << 20;  // of a body collected in RegistryResponse::body
  bool retry = true;                     // false: one try, then the caller decides
  bool last_resort = true;  // false: another host can be asked, so do not insist on this one
  bool may_redirect = true;
};

struct RegistryResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // when no sink was given
  std::string url;                                           // the final one, without query
  std::string location;                                      // Location made absolute; empty: none

  // The first header of that (lower-case) name; empty: none.
  absl::string_view header(absl::string_view name) const;
};

// Sees a successful body as it arrives instead of having it collected.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  // Status 2xx, before the first byte. Other than OK ends the exchange with that status and is not
  // retried.
  virtual absl::Status Begin(const RegistryResponse& head) = 0;
  virtual absl::Status Write(absl::string_view bytes) = 0;
};

class RegistryClient {
 public:
  explicit RegistryClient(const RegistryClientOptions& options);
  ~RegistryClient();

  enum class Need { kPull, kResolve, kPush, kReferrers };

  // The hosts to ask for `ref`, in order. kFailedPrecondition: configuration is broken, or no host
  // may do what is needed.
  absl::StatusOr<std::vector<RegistryHost>> Hosts(const Reference& ref, Need need,
                                                  const CallContext& context);

  // One request to one host: token, redirects, retries. 2xx gives a response (body in `sink` when
  // it is given); other answers become a status made by what the caller can do:
  //   kNotFound            404
  //   kUnauthenticated     401
  //   kPermissionDenied    403
  //   kInvalidArgument     400
  //   kResourceExhausted   429
  //   kOutOfRange          416
  //   kFailedPrecondition  405, 409, 412, 413, 415
  //   kUnavailable         no answer, 408, 5xx
  //   kDataLoss            the answer breaks HTTP
  // A transfer that breaks after sink->Begin() is not retried here: kUnavailable, the sink knows
  // how far it came.
  absl::StatusOr<RegistryResponse> Send(const RegistryHost& host, const RegistryRequest& request,
                                        const CallContext& context, ResponseSink* sink = nullptr);

  // Waits before the next try, after `attempt` failures. kCancelled or kDeadlineExceeded: the
  // caller gave up.
  absl::Status Backoff(int attempt, const CallContext& context);

  const RegistryClientOptions& options() const { return options_; }

 private:
  class Call;
  const RegistryClientOptions options_;
  const std::unique_ptr<TokenCache> tokens_;
  absl::Mutex mutex_;
  // Hosts found to speak plain HTTP although https was tried first, and when (monotonic).
  std::map<std::string, absl::Duration> plain_hosts_ ABSL_GUARDED_BY(mutex_);
  struct Answered {
    absl::Duration at;  // monotonic
    Reach peer = Reach::kUnknown;
  };
  std::map<std::string, Answered> answered_ ABSL_GUARDED_BY(mutex_);  // by host
};

// The error to report when several hosts failed: the one that says most about the image,
// the others after it.
absl::Status MostTelling(const std::vector<absl::Status>& failures);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_REGISTRY_CLIENT_H_
