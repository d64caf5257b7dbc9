// The Docker Engine API over HTTP/1.1, for docker, docker compose, SDKs and curl.
//
// Life: construction -> Serve() for each socket -> Stop() or destruction, which ends connections
// and waits for their requests. One thread per connection. The routes of one noun are in one pair
// of files, *_routes.h, each of which adds its own to the router.
//
// Thread-compatible.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_DOCKER_DOOR_H_
#define GANTRY_SUPERVISOR_API_DOCKER_DOCKER_DOOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "base/unique_fd.h"
#include "supervisor/api/docker/build_routes.h"
#include "supervisor/api/docker/parts.h"
#include "supervisor/api/docker/router.h"

namespace gantry::http {
class Server;
class TlsContext;
}  // namespace gantry::http

namespace gantry::api {

class DockerDoor {
 public:
  explicit DockerDoor(const docker::Parts& parts, const docker::BuildParts& builds = {});
  ~DockerDoor();
  DockerDoor(const DockerDoor&) = delete;
  DockerDoor& operator=(const DockerDoor&) = delete;

  // Takes connections from a listening socket, non-blocking.
  absl::Status Serve(UniqueFd listener);
  // PEM files: the CA that signs certificates of clients, and the door's own.
  struct TlsFiles {
    std::string ca;
    std::string certificate;
    std::string key;
  };
  // Listens at HOST:PORT for clients with a certificate.
  //   kInvalidArgument  the address, or one of the files
  //   kUnavailable      the address is in use
  absl::Status ServeTcp(const std::string& address, const TlsFiles& files);
  // Containers run on; clients of streams are cut off.
  void Stop();

  const docker::Router& router() const { return router_; }

 private:
  absl::Status Start(UniqueFd listener, const http::TlsContext* tls);

  docker::Router router_;
  std::vector<std::unique_ptr<http::TlsContext>> tls_;  // outlive the servers
  std::vector<std::unique_ptr<http::Server>> servers_;
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_DOCKER_DOCKER_DOOR_H_
