#include "base/engine/image_json.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"

#include "base/engine/engine_json.h"
#include "base/engine/proto_time.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::engine {
namespace {

// From these versions on something is there, or no longer.
constexpr int kNoneIsEmpty = 43;  // "<none>:<none>" before
constexpr int kNoVirtualSize = 44;
constexpr int kNoContainer = 45;  // of an image's document: what it was committed from
constexpr int kManifests = 47;    // in lists
constexpr int kDescriptor = 48;
constexpr int kPlainConfig = 50;  // a container's fields beside the image's before
constexpr int kContainers = 51;   // a number; -1 before

Value OneItem(const char* text) {
  Value list = Value::EmptyList();
  list.Append(text);
  return list;
}

Value ManifestDocument(const v1::ManifestSummary& manifest) {
  Value out = Value::EmptyObject();
  out.Set("ID", manifest.manifest().digest());
  out.Set("Descriptor", DescriptorDocument(manifest.manifest()));
  out.Set("Available", manifest.available());
  Value size = Value::EmptyObject();
  size.Set("Content", manifest.content_size_bytes());
  size.Set("Total", manifest.content_size_bytes() + manifest.unpacked_size_bytes());
  out.Set("Size", std::move(size));
  if (manifest.attestation()) {
    out.Set("Kind", "attestation");
    Value data = Value::EmptyObject();
    const auto& annotations = manifest.manifest().annotations();
    const auto of = annotations.find("vnd.docker.reference.digest");
    data.Set("For", of == annotations.end() ? "" : of->second);
    out.Set("AttestationData", std::move(data));
    return out;
  }
  out.Set("Kind", "image");
  Value data = Value::EmptyObject();
  data.Set("Platform", PlatformDocument(manifest.platform()));
  data.Set("Containers", Value::StringRange(manifest.containers()));
  Value unpacked = Value::EmptyObject();
  unpacked.Set("Unpacked", manifest.unpacked_size_bytes());
  data.Set("Size", std::move(unpacked));
  out.Set("ImageData", std::move(data));
  return out;
}

Value ManifestsDocument(const v1::ImageSummary& image) {
  Value list = Value::EmptyList();
  for (const v1::ManifestSummary& one : image.manifests()) list.Append(ManifestDocument(one));
  return list;
}

// What a container's configuration has beside that of an image, as docker wrote it into both.
void AddContainerFields(Value& config) {
  Value full = Value::EmptyObject();
  for (const char* key : {"Hostname", "Domainname", "User"}) full.Set(key, "");
  for (const char* key :
       {"AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"})
    full.Set(key, false);
  for (const char* key : {"Env", "Cmd"}) full.Set(key, Value());
  full.Set("Image", "");
  full.Set("Volumes", Value());
  full.Set("WorkingDir", "");
  for (const char* key : {"Entrypoint", "OnBuild", "Labels"}) full.Set(key, Value());
  if (config.is_object()) {
    for (const auto& [key, value] : config.object().fields) full.Set(key, value);
  }
  config = std::move(full);
}

template <class Range>
Value Removals(const Range& removals) {
  Value list = Value::EmptyList();
  for (const v1::ImageRemoval& removal : removals) {
    Value one = Value::EmptyObject();
    if (!removal.untagged().empty()) one.Set("Untagged", removal.untagged());
    if (!removal.deleted().empty()) one.Set("Deleted", removal.deleted());
    list.Append(std::move(one));
  }
  return list;
}

}  // namespace

Value PlatformDocument(absl::string_view platform) {
  const std::vector<std::string> parts = absl::StrSplit(platform, '/');
  Value out = Value::EmptyObject();
  out.Set("architecture", parts.size() > 1 ? parts[1] : "");
  out.Set("os", parts[0]);
  if (parts.size() > 2) out.Set("variant", parts[2]);
  return out;
}

Value DescriptorDocument(const v1::Descriptor& descriptor) {
  Value out = Value::EmptyObject();
  out.Set("mediaType", descriptor.media_type());
  out.Set("digest", descriptor.digest());
  out.Set("size", descriptor.size_bytes());
  if (!descriptor.annotations().empty())
    out.Set("annotations", Value::StringMap(descriptor.annotations()));
  if (!descriptor.platform().empty()) out.Set("platform", PlatformDocument(descriptor.platform()));
  return out;
}

