// Lists, details and history of images: what ImageCatalog shows.
#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_filters.h"
#include "supervisor/distribution/reference.h"

namespace gantry::core {
namespace {

constexpr int64_t kMaxConfigBytes = 8 << 20;

void FillDescriptor(const content::Descriptor& in, v1::Descriptor& out) {
  out.set_media_type(in.media_type);
  out.set_digest(in.digest.str());
  out.set_size_bytes(in.size_bytes);
  if (in.platform.has_value()) out.set_platform(oci::FormatPlatform(*in.platform));
  for (const auto& [key, value] : in.annotations) (*out.mutable_annotations())[key] = value;
}

void ParseTimestamp(const std::string& text, google::protobuf::Timestamp* out) {
  absl::Time at;
  std::string error;
  if (text.empty() || !absl::ParseTime(absl::RFC3339_full, text, &at, &error)) return;
  const int64_t nanos = absl::ToUnixNanos(at);
  out->set_seconds(nanos / 1000000000);
  out->set_nanos(static_cast<int32_t>(nanos % 1000000000));
}

// The blobs of an image that are in the store, each once, with their bytes.
struct Tree {
  std::map<content::Digest, int64_t> blobs;
  std::vector<content::Descriptor> manifests;  // images, attestations included
};

void WalkTree(content::Store& store, const content::Descriptor& descriptor, int depth, Tree& tree) {
  if (depth > 4) return;
  absl::StatusOr<content::Info> info = store.Stat(descriptor.digest);
  if (!info.ok()) {
    if (oci::IsManifestType(descriptor.media_type)) tree.manifests.push_back(descriptor);
    return;
  }
  if (!tree.blobs.emplace(descriptor.digest, info->size_bytes).second) return;
  const bool index = oci::IsIndexType(descriptor.media_type);
  if (!index && !oci::IsManifestType(descriptor.media_type)) return;
  if (!index) tree.manifests.push_back(descriptor);
  absl::StatusOr<std::string> bytes =
      content::ReadBlob(store, descriptor.digest, oci::kMaxManifestBytes);
  if (!bytes.ok()) return;
  absl::StatusOr<oci::Document> document =
      oci::ParseDocument(*bytes, descriptor.media_type, descriptor.digest.str());
  if (!document.ok()) return;
  for (const content::Descriptor& child : oci::Children(*document))
    WalkTree(store, child, depth + 1, tree);
}

}  // namespace

absl::StatusOr<v1::ImageSummary> ImageCatalog::Summarize(
    const CallContext& context, const std::vector<record::v1::Image>& records, bool manifests) {
  v1::ImageSummary out;
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(records.front()));
  out.set_id(target.digest.str());
  FillDescriptor(target, *out.mutable_target());
  std::set<std::string> digests;
  for (const record::v1::Image& record : records) {
    if (absl::StartsWith(record.name(), kDanglingPrefix)) continue;
    absl::StatusOr<distribution::Reference> reference =
        distribution::Reference::ParseName(record.name());
    if (!reference.ok()) {
      out.add_repo_tags(record.name());
      continue;
    }
    if (!reference->tag().empty())
      out.add_repo_tags(reference->WithDigest(content::Digest()).repository() + ":" +
                        reference->tag());
    digests.insert(absl::StrCat(reference->repository(), "@", target.digest.str()));
  }
  for (std::string& tag : *out.mutable_repo_tags()) {
    absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(tag);
    if (reference.ok()) tag = reference->familiar();
  }
  for (const std::string& digest : digests) {
    absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(digest);
    out.add_repo_digests(
        reference.ok() ? reference->familiar_repository() + "@" + target.digest.str() : digest);
  }
  metadata::ContentNamespace content = parts_.stores->Content({context.ns, ""});
  Tree tree;
  WalkTree(content, target, 0, tree);
  int64_t content_bytes = 0;
  for (const auto& [digest, size] : tree.blobs) content_bytes += size;
  out.set_content_size_bytes(content_bytes);

