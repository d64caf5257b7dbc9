#include "supervisor/oci/manifest.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/json_fields.h"

namespace gantry::oci {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

absl::Status Schema1(absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(
      what,
      ": docker schema 1 manifests are not supported any more; push the image again with a "
      "current client to convert it"));
}

// Some readers ignore the case of member names. A document that reads differently to them is
// refused.
absl::Status CheckMemberNames(const json& object, absl::string_view what) {
  static constexpr const char* kNames[] = {"schemaVersion", "mediaType",  "artifactType",
                                           "config",        "layers",     "manifests",
                                           "subject",       "annotations"};
  for (const auto& [name, value] : object.items()) {
    for (const char* known : kNames) {
      if (name != known && absl::EqualsIgnoreCase(name, known)) {
        return absl::InvalidArgumentError(
            absl::StrCat(what, ": ambiguous member `", name, "` beside `", known, "`"));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<content::Descriptor>> ReadDescriptors(const json& array,
                                                                 absl::string_view what,
                                                                 absl::string_view name,
                                                                 size_t limit) {
  if (!array.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": `", name, "` is not a list"));
  }
  if (array.size() > limit) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ": ", array.size(), " ", name, ", more than the ", limit, " accepted"));
  }
  std::vector<content::Descriptor> result;
  result.reserve(array.size());
  for (const json& item : array) {
    GANTRY_ASSIGN_OR_RETURN(
        content::Descriptor descriptor,
        DescriptorFromJson(item, absl::StrCat(what, ": ", name, "[", result.size(), "]")));
    result.push_back(std::move(descriptor));
  }
  return result;
}

// What both kinds of document have.
template <typename T>
absl::Status ReadShared(const json& object, absl::string_view what, T& out) {
  JsonFields fields(object, what);
  fields.Get("artifactType", out.artifact_type);
  fields.Get("annotations", out.annotations);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (const json* subject = fields.Find("subject")) {
    GANTRY_ASSIGN_OR_RETURN(out.subject,
                            DescriptorFromJson(*subject, absl::StrCat(what, ": subject")));
  }
  return absl::OkStatus();
}

// Written out with their members in the order in which Go's structures have them, as the
// specification shows them: what we write is then, to the byte and so by its digest, what
// containerd and docker write.
ordered_json DescriptorToJson(const content::Descriptor& d) {
  ordered_json out = {
      {"mediaType", d.media_type}, {"digest", d.digest.str()}, {"size", d.size_bytes}};
  if (!d.urls.empty()) out["urls"] = d.urls;
  if (!d.annotations.empty()) out["annotations"] = d.annotations;
  if (d.platform.has_value()) {
    ordered_json p = {{"architecture", d.platform->architecture}, {"os", d.platform->os}};
    if (!d.platform->os_version.empty()) p["os.version"] = d.platform->os_version;
    if (!d.platform->os_features.empty()) p["os.features"] = d.platform->os_features;
    if (!d.platform->variant.empty()) p["variant"] = d.platform->variant;
    out["platform"] = std::move(p);
  }
  if (!d.artifact_type.empty()) out["artifactType"] = d.artifact_type;
  return out;
}

ordered_json DescriptorsToJson(const std::vector<content::Descriptor>& descriptors) {
  ordered_json out = ordered_json::array();
  for (const auto& d : descriptors) out.push_back(DescriptorToJson(d));
  return out;
}

template <typename T>
ordered_json Begin(const T& document) {
  ordered_json out = {{"schemaVersion", 2}, {"mediaType", document.media_type}};
  if (!document.artifact_type.empty()) out["artifactType"] = document.artifact_type;
  return out;
}

