#include "supervisor/api/docker/disk_usage_routes.h"

#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/engine/container_json.h"
#include "base/engine/image_json.h"
#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/engine/value.h"
#include "base/engine/volume_json.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/builds.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"
#include "proto/gantry/v1/volumes.pb.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/api/docker/version_table.h"
#include "supervisor/core/build_cache.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/system_service.h"
#include "supervisor/core/volume_service.h"

namespace gantry::api::docker {
namespace {

using engine::Value;

// What a client wants to know of; all of it where it does not say.
absl::StatusOr<std::set<std::string>> TypesOf(const Request& request) {
  const std::set<std::string> all = {"container", "image", "volume", "build-cache"};
  if (request.version() < ApiVersion{1, 42}) return all;  // it could not say yet
  std::set<std::string> wanted;
  for (const std::string& type : request.QueryAll("type")) {
    if (!all.contains(type))
      return absl::InvalidArgumentError(absl::StrCat("unknown object type: ", type));
    wanted.insert(type);
  }
  return wanted.empty() ? all : wanted;
}

absl::StatusOr<Value> Images(const Parts& parts, Request& request) {
  v1::ListImagesRequest asked;
  asked.set_shared_size(true);
  GANTRY_ASSIGN_OR_RETURN(v1::ListImagesResponse found,
                          parts.images->catalog.List(request.context(), asked));
  Value list = Value::EmptyList();
  for (const v1::ImageSummary& image : found.images()) {
    Value item = engine::ImageListItem(image, request.version().minor);
    // Counted in every version, unlike in lists: clients tell by it what can be
    // reclaimed.
    item.Set("Containers", image.has_containers() ? image.containers() : 0);
    list.Append(std::move(item));
  }
  return list;
}

absl::StatusOr<Value> Containers(const Parts& parts, Request& request) {
  v1::ListContainersRequest asked;
  asked.set_all(true);
  asked.set_size(true);
  GANTRY_ASSIGN_OR_RETURN(const v1::ListContainersResponse found,
                          parts.view->List(request.context(), asked));
  Value list = Value::EmptyList();
  // Nobody looks for networks here: their ids are left out.
  for (const v1::ContainerSummary& container : found.containers()) {
    std::string text;
    engine::AppendContainerSummary(container, {}, absl::Now(), {}, &text);
    GANTRY_ASSIGN_OR_RETURN(Value item, Value::FromJson(text));
    list.Append(ForVersion(Document::kContainerSummary, request.version(), std::move(item)));
  }
  return list;
}

absl::StatusOr<Value> Volumes(const Parts& parts, Request& request) {
  v1::ListVolumesRequest asked;
  asked.set_size(true);
  GANTRY_ASSIGN_OR_RETURN(const v1::ListVolumesResponse found,
                          parts.volumes->List(request.context(), asked));
  Value list = Value::EmptyList();
  for (const v1::Volume& volume : found.volumes()) list.Append(engine::VolumeDocument(volume));
  return list;
}

absl::StatusOr<Value> CacheRecords(core::BuildCache* cache, Request& request, int64_t* bytes) {
  Value list = Value::EmptyList();
  if (cache == nullptr) return list;
  GANTRY_ASSIGN_OR_RETURN(const v1::BuildCacheUsageResponse found,
                          cache->Usage(request.context(), v1::BuildCacheUsageRequest()));
  for (const v1::BuildCacheRecord& record : found.records()) {
    Value item = Value::EmptyObject();
    item.Set("ID", record.id());
    item.Set("Type", record.type());
    item.Set("Description", record.description());
    item.Set("InUse", record.in_use());
    item.Set("Shared", record.shared());
    item.Set("Size", record.size_bytes());
    item.Set("CreatedAt", engine::JsonTime(engine::FromProto(record.created_at())));
    item.Set("LastUsedAt", record.has_last_used_at()
                               ? Value(engine::JsonTime(engine::FromProto(record.last_used_at())))
                               : Value());
    item.Set("UsageCount", record.uses());
    list.Append(std::move(item));
    *bytes += record.size_bytes();
  }
  return list;
}

absl::Status DiskUsage(const Parts& parts, core::BuildCache* cache, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const std::set<std::string> types, TypesOf(request));
  int64_t layers = 0;
  Value images;
  if (types.contains("image")) {
    GANTRY_ASSIGN_OR_RETURN(images, Images(parts, request));
    GANTRY_ASSIGN_OR_RETURN(const v1::DiskUsageResponse usage,
                            parts.system->DiskUsage(request.context(), v1::DiskUsageRequest()));
    for (const v1::DiskUsageResponse::Kind& kind : usage.kinds()) {
      if (kind.name() == "Images") layers = kind.size_bytes();
    }
  }
  Value containers;
  if (types.contains("container")) {
    GANTRY_ASSIGN_OR_RETURN(containers, Containers(parts, request));
  }
  Value volumes;
  if (types.contains("volume")) {
    GANTRY_ASSIGN_OR_RETURN(volumes, Volumes(parts, request));
  }
  Value records;
  int64_t cache_bytes = 0;
  if (types.contains("build-cache")) {
    GANTRY_ASSIGN_OR_RETURN(records, CacheRecords(cache, request, &cache_bytes));
  }
  Value out = Value::EmptyObject();
  out.Set("LayersSize", layers);
  out.Set("Images", std::move(images));
  out.Set("Containers", std::move(containers));
  out.Set("Volumes", std::move(volumes));
  out.Set("BuildCache", std::move(records));
  if (request.version() < ApiVersion{1, 42}) out.Set("BuilderSize", cache_bytes);
  return request.Reply(200, out);
}

}  // namespace

void AddDiskUsageRoutes(Router& router, const Parts& parts, core::BuildCache* cache) {
  router.Add("GET", "/system/df",
             [parts, cache](Request& request) { return DiskUsage(parts, cache, request); });
}

}  // namespace gantry::api::docker