  int64_t unpacked_bytes = 0;
  absl::StatusOr<metadata::SnapshotNamespace> snapshots =
      parts_.stores->Snapshots("", {context.ns, ""});
  std::set<std::string> counted;
  for (const content::Descriptor& manifest : tree.manifests) {
    v1::ManifestSummary summary;
    FillDescriptor(manifest, *summary.mutable_manifest());
    summary.set_attestation(oci::IsAttestation(manifest));
    if (manifest.platform.has_value())
      summary.set_platform(oci::FormatPlatform(*manifest.platform));
    absl::StatusOr<std::string> bytes =
        content::ReadBlob(content, manifest.digest, oci::kMaxManifestBytes);
    absl::StatusOr<oci::Manifest> document =
        bytes.ok() ? oci::ParseManifest(*bytes, manifest.media_type, manifest.digest.str())
                   : absl::StatusOr<oci::Manifest>(bytes.status());
    if (document.ok()) {
      bool complete = content.Stat(document->config.digest).ok();
      int64_t size = static_cast<int64_t>(bytes->size()) + document->config.size_bytes;
      for (const content::Descriptor& layer : document->layers) {
        complete = complete && content.Stat(layer.digest).ok();
        size += layer.size_bytes;
      }
      summary.set_available(complete);
      summary.set_content_size_bytes(size);
      absl::StatusOr<std::string> config_json =
          content::ReadBlob(content, document->config.digest, kMaxConfigBytes);
      absl::StatusOr<oci::ImageConfig> config =
          config_json.ok() ? oci::ParseImageConfig(*config_json, manifest.digest.str())
                           : absl::StatusOr<oci::ImageConfig>(config_json.status());
      if (config.ok() && !summary.attestation()) {
        if (summary.platform().empty())
          summary.set_platform(oci::FormatPlatform(oci::NormalizePlatform(config->platform)));
        if (!out.has_created_at()) ParseTimestamp(config->created, out.mutable_created_at());
        if (out.labels().empty())
          out.mutable_labels()->insert(config->labels.begin(), config->labels.end());
        const std::vector<content::Digest> chain = oci::ChainIds(config->diff_ids);
        bool unpacked = snapshots.ok();
        for (const content::Digest& id : chain) {
          absl::StatusOr<snapshot::Usage> usage =
              snapshots.ok() ? snapshots->Usage(id.str())
                             : absl::StatusOr<snapshot::Usage>(snapshots.status());
          unpacked = unpacked && usage.ok();
          if (!usage.ok()) continue;
          summary.set_unpacked_size_bytes(summary.unpacked_size_bytes() + usage->size_bytes);
          if (counted.insert(id.str()).second) unpacked_bytes += usage->size_bytes;
        }
        summary.set_unpacked(unpacked);
      }
    }
    if (manifests) *out.add_manifests() = std::move(summary);
  }
  out.set_size_bytes(content_bytes + unpacked_bytes);
  if (!out.has_created_at()) *out.mutable_created_at() = records.front().created_at();
  return out;
}

absl::StatusOr<v1::ListImagesResponse> ImageCatalog::List(const CallContext& context,
                                                          const v1::ListImagesRequest& request) {
  const metadata::Scope scope{context.ns, ""};
  Stores& stores = *parts_.stores;
  std::map<std::string, std::vector<record::v1::Image>> by_target;
  GANTRY_RETURN_IF_ERROR(
      stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
        by_target[record.target().digest()].push_back(record);
        return absl::OkStatus();
      }));
  std::map<std::string, int32_t> users;
  GANTRY_RETURN_IF_ERROR(stores.containers.List(
      scope, metadata::Filter(), [&](const record::v1::Container& container) {
        auto it = container.extensions().find("gantry.image");
        record::v1::Descriptor target;
        if (it != container.extensions().end() && target.ParseFromString(it->second.value()))
          ++users[target.digest()];
        return absl::OkStatus();
      }));
  std::vector<v1::ImageSummary> found;
  for (const auto& [digest, records] : by_target) {
    GANTRY_ASSIGN_OR_RETURN(v1::ImageSummary summary,
                            Summarize(context, records, request.manifests()));
    auto it = users.find(digest);
    summary.set_containers(it == users.end() ? 0 : it->second);
    found.push_back(std::move(summary));
  }
  std::sort(found.begin(), found.end(), [](const v1::ImageSummary& a, const v1::ImageSummary& b) {
    return std::make_pair(a.created_at().seconds(), a.created_at().nanos()) >
           std::make_pair(b.created_at().seconds(), b.created_at().nanos());
  });

  v1::ListImagesResponse response;
  for (v1::ImageSummary& image : found) {
    std::map<std::string, bool> passed;
    for (const v1::Filter& filter : request.filters()) {
      bool holds = false;
      const std::string& value = filter.value();
      if (filter.key() == "dangling") {
        if (value != "true" && value != "false" && value != "1" && value != "0") {
          return absl::InvalidArgumentError(
              absl::StrCat("filter dangling: \"", value, "\" is neither true nor false"));
        }
        holds = image.repo_tags().empty() == (value == "true" || value == "1");
      } else if (filter.key() == "label") {
        std::pair<std::string, std::string> pair = absl::StrSplit(value, absl::MaxSplits('=', 1));
        auto it = image.labels().find(pair.first);
        holds = it != image.labels().end() &&
                (!absl::StrContains(value, '=') || it->second == pair.second);
        if (!holds) {
          passed["label"] = false;
          break;
        }
      } else if (filter.key() == "reference") {
        for (const std::string& tag : image.repo_tags()) {
          std::string_view name(tag.data(), tag.size());
          const std::string repository(name.substr(0, name.rfind(':')));
          holds = holds || fnmatch(value.c_str(), tag.c_str(), FNM_PATHNAME) == 0 ||
                  fnmatch(value.c_str(), repository.c_str(), FNM_PATHNAME) == 0;
        }
      } else if (filter.key() == "before" || filter.key() == "since") {
        GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> other, Find(context, value));
        GANTRY_ASSIGN_OR_RETURN(v1::ImageSummary summary, Summarize(context, other, false));
        const bool older =
            std::make_pair(image.created_at().seconds(), image.created_at().nanos()) <
            std::make_pair(summary.created_at().seconds(), summary.created_at().nanos());
        const bool newer =
            std::make_pair(image.created_at().seconds(), image.created_at().nanos()) >
            std::make_pair(summary.created_at().seconds(), summary.created_at().nanos());
        holds = filter.key() == "before" ? older : newer;
      } else if (filter.key() == "until") {
        GANTRY_ASSIGN_OR_RETURN(const absl::Time until, ParseUntil(value));
        holds = absl::FromUnixSeconds(image.created_at().seconds()) < until;
      } else {
        return absl::InvalidArgumentError(absl::StrCat(
            "filter \"", filter.key(),
            "\" is not known; use before, dangling, label, reference, since or until"));
      }
      passed[filter.key()] = passed[filter.key()] || holds;
    }
    if (std::all_of(passed.begin(), passed.end(), [](const auto& entry) { return entry.second; })) {
      *response.add_images() = std::move(image);
    }
  }
  return response;
}