Value ImageListItem(const v1::ImageSummary& image, int minor) {
  Value out = Value::EmptyObject();
  const bool counted = minor >= kContainers && image.has_containers();
  out.Set("Containers", counted ? image.containers() : -1);
  out.Set("Created", image.has_created_at() ? absl::ToUnixSeconds(FromProto(image.has_created_at(),
                                                                            image.created_at()))
                                            : int64_t{0});
  out.Set("Id", image.id());
  out.Set("Labels", image.labels().empty() ? Value() : Value::StringMap(image.labels()));
  out.Set("ParentId", image.parent_id());
  if (minor >= kDescriptor) out.Set("Descriptor", DescriptorDocument(image.target()));
  if (minor >= kManifests && image.manifests_size() > 0)
    out.Set("Manifests", ManifestsDocument(image));
  const bool none = image.repo_tags().empty() && image.repo_digests().empty();
  if (none && minor < kNoneIsEmpty) {
    out.Set("RepoDigests", OneItem("<none>@<none>"));
    out.Set("RepoTags", OneItem("<none>:<none>"));
  } else {
    out.Set("RepoDigests", Value::StringRange(image.repo_digests()));
    out.Set("RepoTags", Value::StringRange(image.repo_tags()));
  }
  out.Set("SharedSize", image.has_shared_size_bytes() ? image.shared_size_bytes() : int64_t{-1});
  out.Set("Size", image.size_bytes());
  if (minor < kNoVirtualSize) out.Set("VirtualSize", image.size_bytes());
  return out;
}

Value ImageListDocument(const v1::ListImagesResponse& images, int minor) {
  Value list = Value::EmptyList();
  for (const v1::ImageSummary& image : images.images()) list.Append(ImageListItem(image, minor));
  return list;
}

Value ImageInspectDocument(const v1::ImageDetails& image, int minor) {
  const Value whole = ImageDocument(image);
  Value out = Value::EmptyObject();
  for (const auto& [key, field] : whole.object().fields) {
    if (key == "Descriptor" && minor < kDescriptor) continue;
    if (key == "Config" && minor < kPlainConfig) {
      Value config = field;
      AddContainerFields(config);
      out.Set(key, std::move(config));
      continue;
    }
    out.Set(key, field);
    if (key == "Created" && minor < kNoContainer) {
      out.Set("Container", "");
      Value config;
      AddContainerFields(config);
      out.Set("ContainerConfig", std::move(config));
    }
    if (key == "Size" && minor < kNoVirtualSize) out.Set("VirtualSize", field);
  }
  if (minor >= kDescriptor && image.summary().manifests_size() > 0)
    out.Set("Manifests", ManifestsDocument(image.summary()));
  return out;
}

Value ImageSearchDocument(const v1::SearchImagesResponse& found) {
  Value list = Value::EmptyList();
  for (const v1::SearchImagesResponse::Result& result : found.results()) {
    Value one = Value::EmptyObject();
    one.Set("star_count", result.stars());
    one.Set("is_official", result.official());
    one.Set("name", result.name());
    one.Set("is_automated", result.automated());
    one.Set("description", result.description());
    list.Append(std::move(one));
  }
  return list;
}

Value ImageHistoryDocument(const v1::ImageHistoryResponse& history) {
  Value list = Value::EmptyList();
  for (const v1::ImageHistoryResponse::Entry& entry : history.entries()) {
    Value one = Value::EmptyObject();
    one.Set("Comment", entry.comment());
    one.Set("Created", entry.has_created_at() ? absl::ToUnixSeconds(FromProto(
                                                    entry.has_created_at(), entry.created_at()))
                                              : int64_t{0});
    one.Set("CreatedBy", entry.created_by());
    one.Set("Id", entry.id().empty() ? "<missing>" : entry.id());
    one.Set("Size", entry.size_bytes());
    one.Set("Tags", entry.tags().empty() ? Value() : Value::StringRange(entry.tags()));
    list.Append(std::move(one));
  }
  return list;
}

Value ImageRemovalsDocument(const v1::RemoveImageResponse& removed) {
  return Removals(removed.removals());
}

Value ImagePruneDocument(const v1::PruneImagesResponse& pruned) {
  Value out = Value::EmptyObject();
  out.Set("ImagesDeleted", pruned.removals().empty() ? Value() : Removals(pruned.removals()));
  out.Set("SpaceReclaimed", pruned.space_reclaimed_bytes());
  return out;
}

}  // namespace gantry::engine
