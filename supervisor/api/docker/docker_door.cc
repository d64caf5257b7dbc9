#include "supervisor/api/docker/docker_door.h"

#include <utility>

#include "base/status_macros.h"
#include "supervisor/api/docker/absent_routes.h"
#include "supervisor/api/docker/activity_routes.h"
#include "supervisor/api/docker/build_routes.h"
#include "supervisor/api/docker/buildkit_routes.h"
#include "supervisor/api/docker/container_routes.h"
#include "supervisor/api/docker/disk_usage_routes.h"
#include "supervisor/api/docker/exec_routes.h"
#include "supervisor/api/docker/file_routes.h"
#include "supervisor/api/docker/image_routes.h"
#include "supervisor/api/docker/image_transfer_routes.h"
#include "supervisor/api/docker/lifecycle_routes.h"
#include "supervisor/api/docker/network_routes.h"
#include "supervisor/api/docker/ping_routes.h"
#include "supervisor/api/docker/stream_routes.h"
#include "supervisor/api/docker/system_routes.h"
#include "supervisor/api/docker/volume_routes.h"
#include "supervisor/http/server.h"
#include "supervisor/http/tls_transport.h"

namespace gantry::api {
namespace {

// Each is a thread: attached clients, and those that follow logs and events, keep theirs.
constexpr size_t kConnections = 2048;
constexpr size_t kHeadBytes = 64 << 10;

// Programs do not say where a request comes from, pages in browsers do. One of those must not use the
// certificate that its browser has.
bool IsFromAPage(const http::RequestHead& head) {
  const std::string& site = head.field("sec-fetch-site");
  return !head.field("origin").empty() || (!site.empty() && site != "none");
}

void RefusePage(http::Exchange& exchange) {
  exchange.CloseAfter();
  // Who does not take the refusal has gone; the connection ends either way.
  exchange
      .Respond(403, {{"Content-Type", "application/json"}},
               "{\"message\":\"requests of web pages are refused\"}\n")
      .IgnoreError();
}

}  // namespace

DockerDoor::DockerDoor(const docker::Parts& parts, const docker::BuildParts& builds) {
  docker::AddPingRoutes(router_, builds.buildkit != nullptr);
  docker::AddImageRoutes(router_, parts);
  docker::AddImageTransferRoutes(router_, parts);
  docker::AddNetworkRoutes(router_, parts);
  docker::AddSystemRoutes(router_, parts);
  docker::AddDiskUsageRoutes(router_, parts, builds.cache);
  docker::AddVolumeRoutes(router_, parts);
  // Before those that are absent, among which are what else builds have.
  docker::AddBuildRoutes(router_, builds);
  docker::AddBuildkitRoutes(router_, builds.buildkit);
  docker::AddAbsentRoutes(router_);
  docker::AddContainerRoutes(router_, parts);
  docker::AddLifecycleRoutes(router_, parts);
  docker::AddActivityRoutes(router_, parts);
  docker::AddStreamRoutes(router_, parts);
  docker::AddFileRoutes(router_, parts);
  docker::AddExecRoutes(router_, parts);
}

DockerDoor::~DockerDoor() { Stop(); }

absl::Status DockerDoor::Serve(UniqueFd listener) {
  return Start(std::move(listener), /*tls=*/nullptr);
}

absl::Status DockerDoor::ServeTcp(const std::string& address, const TlsFiles& files) {
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<http::TlsContext> tls,
                          http::TlsContext::Load({files.ca, files.certificate, files.key}));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd listener, http::ListenTcp(address));
  tls_.push_back(std::move(tls));
  return Start(std::move(listener), tls_.back().get());
}

absl::Status DockerDoor::Start(UniqueFd listener, const http::TlsContext* tls) {
  http::Server::Options options;
  if (tls != nullptr)
    options.transport = [tls](UniqueFd socket) { return tls->Accept(std::move(socket)); };
  options.thread_name = "docker";
  options.limits.connections = kConnections;
  options.limits.head_bytes = kHeadBytes;
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<http::Server> server,
                          http::Server::Start(std::move(listener), std::move(options),
                                              [this, tls](http::Exchange& exchange) {
                                                tls != nullptr&& IsFromAPage(exchange.head())
                                                    ? RefusePage(exchange)
                                                    : router_.Serve(exchange);
                                              }));
  servers_.push_back(std::move(server));
  return absl::OkStatus();
}

void DockerDoor::Stop() { servers_.clear(); }

}  // namespace gantry::api