absl::StatusOr<v1::ImageDetails> ImageCatalog::Inspect(const CallContext& context,
                                                       const v1::InspectImageRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, request.image()));
  std::vector<record::v1::Image> same;
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
      {context.ns, ""}, metadata::Filter(), [&](const record::v1::Image& record) {
        if (record.target().digest() == records.front().target().digest()) same.push_back(record);
        return absl::OkStatus();
      }));
  v1::ImageDetails details;
  GANTRY_ASSIGN_OR_RETURN(*details.mutable_summary(),
                          Summarize(context, same.empty() ? records : same, request.manifests()));
  GANTRY_ASSIGN_OR_RETURN(ResolvedImage image,
                          Resolve(context, records.front().name(), request.platform()));
  details.set_config_json(image.config_json);
  details.set_config_digest(image.manifest_document.config.digest.str());
  details.set_manifest_digest(image.manifest.digest.str());
  details.set_platform(oci::FormatPlatform(oci::NormalizePlatform(image.config.platform)));
  details.set_driver(parts_.stores->default_snapshotter);
  *details.mutable_last_tagged_at() = records.front().updated_at();
  absl::StatusOr<metadata::SnapshotNamespace> snapshots =
      parts_.stores->Snapshots("", {context.ns, ""});
  for (size_t i = 0; i < image.manifest_document.layers.size(); ++i) {
    v1::LayerInfo* layer = details.add_layers();
    FillDescriptor(image.manifest_document.layers[i], *layer->mutable_blob());
    if (i >= image.chain_ids.size()) continue;
    layer->set_diff_id(image.config.diff_ids[i].str());
    layer->set_chain_id(image.chain_ids[i].str());
    absl::StatusOr<snapshot::Usage> usage =
        snapshots.ok() ? snapshots->Usage(image.chain_ids[i].str())
                       : absl::StatusOr<snapshot::Usage>(snapshots.status());
    layer->set_unpacked(usage.ok());
    if (usage.ok()) layer->set_unpacked_size_bytes(usage->size_bytes);
  }
  return details;
}

absl::StatusOr<v1::ImageHistoryResponse> ImageCatalog::History(
    const CallContext& context, const v1::ImageHistoryRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(ResolvedImage image,
                          Resolve(context, request.image(), request.platform()));
  absl::StatusOr<metadata::SnapshotNamespace> snapshots =
      parts_.stores->Snapshots("", {context.ns, ""});
  v1::ImageHistoryResponse response;
  std::vector<v1::ImageHistoryResponse::Entry> entries;
  size_t layer = 0;
  std::vector<oci::History> history = image.config.history;
  if (history.empty()) history.resize(image.config.diff_ids.size());
  for (const oci::History& step : history) {
    v1::ImageHistoryResponse::Entry entry;
    ParseTimestamp(step.created, entry.mutable_created_at());
    entry.set_created_by(step.created_by);
    entry.set_comment(step.comment);
    entry.set_empty_layer(step.empty_layer);
    if (!step.empty_layer && layer < image.chain_ids.size()) {
      absl::StatusOr<snapshot::Usage> usage =
          snapshots.ok() ? snapshots->Usage(image.chain_ids[layer].str())
                         : absl::StatusOr<snapshot::Usage>(snapshots.status());
      entry.set_size_bytes(usage.ok() ? usage->size_bytes
                           : layer < image.manifest_document.layers.size()
                               ? image.manifest_document.layers[layer].size_bytes
                               : 0);
      ++layer;
    }
    entries.push_back(std::move(entry));
  }
  if (!entries.empty()) {
    entries.back().set_id(image.target.digest.str());
    for (const std::string& name : image.names) {
      absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(name);
      if (reference.ok()) entries.back().add_tags(reference->familiar());
    }
  }
  for (auto it = entries.rbegin(); it != entries.rend(); ++it)
    *response.add_entries() = std::move(*it);
  return response;
}

}  // namespace gantry::core