template <typename T>
std::string End(const T& document, ordered_json out) {
  if (document.subject.has_value()) out["subject"] = DescriptorToJson(*document.subject);
  if (!document.annotations.empty()) out["annotations"] = document.annotations;
  return out.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace

bool IsIndexType(absl::string_view media_type) {
  return media_type == kOciIndex || media_type == kDockerIndex;
}

bool IsManifestType(absl::string_view media_type) {
  return media_type == kOciManifest || media_type == kDockerManifest;
}

bool IsConfigType(absl::string_view media_type) {
  return media_type == kOciConfig || media_type == kDockerConfig;
}

bool IsForeignLayerType(absl::string_view media_type) {
  return absl::StartsWith(media_type, "application/vnd.oci.image.layer.nondistributable.v1.tar") ||
         absl::StartsWith(media_type, "application/vnd.docker.image.rootfs.foreign.diff.tar");
}

bool IsLayerType(absl::string_view media_type) {
  return media_type == kOciLayer || media_type == kOciLayerGzip || media_type == kOciLayerZstd ||
         media_type == kDockerLayer || media_type == kDockerLayerGzip ||
         media_type == kDockerLayerZstd || IsForeignLayerType(media_type);
}

bool IsSchema1Type(absl::string_view media_type) {
  return media_type == "application/vnd.docker.distribution.manifest.v1+json" ||
         media_type == "application/vnd.docker.distribution.manifest.v1+prettyjws";
}

absl::StatusOr<content::Descriptor> DescriptorFromJson(const json& value, absl::string_view what) {
  if (!value.is_object())
    return absl::InvalidArgumentError(absl::StrCat(what, ": not a descriptor"));
  content::Descriptor out;
  std::string digest;
  std::optional<int64_t> size;
  JsonFields fields(value, what);
  fields.Get("mediaType", out.media_type);
  fields.Get("digest", digest);
  fields.Get("size", size);
  fields.Get("annotations", out.annotations);
  fields.Get("urls", out.urls);
  fields.Get("artifactType", out.artifact_type);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (out.media_type.empty())
    return absl::InvalidArgumentError(absl::StrCat(what, ": no mediaType"));
  if (!size.has_value() || *size < 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": no valid size"));
  }
  out.size_bytes = *size;
  absl::StatusOr<content::Digest> parsed = content::Digest::Parse(digest);
  if (!parsed.ok())
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", parsed.status().message()));
  out.digest = *std::move(parsed);
  if (const json* platform = fields.Find("platform")) {
    content::Platform p;
    JsonFields parts(*platform, absl::StrCat(what, ": platform"));
    parts.Get("os", p.os);
    parts.Get("architecture", p.architecture);
    parts.Get("variant", p.variant);
    parts.Get("os.version", p.os_version);
    parts.Get("os.features", p.os_features);
    GANTRY_RETURN_IF_ERROR(parts.status());
    out.platform = std::move(p);
  }
  return out;
}

absl::StatusOr<Document> ParseDocument(absl::string_view bytes, absl::string_view media_type,
                                       absl::string_view what) {
  if (IsSchema1Type(media_type)) return Schema1(what);
  if (!media_type.empty() && !IsIndexType(media_type) && !IsManifestType(media_type)) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": media type ", media_type,
                                                   " is neither an image manifest nor an index"));
  }
  GANTRY_ASSIGN_OR_RETURN(json object, ParseJson(bytes, what, {.max_bytes = kMaxManifestBytes}));
  if (!object.is_object())
    return absl::InvalidArgumentError(absl::StrCat(what, ": not a JSON object"));

  JsonFields fields(object, what);
  int64_t schema_version = 0;
  std::string own_type;
  fields.Get("schemaVersion", schema_version);
  fields.Get("mediaType", own_type);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (schema_version == 1 || IsSchema1Type(own_type)) return Schema1(what);
  if (schema_version != 2) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": schemaVersion is not 2"));
  }
  GANTRY_RETURN_IF_ERROR(CheckMemberNames(object, what));
  if (!own_type.empty() && !media_type.empty() && own_type != media_type) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": says it is ", own_type, " but is referred to as ", media_type));
  }

  const bool has_manifests = fields.Find("manifests") != nullptr;
  const bool has_layers = fields.Find("layers") != nullptr || fields.Find("config") != nullptr;
  if (has_manifests && has_layers) {
    return absl::InvalidArgumentError(absl::StrCat(
        what,
        ": has both `manifests` and `config` or `layers`, so it could be read as two things"));
  }
  std::string type = media_type.empty() ? own_type : std::string(media_type);
  // `null` is how Go programs write an empty list.
  const bool names_manifests = object.contains("manifests");
  if (type.empty()) type = names_manifests && !has_layers ? kOciIndex : kOciManifest;
  if (!IsIndexType(type) && !IsManifestType(type)) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": media type ", type, " is neither an image manifest nor an index"));
  }

  Document document;
  if (IsIndexType(type)) {
    if (!names_manifests) {
      return absl::InvalidArgumentError(absl::StrCat(what, ": an index without `manifests`"));
    }
    Index index;
    index.media_type = std::move(type);
    GANTRY_RETURN_IF_ERROR(ReadShared(object, what, index));
    if (const json* manifests = fields.Find("manifests")) {
      GANTRY_ASSIGN_OR_RETURN(index.manifests,
                              ReadDescriptors(*manifests, what, "manifests", kMaxIndexEntries));
    }
    document.index = std::move(index);
    return document;
  }
  if (fields.Find("config") == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(what, ": a manifest without `config`"));
  Manifest manifest;
  manifest.media_type = std::move(type);
  GANTRY_RETURN_IF_ERROR(ReadShared(object, what, manifest));
  GANTRY_ASSIGN_OR_RETURN(
      manifest.config, DescriptorFromJson(*fields.Find("config"), absl::StrCat(what, ": config")));
  // An image from nothing (FROM scratch with settings only) has none, and some writers leave the
  // member out.
  if (const json* layers = fields.Find("layers")) {
    GANTRY_ASSIGN_OR_RETURN(manifest.layers, ReadDescriptors(*layers, what, "layers", kMaxLayers));
  }
  document.manifest = std::move(manifest);
  return document;
}

