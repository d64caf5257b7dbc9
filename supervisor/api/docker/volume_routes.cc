#include "supervisor/api/docker/volume_routes.h"

#include <utility>

#include "base/engine/value.h"
#include "base/engine/volume_json.h"
#include "base/engine/volume_request_json.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/volumes.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/volume_service.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

template <class Texts>
Value ListOrNull(const Texts& texts) {
  return texts.empty() ? Value() : Value::StringRange(texts);
}

absl::Status List(core::VolumeService& volumes, Request& request) {
  v1::ListVolumesRequest asked;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(const v1::ListVolumesResponse found,
                          volumes.List(request.context(), asked));
  Value list = Value::EmptyList();
  for (const v1::Volume& volume : found.volumes()) list.Append(engine::VolumeDocument(volume));
  Value out = Value::EmptyObject();
  out.Set("Volumes", std::move(list));
  out.Set("Warnings", ListOrNull(found.warnings()));
  return request.Reply(200, out);
}

absl::Status Inspect(core::VolumeService& volumes, Request& request) {
  v1::InspectVolumeRequest asked;
  asked.set_name(request.Path("name"));
  GANTRY_ASSIGN_OR_RETURN(const v1::InspectVolumeResponse found,
                          volumes.Inspect(request.context(), asked));
  return request.Reply(200, engine::VolumeDocument(found.volume()));
}

absl::Status Create(core::VolumeService& volumes, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const Value body, request.Json());
  GANTRY_ASSIGN_OR_RETURN(const v1::CreateVolumeRequest asked,
                          engine::CreateVolumeFromDocument(body));
  GANTRY_ASSIGN_OR_RETURN(const v1::CreateVolumeResponse made,
                          volumes.Create(request.lasting(), asked));
  return request.Reply(201, engine::VolumeDocument(made.volume()));
}

// Only a cluster's volumes can be changed.
absl::Status Update(core::VolumeService&, Request& request) {
  return request.ReplyError(
      503, "volume update only valid for cluster volumes, but swarm is unavailable");
}

absl::Status Remove(core::VolumeService& volumes, Request& request) {
  v1::RemoveVolumeRequest asked;
  asked.set_name(request.Path("name"));
  asked.set_force(request.Flag("force"));
  GANTRY_RETURN_IF_ERROR(volumes.Remove(request.lasting(), asked).status());
  return request.ReplyEmpty(204);
}

absl::Status Prune(core::VolumeService& volumes, Request& request) {
  v1::PruneVolumesRequest asked;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  asked.set_all(request.version() < ApiVersion{1, 42});  // named ones stayed from 1.42 on
  GANTRY_ASSIGN_OR_RETURN(const v1::PruneVolumesResponse pruned,
                          volumes.Prune(request.lasting(), asked));
  Value out = Value::EmptyObject();
  out.Set("VolumesDeleted", ListOrNull(pruned.names()));
  out.Set("SpaceReclaimed", pruned.space_reclaimed_bytes());
  return request.Reply(200, out);
}

}  // namespace

void AddVolumeRoutes(Router& router, const Parts& parts) {
  core::VolumeService* const volumes = parts.volumes;
  const auto add = [&](absl::string_view method, absl::string_view pattern,
                       absl::Status (*handler)(core::VolumeService&, Request&)) {
    router.Add(method, pattern,
               [volumes, handler](Request& request) { return handler(*volumes, request); });
  };
  add("GET", "/volumes", List);
  add("POST", "/volumes/create", Create);
  add("POST", "/volumes/prune", Prune);
  add("GET", "/volumes/{name}", Inspect);
  add("PUT", "/volumes/{name}", Update);
  add("DELETE", "/volumes/{name}", Remove);
}

}  // namespace gantry::api::docker
