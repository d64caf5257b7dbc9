#include "supervisor/api/docker/file_routes.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/engine/container_json.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/container_files.h"

namespace gantry::api::docker {
namespace {

constexpr char kStatField[] = "X-Docker-Container-Path-Stat";

absl::StatusOr<std::string> PathOf(const Request& request) {
  const std::string& path = request.Query("path");
  if (path.empty())
    return absl::InvalidArgumentError("bad parameter: name cannot be empty: give ?path=");
  return path;
}

absl::Status Stat(const Parts& parts, Request& request) {
  v1::StatPathRequest stat;
  stat.set_container(request.Path("id"));
  GANTRY_ASSIGN_OR_RETURN(*stat.mutable_path(), PathOf(request));
  GANTRY_ASSIGN_OR_RETURN(const v1::PathStat found, parts.files->StatPath(request.context(), stat));
  request.AddField(kStatField, engine::PathStatHeader(found));
  return request.ReplyEmpty(200);
}

absl::Status CopyFrom(const Parts& parts, Request& request) {
  v1::CopyFromRequest copy;
  copy.set_container(request.Path("id"));
  GANTRY_ASSIGN_OR_RETURN(*copy.mutable_path(), PathOf(request));
  GANTRY_RETURN_IF_ERROR(parts.files->CopyFrom(
      request.context(), copy,
      [&request](const v1::PathStat& stat) {
        request.AddField(kStatField, engine::PathStatHeader(stat));
        return request.Begin(200, "application/x-tar");
      },
      request.out()));
  return request.End();
}

absl::Status CopyTo(const Parts& parts, Request& request) {
  v1::CopyToRequest::Open open;
  open.set_container(request.Path("id"));
  GANTRY_ASSIGN_OR_RETURN(*open.mutable_path(), PathOf(request));
  open.set_no_overwrite_dir_non_dir(request.Flag("noOverwriteDirNonDir"));
  open.set_copy_uid_gid(request.Flag("copyUIDGID"));
  GANTRY_RETURN_IF_ERROR(parts.files->CopyTo(request.context(), open, request.body()));
  return request.ReplyEmpty(200);
}

absl::Status Export(const Parts& parts, Request& request) {
  LateBody out(request, "application/octet-stream");
  GANTRY_RETURN_IF_ERROR(parts.files->Export(request.context(), request.Path("id"), out));
  return out.End();
}

}  // namespace

void AddFileRoutes(Router& router, const Parts& parts) {
  router.Add("HEAD", "/containers/{id}/archive", parts, Stat);
  router.Add("GET", "/containers/{id}/archive", parts, CopyFrom);
  router.Add("PUT", "/containers/{id}/archive", parts, CopyTo);
  router.Add("GET", "/containers/{id}/export", parts, Export);
}

}  // namespace gantry::api::docker
