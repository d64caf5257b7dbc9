// Debian's docker-registry as a child process for tests: loopback, a port of its own, storage in a
// temporary directory.
//
// With TLS by a private CA, with basic authentication (user "ann", password "s3cret-pass"), or with
// tokens from a token server of ours. Thread-compatible. The child ends with the object.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_DOCKER_REGISTRY_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_DOCKER_REGISTRY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/distribution/fake_registry.h"

namespace gantry::distribution {

class DockerRegistry {
 public:
  enum class Auth { kNone, kBasic, kToken };

  static constexpr char kUser[] = "ann";
  static constexpr char kPassword[] = "s3cret-pass";

  // kNotFound: docker-registry is not installed. Otherwise listening when this returns.
  static absl::StatusOr<std::unique_ptr<DockerRegistry>> Start(bool tls, Auth auth);
  ~DockerRegistry();

  std::string host() const;          // "127.0.0.1:4711"
  std::string ca_file() const;       // with TLS
  std::string token_origin() const;  // with tokens: another origin than the registry's own

  // Its log so far.
  std::string log() const;
  // kill -9 and a new one on the same storage and port.
  absl::Status Restart();

 private:
  DockerRegistry() = default;
  absl::Status Certificates();
  absl::Status Launch();
  std::string Token(const std::string& scopes) const;

  TempDir temp_;
  bool tls_ = false;
  Auth auth_ = Auth::kNone;
  int port_ = 0;
  std::unique_ptr<FakeRegistry> token_server_;
  Process process_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_DOCKER_REGISTRY_H_
