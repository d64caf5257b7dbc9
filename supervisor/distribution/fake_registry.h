// A registry for tests: an HTTP/1.1 server on a loopback port, with repositories in memory, that
// misbehaves on request.
//
// Speaks the distribution API (manifests, blobs with ranges, uploads, mounts, tags, referrers,
// deletion) and is its own token server. A fault is either a setting or a Hook, which sees each
// request first and may answer it byte by byte.
//
// Thread-safe. Serves from construction to destruction; each connection has a thread
// (supervisor/http).
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_FAKE_REGISTRY_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_FAKE_REGISTRY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "content-store/descriptor.h"

struct ssl_ctx_st;

namespace gantry::http {
class Exchange;
class Server;
}  // namespace gantry::http

namespace gantry::distribution {

class FakeRegistry {
 public:
  struct Request {
    std::string method;
    std::string path;                                          // without query
    std::string query;                                         // as sent
    std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
    std::string body;
    bool body_complete = true;

    std::string header(absl::string_view name) const;     // "": none
    std::string parameter(absl::string_view name) const;  // of the query, decoded; the first
    std::vector<std::string> parameters(absl::string_view name) const;
  };

  // One connection, as a Hook uses it to answer.
  class Connection {
   public:
    virtual ~Connection() = default;
    virtual int number() const = 0;
    // False: the other side is gone.
    virtual bool Raw(absl::string_view bytes) = 0;
    // Status line, headers, Content-Length and body. A HEAD request gets no body.
    virtual bool Answer(int status, const std::vector<std::pair<std::string, std::string>>& headers,
                        absl::string_view body) = 0;
    virtual void Close() = 0;  // after what was sent
    virtual void Reset() = 0;  // RST, dropping what was sent and not read
    // The server is being stopped: endless answers end.
    virtual bool stopping() const = 0;
  };

  enum class Auth { kNone, kBasic, kToken };

  struct Options {
    Auth auth = Auth::kNone;
    std::map<std::string, std::string> users;           // name -> password
    std::map<std::string, std::string> refresh_tokens;  // accepted by POST /token
    bool anonymous_pull = true;                         // kToken: tokens for pull without login
    std::string token_realm;                            // empty: our own /token
    std::string certificate_file, key_file;             // PEM; set: TLS
    std::string client_ca_file;  // set: clients need a certificate of this CA
  };

  FakeRegistry() : FakeRegistry(Options()) {}
  explicit FakeRegistry(Options options);
  ~FakeRegistry();
  FakeRegistry(const FakeRegistry&) = delete;
  FakeRegistry& operator=(const FakeRegistry&) = delete;

  int port() const;
  std::string host() const;    // "127.0.0.1:4711"
  std::string origin() const;  // "http://127.0.0.1:4711"

  // Content. Returned descriptors are what a manifest or index would say.
  content::Descriptor AddBlob(const std::string& repository, std::string bytes,
                              std::string media_type);
  content::Descriptor AddManifest(const std::string& repository, const std::string& tag,
                                  std::string bytes, std::string media_type);
  // A whole image of these layers (plain tars as far as anyone can tell), under `tag` unless that
  // is empty. Its manifest's descriptor, with the platform set.
  content::Descriptor AddImage(const std::string& repository, const std::string& tag,
                               const std::vector<std::string>& layers,
                               const std::string& architecture = "amd64");
  content::Descriptor AddIndex(const std::string& repository, const std::string& tag,
                               const std::vector<content::Descriptor>& children);
  bool HasBlob(const std::string& repository, const content::Digest& digest) const;
  // "" when there is none. `object` is a tag or digest.
  std::string Manifest(const std::string& repository, const std::string& object) const;
  void RemoveBlob(const std::string& repository, const content::Digest& digest);

  // Sees each request before the registry does; true: it has answered. Null: none.
  using Hook = std::function<bool(const Request&, Connection&)>;
  void SetHook(Hook hook);

  // Blob bodies end with a reset after this many bytes, `times` times.
  void BreakBlobs(int64_t after_bytes, int times);
  // Uploads are reset after this many bytes of a body, `times` times; what came is kept in the
  // session.
  void BreakUploads(int64_t after_bytes, int times);
  // Blob bodies are sent at this rate per connection; 0: as fast as possible.
  void SetRate(int64_t bytes_per_second);
  void SetRanges(bool supported);
  void SetReferrersApi(bool supported);
  void SetTokenLifetime(int seconds);  // expires_in and for real
  void ExpireTokens();

  // What was asked, oldest first; bodies left out.
  std::vector<Request> requests() const;
  // "GET /v2/..." lines of the same.
  std::vector<std::string> lines() const;
  int CountRequests(absl::string_view method, absl::string_view path_part) const;
  int64_t blob_bytes_sent() const { return blob_bytes_sent_; }
  int connections() const { return connections_; }
  void ClearLog();

 private:
  class Channel;
  class Socket;
  struct Repository {
    std::map<std::string, std::shared_ptr<const std::string>>
        blobs;  // by digest; shared with running answers
    std::map<std::string, std::pair<std::string, std::string>>
        manifests;  // digest -> media type, bytes
    std::map<std::string, std::string> tags;
  };
  struct Upload {
    std::string repository;
    std::string bytes;
  };
  void Serve(http::Exchange& exchange);
  Request ReadRequest(http::Exchange& exchange);
  void Handle(const Request& request, Socket& socket);
  bool Authorize(const Request& request, const std::string& repository, bool push, Socket& socket);
  void Token(const Request& request, Socket& socket);
  void ServeManifest(const Request& request, const std::string& repository,
                     const std::string& object, Socket& socket);
  void ServeBlob(const Request& request, const std::string& repository, const std::string& digest,
                 Socket& socket);
  void ServeUpload(const Request& request, const std::string& repository, const std::string& id,
                   Socket& socket);

  const Options options_;
  ssl_ctx_st* tls_ = nullptr;
  std::atomic<int64_t> blob_bytes_sent_{0};
  std::atomic<int> connections_{0};

  mutable absl::Mutex mutex_;
  std::map<std::string, Repository> repositories_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Upload> uploads_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::pair<std::string, int64_t>> tokens_
      ABSL_GUARDED_BY(mutex_);  // -> scopes, expiry in monotonic seconds
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  Hook hook_ ABSL_GUARDED_BY(mutex_);
  int next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t break_blobs_after_ ABSL_GUARDED_BY(mutex_) = 0;
  int break_blobs_times_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t break_uploads_after_ ABSL_GUARDED_BY(mutex_) = 0;
  int break_uploads_times_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t rate_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ranges_ ABSL_GUARDED_BY(mutex_) = true;
  bool referrers_ ABSL_GUARDED_BY(mutex_) = true;
  int token_lifetime_ ABSL_GUARDED_BY(mutex_) = 300;
  std::unique_ptr<http::Server> server_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_FAKE_REGISTRY_H_
