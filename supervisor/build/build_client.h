// What a build asks of its client while it runs: the files to build from, secrets and credentials.
//
// One for each build, which it outlives. Files() is called once, on the thread of the build; the
// others on the threads of its stages, several at once.
//   kCancelled    by the token
//   kUnavailable  the client has gone
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_CLIENT_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/core/blob_origin.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

class ContextUpdate;

class BuildClient {
 public:
  virtual ~BuildClient() = default;

  // Fills an empty directory, open as `directory`. Everything in it belongs to root. `progress`
  // gets the bytes received so far.
  //   kInvalidArgument     malformed, or a name that climbs out
  //   kResourceExhausted   far more than was sent, or the disk is full
  virtual absl::Status Files(int directory, CancelToken* cancel,
                             const std::function<void(int64_t)>& progress) = 0;
  // The same for the context number `index`, where it has no key.
  virtual absl::Status NamedFiles(int index, int directory, CancelToken* cancel,
                                  const std::function<void(int64_t)>& progress) {
    if (index == 0) return Files(directory, cancel, progress);
    return absl::InvalidArgumentError("this client gives no files beside its context");
  }
  // Names a directory of the client whose files the daemon keeps from build to build; then Update()
  // is called instead of Files(). `index` is 0 for the main context, then those of the request's
  // `contexts`, in their order, then `cache_from`. "": this client always sends everything.
  virtual std::string ContextKey(int index) const { return ""; }
  // Brings the kept files in step with the client's, up to Wanted() contents; Finish() is the
  // caller's. kUnimplemented: they cannot be kept, and are asked for by NamedFiles() instead.
  virtual absl::Status Update(int index, ContextUpdate& update, CancelToken* cancel,
                              const std::function<void(int64_t)>& progress) {
    return absl::UnimplementedError("this client does not keep contexts");
  }
  // kNotFound: the client has no secret of that id.
  virtual absl::StatusOr<std::string> Secret(const std::string& id, CancelToken* cancel) = 0;
  // For a registry, host[:port] or "docker.io"; empty: the client has none for it.
  virtual absl::StatusOr<v1::RegistryAuth> Credentials(const std::string& registry,
                                                       CancelToken* cancel) = 0;
  // A connection to the client's SSH agent of that id: a stream socket. kNotFound: it gives none.
  virtual absl::StatusOr<UniqueFd> Agent(const std::string& id, CancelToken* cancel);
  // A store of the client with an OCI layout, where it has no ContextKey(): a named context, or a
  // local cache of cache_from, by its number.
  virtual absl::StatusOr<std::unique_ptr<core::BlobOrigin>> Origin(int index, CancelToken* cancel);
  // What takes the blobs of the local cache number `index` of cache_to. Null: the client takes
  // archives, as data.
  virtual std::unique_ptr<core::BlobTaker> CacheTaker(int index) { return nullptr; }
};

// A client that has said everything in its request; the files come as a tar, compressed or not.
class RequestClient : public BuildClient {
 public:
  // Nothing is owned.
  RequestClient(const v1::BuildRequest::Open& request, ByteSource& tar)
      : request_(request), tar_(tar) {}

  absl::Status Files(int directory, CancelToken* cancel,
                     const std::function<void(int64_t)>& progress) override;
  absl::StatusOr<std::string> Secret(const std::string& id, CancelToken* cancel) override;
  absl::StatusOr<v1::RegistryAuth> Credentials(const std::string& registry,
                                               CancelToken* cancel) override;

 private:
  const v1::BuildRequest::Open& request_;
  ByteSource& tar_;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_CLIENT_H_
