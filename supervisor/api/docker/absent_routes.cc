#include "supervisor/api/docker/absent_routes.h"

#include <string>

#include "absl/strings/str_cat.h"

#include "base/engine/value.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

absl::Status NoSwarm(Request& request) {
  return request.ReplyError(
      503,
      "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to "
      "connect this node to swarm and try again.");
}

absl::Status NotInASwarm(Request& request) {
  return request.ReplyError(503, "This node is not part of a swarm");
}

absl::Status NoSwarmHere(Request& request) {
  return request.ReplyError(
      501, "swarm mode is not supported: run containers of many machines with Kubernetes");
}

absl::Status NoPlugins(Request& request) { return request.Reply(200, Value::EmptyList()); }

absl::Status NoSuchPlugin(Request& request) {
  return request.ReplyError(404, absl::StrCat("plugin \"", request.Path("name"), "\" not found"));
}

absl::Status PluginsUnsupported(Request& request) {
  return request.ReplyError(501, "plugins are not supported");
}

absl::Status NoBuilds(Request& request) {
  return request.ReplyError(
      501,
      "this daemon does not build: build with a BuildKit of your own (docker buildx create "
      "--driver "
      "remote, or buildkitd with its containerd worker on Gantry's socket) and load the result");
}

// There is no cache to take anything from; `system prune` asks for this beside the rest.
absl::Status PruneBuilds(Request& request) {
  Value out = Value::EmptyObject();
  out.Set("CachesDeleted", Value());
  out.Set("SpaceReclaimed", 0);
  return request.Reply(200, out);
}

}  // namespace

void AddAbsentRoutes(Router& router) {
  router.Add("GET", "/swarm", NoSwarm);
  router.Add("POST", "/swarm/init", NoSwarmHere);
  router.Add("POST", "/swarm/join", NoSwarmHere);
  router.Add("POST", "/swarm/leave", NotInASwarm);
  router.Add("POST", "/swarm/update", NoSwarm);
  router.Add("GET", "/swarm/unlockkey", NoSwarm);
  router.Add("POST", "/swarm/unlock", NotInASwarm);
  for (const char* noun : {"nodes", "services", "tasks", "secrets", "configs"}) {
    router.Add("GET", absl::StrCat("/", noun), NoSwarm);
    router.Add("GET", absl::StrCat("/", noun, "/{id}"), NoSwarm);
    router.Add("GET", absl::StrCat("/", noun, "/{id}/logs"), NoSwarm);
    router.Add("POST", absl::StrCat("/", noun, "/create"), NoSwarm);
    router.Add("POST", absl::StrCat("/", noun, "/{id}/update"), NoSwarm);
    router.Add("DELETE", absl::StrCat("/", noun, "/{id}"), NoSwarm);
  }

  router.Add("GET", "/plugins", NoPlugins);
  router.Add("GET", "/plugins/privileges", PluginsUnsupported);
  router.Add("POST", "/plugins/pull", PluginsUnsupported);
  router.Add("POST", "/plugins/create", PluginsUnsupported);
  router.Add("GET", "/plugins/{name...}/json", NoSuchPlugin);
  router.Add("DELETE", "/plugins/{name...}", NoSuchPlugin);
  for (const char* verb : {"enable", "disable", "upgrade", "push", "set"})
    router.Add("POST", absl::StrCat("/plugins/{name...}/", verb), NoSuchPlugin);

  router.Add("POST", "/build", NoBuilds);
  router.Add("POST", "/build/prune", PruneBuilds);
  router.Add("POST", "/build/cancel", NoBuilds);
  router.Add("POST", "/session", NoBuilds);
  router.Add("POST", "/grpc", NoBuilds);
}

}  // namespace gantry::api::docker
