// One HTTP exchange: request out, status, headers and body in. Knows nothing of registries.
//
// Redirects are not followed and nothing is retried; both are decisions about secrets and belong to
// the caller. Bodies arrive in the calling thread, which is the back-pressure: while the receiver
// works, nothing is read from the socket. HTTP/1.1 only: one connection per running exchange, kept
// for the next one to the same origin.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_HTTP_CLIENT_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_HTTP_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "supervisor/distribution/address_reach.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/url.h"

namespace gantry {
class CancelToken;
}

namespace gantry::distribution {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "GET";
  Url url;
  HttpHeaders headers;
  absl::string_view body;        // small bodies; outlives the exchange
  ByteSource* source = nullptr;  // or a stream of body_size_bytes bytes
  int64_t body_size_bytes = 0;
  const TlsConfig* tls = nullptr;  // null: the system's trust
  absl::Duration connect_timeout = absl::Seconds(30);
  absl::Duration stall_timeout = absl::Seconds(
      30);  // with fewer than min_bytes_per_stall bytes moved, not counting time in the receiver
  int64_t min_bytes_per_stall = 1024;
  // Addresses nearer than this are not connected to. Not known behind a proxy, which chooses the
  // address.
  Reach nearest = Reach::kLoopback;
  CancelToken* cancel = nullptr;
};

struct HttpHead {
  int status = 0;
  std::string reason;
  HttpHeaders headers;  // names in lower case, in order
  absl::string_view header(absl::string_view lower_case_name) const;  // the first; empty: none
};

class HttpReceiver {
 public:
  virtual ~HttpReceiver() = default;
  // Once, before the body. Other than OK ends the exchange with that status.
  virtual absl::Status OnHead(const HttpHead& head) = 0;
  // Some bytes of the body, in order, up to 256 KiB.
  virtual absl::Status OnBody(absl::string_view bytes) = 0;
};

struct HttpResult {
  // OK: the whole answer was received, whatever its status. Otherwise
  //   kUnavailable         no connection, broken connection, stalled; worth another try
  //   kFailedPrecondition  TLS: a certificate is not trusted or cannot be loaded
  //   kDataLoss            what came is not HTTP, or its headers are beyond all bounds
  //   kCancelled, kDeadlineExceeded, or what the receiver or the source said
  absl::Status status;
  bool from_caller = false;  // the status is the receiver's or the source's own
  bool got_head = false;
  bool tls_failed =
      false;  // the handshake failed: the other side does not speak TLS, or its certificate is not trusted
  bool not_tls = false;          // and it is the former
  bool no_such_host = false;     // the name does not resolve
  bool refused = false;          // nothing listens there
  bool too_near = false;         // HttpRequest::nearest; kFailedPrecondition
  Reach peer = Reach::kUnknown;  // where the connection led; unknown behind a proxy
};

class HttpClient {
 public:
  virtual ~HttpClient() = default;
  virtual HttpResult Do(const HttpRequest& request, HttpReceiver& receiver) = 0;

  // Closes idle connections.
  virtual void DropIdle() = 0;
};

struct CurlHttpClientOptions {
  std::string user_agent = "gantry";
  int max_idle = 8;  // connections (with their buffers) kept for later
  bool proxy_from_environment =
      true;  // http_proxy, https_proxy, all_proxy, no_proxy, in either case; never for loopback
};

std::unique_ptr<HttpClient> NewCurlHttpClient(const CurlHttpClientOptions& options);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_HTTP_CLIENT_H_
