#include "supervisor/api/docker/image_routes.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/engine/commit_json.h"
#include "base/engine/image_json.h"
#include "base/engine/registry_auth_json.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/docker/image_names.h"
#include "supervisor/api/docker/request.h"
#include "supervisor/api/docker/router.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/image_services.h"

namespace gantry::api::docker {
namespace {

absl::Status List(core::ImageServices& images, Request& request) {
  v1::ListImagesRequest asked;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  // Before 1.41 there was a parameter with the one pattern.
  if (request.version() < ApiVersion{1, 41} && !request.Query("filter").empty()) {
    v1::Filter& pattern = *asked.add_filters();
    pattern.set_key("reference");
    pattern.set_value(request.Query("filter"));
  }
  asked.set_all(request.Flag("all"));
  asked.set_shared_size(request.Flag("shared-size"));
  asked.set_manifests(request.Flag("manifests"));
  GANTRY_ASSIGN_OR_RETURN(const v1::ListImagesResponse found,
                          images.catalog.List(request.context(), asked));
  return request.Reply(200, engine::ImageListDocument(found, request.version().minor));
}

// docker-compose 1 asks with the newest version and reads fields that left the API with 1.44
// (ContainerConfig); without them it cannot make a container anew.
int InspectMinor(const Request& request) {
  constexpr int kWithContainerConfig = 43;
  const bool old_compose =
      absl::StartsWith(request.head().field("user-agent"), "docker-compose/1.");
  return old_compose ? std::min(request.version().minor, kWithContainerConfig)
                     : request.version().minor;
}

absl::Status Inspect(core::ImageServices& images, Request& request) {
  v1::InspectImageRequest asked;
  asked.set_image(request.Path("name"));
  GANTRY_ASSIGN_OR_RETURN(*asked.mutable_platform(), PlatformOf(request.Query("platform")));
  asked.set_manifests(request.Flag("manifests"));
  if (asked.manifests() && !asked.platform().empty())
    return absl::InvalidArgumentError(
        "conflicting options: manifests and platform options cannot both be set");
  const absl::StatusOr<v1::ImageDetails> found = images.catalog.Inspect(request.context(), asked);
  if (!found.ok()) return ImageError(found.status(), asked.image());
  return request.Reply(200, engine::ImageInspectDocument(*found, InspectMinor(request)));
}

absl::Status History(core::ImageServices& images, Request& request) {
  v1::ImageHistoryRequest asked;
  asked.set_image(request.Path("name"));
  GANTRY_ASSIGN_OR_RETURN(*asked.mutable_platform(), PlatformOf(request.Query("platform")));
  const absl::StatusOr<v1::ImageHistoryResponse> found =
      images.catalog.History(request.context(), asked);
  if (!found.ok()) return ImageError(found.status(), asked.image());
  return request.Reply(200, engine::ImageHistoryDocument(*found));
}

absl::Status Tag(core::ImageServices& images, Request& request) {
  v1::TagImageRequest asked;
  asked.set_image(request.Path("name"));
  asked.set_reference(NameWithTag(request.Query("repo"), request.Query("tag")));
  if (request.Query("repo").empty())
    return absl::InvalidArgumentError("invalid reference format: repo is missing");
  const absl::Status tagged = images.catalog.Tag(request.lasting(), asked);
  if (!tagged.ok()) return ImageError(tagged, asked.image());
  return request.ReplyEmpty(201);
}

// The beginnings by which clients tell the cases apart.
absl::Status RemovalError(const absl::Status& status, const std::string& image) {
  const bool many = absl::StrContains(status.message(), "several names");
  return absl::FailedPreconditionError(
      many ? absl::StrCat("conflict: unable to delete ", image, " (must be forced) - ",
                          status.message())
           : absl::StrCat("conflict: unable to remove repository reference \"", image,
                          "\" (must force) - ", status.message()));
}

absl::Status Remove(core::ImageServices& images, Request& request) {
  v1::RemoveImageRequest asked;
  asked.set_image(request.Path("name"));
  asked.set_force(request.Flag("force"));
  asked.set_no_prune(request.Flag("noprune"));
  for (const std::string& text : request.QueryAll("platforms")) {
    GANTRY_ASSIGN_OR_RETURN(*asked.add_platforms(), PlatformOf(text));
  }
  const absl::StatusOr<v1::RemoveImageResponse> removed =
      images.catalog.Remove(request.lasting(), asked);
  if (!removed.ok()) {
    if (absl::IsFailedPrecondition(removed.status()))
      return RemovalError(removed.status(), asked.image());
    return ImageError(removed.status(), asked.image());
  }
  return request.Reply(200, engine::ImageRemovalsDocument(*removed));
}

absl::Status Prune(core::ImageServices& images, Request& request) {
  v1::PruneImagesRequest asked;
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  GANTRY_ASSIGN_OR_RETURN(const v1::PruneImagesResponse pruned,
                          images.catalog.Prune(request.lasting(), asked));
  return request.Reply(200, engine::ImagePruneDocument(pruned));
}

absl::Status Search(core::ImageServices& images, Request& request) {
  v1::SearchImagesRequest asked;
  asked.set_term(request.Query("term"));
  GANTRY_ASSIGN_OR_RETURN(const std::optional<int64_t> limit, request.Number("limit"));
  asked.set_limit(static_cast<int32_t>(std::clamp<int64_t>(limit.value_or(0), -1, INT32_MAX)));
  GANTRY_RETURN_IF_ERROR(request.FiltersInto(asked.mutable_filters()));
  *asked.mutable_auth() = engine::RegistryAuthFromHeader(request.head().field("x-registry-auth"));
  GANTRY_ASSIGN_OR_RETURN(const v1::SearchImagesResponse found,
                          images.registry.Search(request.context(), asked));
  return request.Reply(200, engine::ImageSearchDocument(found));
}

absl::Status Distribution(core::ImageServices& images, Request& request) {
  const std::string& name = request.Path("name");
  const absl::StatusOr<core::RemoteImage> found = images.registry.Lookup(
      request.context(), name,
      engine::RegistryAuthFromHeader(request.head().field("x-registry-auth")));
  if (!found.ok()) return PullError(found.status(), name);
  engine::Value out = engine::Value::EmptyObject();
  v1::Descriptor descriptor;
  descriptor.set_media_type(found->descriptor.media_type);
  descriptor.set_digest(found->descriptor.digest.str());
  descriptor.set_size_bytes(found->descriptor.size_bytes);
  out.Set("Descriptor", engine::DescriptorDocument(descriptor));
  engine::Value platforms = engine::Value::EmptyList();
  for (const std::string& platform : found->platforms)
    platforms.Append(engine::PlatformDocument(platform));
  out.Set("Platforms", std::move(platforms));
  return request.Reply(200, out);
}

absl::Status Commit(core::ContainerFiles& files, Request& request) {
  GANTRY_ASSIGN_OR_RETURN(const engine::Value body, request.Json());
  v1::CommitRequest asked;
  asked.set_container(request.Query("container"));
  if (asked.container().empty()) return absl::InvalidArgumentError("container is missing");
  if (!request.Query("repo").empty())
    asked.set_reference(NameWithTag(request.Query("repo"), request.Query("tag")));
  asked.set_author(request.Query("author"));
  asked.set_comment(request.Query("comment"));
  asked.set_pause(request.Flag("pause", true));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> fields, engine::ChangesFromDocument(body));
  for (const std::string& change : fields) asked.add_changes(change);
  for (const std::string& text : request.QueryAll("changes")) {
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      line = absl::StripAsciiWhitespace(line);
      if (!line.empty()) asked.add_changes(std::string(line));
    }
  }
  GANTRY_ASSIGN_OR_RETURN(const v1::CommitResponse made, files.Commit(request.lasting(), asked));
  engine::Value out = engine::Value::EmptyObject();
  out.Set("Id", made.image_id());
  return request.Reply(201, out);
}

}  // namespace

void AddImageRoutes(Router& router, const Parts& parts) {
  core::ImageServices* const images = parts.images;
  const auto add = [&](absl::string_view method, absl::string_view pattern,
                       absl::Status (*handler)(core::ImageServices&, Request&)) {
    router.Add(method, pattern,
               [images, handler](Request& request) { return handler(*images, request); });
  };
  add("GET", "/images/json", List);
  add("GET", "/images/search", Search);
  add("GET", "/images/{name...}/json", Inspect);
  add("GET", "/images/{name...}/history", History);
  add("POST", "/images/prune", Prune);
  add("POST", "/images/{name...}/tag", Tag);
  add("DELETE", "/images/{name...}", Remove);
  core::ContainerFiles* const files = parts.files;
  router.Add("POST", "/commit", [files](Request& request) { return Commit(*files, request); });
  add("GET", "/distribution/{name...}/json", Distribution);
}

}  // namespace gantry::api::docker
