#include "supervisor/api/docker/ping_routes.h"

#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"

namespace gantry::api::docker {
namespace {

absl::Status Ping(bool buildkit, Request& request) {
  request.AddField("Builder-Version", buildkit ? "2" : "1");
  request.AddField("Swarm", "inactive");
  request.AddField("Cache-Control", "no-cache, no-store, must-revalidate");
  request.AddField("Pragma", "no-cache");
  // docker's answer to HEAD has the length 0.
  return request.ReplyText(200, request.head().method == "HEAD" ? "" : "OK");
}

}  // namespace

void AddPingRoutes(Router& router, bool buildkit) {
  for (const char* method : {"GET", "HEAD"})
    router.Add(method, "/_ping", [buildkit](Request& request) { return Ping(buildkit, request); });
}

}  // namespace gantry::api::docker