absl::StatusOr<Manifest> ParseManifest(absl::string_view bytes, absl::string_view media_type,
                                       absl::string_view what) {
  GANTRY_ASSIGN_OR_RETURN(Document document, ParseDocument(bytes, media_type, what));
  if (!document.manifest.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": an index where a manifest was expected"));
  }
  return *std::move(document.manifest);
}

absl::StatusOr<Index> ParseIndex(absl::string_view bytes, absl::string_view media_type,
                                 absl::string_view what) {
  GANTRY_ASSIGN_OR_RETURN(Document document, ParseDocument(bytes, media_type, what));
  if (!document.index.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a manifest where an index was expected"));
  }
  return *std::move(document.index);
}

std::string PrintManifest(const Manifest& manifest) {
  ordered_json out = Begin(manifest);
  out["config"] = DescriptorToJson(manifest.config);
  out["layers"] = DescriptorsToJson(manifest.layers);
  return End(manifest, std::move(out));
}

std::string PrintIndex(const Index& index) {
  ordered_json out = Begin(index);
  out["manifests"] = DescriptorsToJson(index.manifests);
  return End(index, std::move(out));
}

std::vector<content::Descriptor> Children(const Document& document) {
  if (document.index.has_value()) return document.index->manifests;
  std::vector<content::Descriptor> out;
  if (document.manifest.has_value()) {
    out.push_back(document.manifest->config);
    out.insert(out.end(), document.manifest->layers.begin(), document.manifest->layers.end());
  }
  return out;
}

std::map<std::string, std::string> ChildLabels(const Document& document) {
  std::map<std::string, std::string> labels;
  if (document.index.has_value()) {
    for (size_t i = 0; i < document.index->manifests.size(); ++i) {
      labels[absl::StrCat("containerd.io/gc.ref.content.m.", i)] =
          document.index->manifests[i].digest.str();
    }
  }
  if (document.manifest.has_value()) {
    labels["containerd.io/gc.ref.content.config"] = document.manifest->config.digest.str();
    for (size_t i = 0; i < document.manifest->layers.size(); ++i) {
      labels[absl::StrCat("containerd.io/gc.ref.content.l.", i)] =
          document.manifest->layers[i].digest.str();
    }
  }
  return labels;
}

bool IsAttestation(const content::Descriptor& descriptor) {
  auto it = descriptor.annotations.find("vnd.docker.reference.type");
  return it != descriptor.annotations.end() && it->second == "attestation-manifest";
}

std::vector<content::Digest> ChainIds(const std::vector<content::Digest>& diff_ids) {
  std::vector<content::Digest> chain;
  chain.reserve(diff_ids.size());
  for (const content::Digest& diff_id : diff_ids) {
    chain.push_back(chain.empty() ? diff_id
                                  : content::Digest::Sha256Of(
                                        absl::StrCat(chain.back().str(), " ", diff_id.str())));
  }
  return chain;
}

}  // namespace gantry::oci
