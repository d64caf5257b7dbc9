#include "supervisor/api/docker/build_routes.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/value.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/api/docker/build_query.h"
#include "supervisor/api/docker/classic_build.h"
#include "supervisor/api/docker/named_builds.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/session_build.h"
#include "supervisor/build/build_executor.h"
#include "supervisor/core/build_cache.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

absl::Status Build(build::BuildExecutor& builder, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const v1::BuildRequest::Open open, BuildQuery(request));
  ClassicBuild classic(request.Flag("q"), !request.Flag("rm", /*missing=*/true));
  const auto send = [&](const std::string& text) -> absl::Status {
    if (!request.exchange().begun()) GANTRY_RETURN_IF_ERROR(request.Begin(200, "application/json"));
    return request.WriteBytes(text);
  };
  const absl::Status built = builder.Build(request.context(), open, request.body(),
                                           [&](v1::BuildResponse event) -> absl::Status {
                                             for (const std::string& line : classic.Add(event))
                                               GANTRY_RETURN_IF_ERROR(send(line));
                                             return absl::OkStatus();
                                           });
  if (!built.ok()) {
    // Before the first line it is an error of its own.
    if (!request.exchange().begun()) return built;
    GANTRY_RETURN_IF_ERROR(send(classic.Failed(built)));
  }
  return request.End();
}

absl::Status Prune(core::BuildCache& cache, Request& request) {
  v1::PruneBuildCacheRequest asked;
  asked.set_all(request.Flag("all"));
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  for (const char* name : {"keep-storage", "reserved-space", "max-used-space"}) {
    GANTRY_ASSIGN_OR_RETURN(const std::optional<int64_t> keep, request.Number(name));
    if (keep.has_value() && *keep > 0) asked.set_keep_bytes(*keep);
  }
  GANTRY_ASSIGN_OR_RETURN(const v1::PruneBuildCacheResponse pruned,
                          cache.Prune(request.lasting(), asked));
  Value deleted;
  for (const v1::BuildCacheRecord& record : pruned.removed()) deleted.Append(record.id());
  Value out = Value::EmptyObject();
  out.Set("CachesDeleted", std::move(deleted));
  out.Set("SpaceReclaimed", pruned.space_reclaimed_bytes());
  return request.Reply(200, out);
}

// The context of a build that waits for it.
constexpr char kUploadRequest[] = "upload-request:";

absl::Status Upload(NamedBuilds& builds, const std::string& id, Request& request) {
  GANTRY_RETURN_IF_ERROR(builds.Upload(id, request.body()));
  return request.ReplyEmpty(200);
}

absl::Status AnyBuild(const BuildParts& parts, NamedBuilds& builds, Request& request) {
  const std::string& id = request.Query("buildid");
  if (request.Query("version") != "2") {
    builds.Enter(id, &request.cancel());
    const absl::Cleanup leave = [&] { builds.Leave(id, &request.cancel()); };
    return Build(*parts.builder, request);
  }
  if (absl::StartsWith(id, kUploadRequest))
    return Upload(builds, id.substr(sizeof kUploadRequest - 1), request);
  builds.Enter(id, &request.cancel());
  const absl::Cleanup leave = [&] { builds.Leave(id, &request.cancel()); };
  if (request.Query("session").empty() && request.Query("remote").empty())
    return BuildFromBody(*parts.builder, request);
  if (parts.buildkit == nullptr)
    return absl::UnimplementedError(
        "BuildKit's protocol is not supported: use docker's classic builder, DOCKER_BUILDKIT=0");
  return BuildInSession(*parts.buildkit, builds, request);
}

absl::Status Cancel(NamedBuilds& builds, Request& request) {
  if (request.Query("id").empty()) return absl::InvalidArgumentError("build ID not provided");
  builds.Cancel(request.Query("id"));
  return request.ReplyEmpty(200);
}

}  // namespace

void AddBuildRoutes(Router& router, const BuildParts& parts) {
  if (parts.builder == nullptr) return;
  const auto builds = std::make_shared<NamedBuilds>();
  router.Add("POST", "/build",
             [parts, builds](Request& request) { return AnyBuild(parts, *builds, request); });
  router.Add("POST", "/build/cancel",
             [builds](Request& request) { return Cancel(*builds, request); });
  router.Add("POST", "/build/prune",
             [cache = parts.cache](Request& request) { return Prune(*cache, request); });
}

}  // namespace gantry::api::docker
