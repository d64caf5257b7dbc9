// Lists, details and history of images: what ImageCatalog shows.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "base/utf8.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_filters.h"
#include "supervisor/core/shown_images.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/walk_budget.h"

namespace gantry::core {
namespace {

constexpr int64_t kMaxListedConfigBytes = 8 << 20;
constexpr size_t kMaxFacts = 8192;  // images whose facts are remembered

void FillDescriptor(const content::Descriptor& in, v1::Descriptor& out) {
  out.set_media_type(in.media_type);
  out.set_digest(in.digest.str());
  out.set_size_bytes(in.size_bytes);
  if (in.platform.has_value()) out.set_platform(oci::FormatPlatform(*in.platform));
  for (const auto& [key, value] : in.annotations) (*out.mutable_annotations())[key] = value;
}

// Nothing where the text is no time: an image of 1970 has one, an image that says nothing has none.
std::optional<google::protobuf::Timestamp> ParseTimestamp(const std::string& text) {
  absl::Time at;
  std::string error;
  if (text.empty() || !absl::ParseTime(absl::RFC3339_full, text, &at, &error)) return std::nullopt;
  google::protobuf::Timestamp out;
  out.set_seconds(absl::ToUnixSeconds(at));
  out.set_nanos(
      static_cast<int32_t>((at - absl::FromUnixSeconds(out.seconds())) / absl::Nanoseconds(1)));
  return out;
}

// The blobs of an image that are in the store, each once, with their bytes.
struct Tree {
  std::map<content::Digest, int64_t> blobs;
  std::vector<content::Descriptor> manifests;  // images, attestations included
};

// What the budget does not cover is left out.
void WalkTree(content::Store& store, const content::Descriptor& descriptor,
              distribution::WalkBudget& budget, int depth, Tree& tree) {
  absl::StatusOr<content::Info> info = store.Stat(descriptor.digest);
  if (!info.ok()) {
    if (oci::IsManifestType(descriptor.media_type)) tree.manifests.push_back(descriptor);
    return;
  }
  if (!tree.blobs.emplace(descriptor.digest, info->size_bytes).second) return;
  const bool index = oci::IsIndexType(descriptor.media_type);
  if (!index && !oci::IsManifestType(descriptor.media_type)) return;
  if (!index) tree.manifests.push_back(descriptor);
  absl::StatusOr<oci::Document> document =
      budget.Read(store, descriptor, descriptor.digest.str(), depth);
  if (!document.ok()) return;
  for (const content::Descriptor& child : oci::Children(*document))
    WalkTree(store, child, budget, depth + 1, tree);
}

// The bytes of an image by what holds them: blobs by digest, unpacked layers by chain ID.
std::map<std::string, int64_t> PartsOf(content::Store& store,
                                       absl::StatusOr<metadata::SnapshotNamespace>& snapshots,
                                       const content::Descriptor& target, CancelToken* cancel) {
  distribution::WalkBudget budget(cancel);
  Tree tree;
  WalkTree(store, target, budget, 0, tree);
  std::map<std::string, int64_t> parts;
  for (const auto& [digest, size] : tree.blobs) parts.emplace("blob " + digest.str(), size);
  for (const content::Descriptor& manifest : tree.manifests) {
    if (oci::IsAttestation(manifest) || !snapshots.ok()) continue;
    absl::StatusOr<oci::Document> document = budget.Read(store, manifest, manifest.digest.str(), 0);
    if (!document.ok() || !document->manifest.has_value()) continue;
    absl::StatusOr<std::string> json =
        budget.ReadBytes(store, document->manifest->config.digest, kMaxListedConfigBytes);
    if (!json.ok()) continue;
    absl::StatusOr<oci::ImageConfig> config = oci::ParseImageConfig(*json, manifest.digest.str());
    if (!config.ok()) continue;
    for (const content::Digest& id : oci::ChainIds(config->diff_ids)) {
      const absl::StatusOr<snapshot::Usage> usage = snapshots->Usage(id.str());
      if (usage.ok()) parts.emplace("layer " + id.str(), usage->size_bytes);
    }
  }
  return parts;
}

std::pair<int64_t, int32_t> CreatedOf(const v1::ImageSummary& image) {
  return {image.created_at().seconds(), image.created_at().nanos()};
}

}  // namespace

absl::StatusOr<v1::ImageSummary> ImageCatalog::Names(
    const std::vector<record::v1::Image>& records) {
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
  return out;
}

ImageCatalog::Facts ImageCatalog::FactsOf(const CallContext& context,
                                          const content::Descriptor& target) {
  const std::string key = absl::StrCat(context.ns, "/", target.digest.str());
  {
    absl::MutexLock lock(&mu_);
    auto known = facts_.find(key);
    if (known != facts_.end()) return known->second;
  }
  metadata::ContentNamespace content = parts_.stores->Content({context.ns, ""});
  distribution::WalkBudget budget(context.cancel);
  Tree tree;
  WalkTree(content, target, budget, 0, tree);
  Facts facts;
  bool complete = false;  // nothing that comes later can say otherwise
  bool first = true;
  for (const content::Descriptor& manifest : tree.manifests) {
    if (oci::IsAttestation(manifest)) continue;
    absl::StatusOr<oci::Document> document =
        budget.Read(content, manifest, manifest.digest.str(), 0);
    absl::StatusOr<std::string> json =
        document.ok() && document->manifest.has_value()
            ? budget.ReadBytes(content, document->manifest->config.digest, kMaxListedConfigBytes)
            : absl::StatusOr<std::string>(absl::NotFoundError("no manifest"));
    absl::StatusOr<oci::ImageConfig> config =
        json.ok() ? oci::ParseImageConfig(*json, manifest.digest.str())
                  : absl::StatusOr<oci::ImageConfig>(json.status());
    if (config.ok()) {
      facts.created = ParseTimestamp(config->created);
      facts.labels.insert(config->labels.begin(), config->labels.end());
      complete = first;
      break;
    }
    first = false;
  }
  if (complete) {
    absl::MutexLock lock(&mu_);
    if (facts_.size() >= kMaxFacts) facts_.clear();
    facts_[key] = facts;
  }
  return facts;
}

void ImageCatalog::FillFacts(const CallContext& context,
                             const std::vector<record::v1::Image>& records,
                             const content::Descriptor& target, v1::ImageSummary& out) {
  Facts facts = FactsOf(context, target);
  *out.mutable_created_at() = facts.created.value_or(records.front().created_at());
  out.mutable_labels()->insert(facts.labels.begin(), facts.labels.end());
}

void ImageCatalog::FillSizes(const CallContext& context, const content::Descriptor& target,
                             bool manifests, v1::ImageSummary& out) {
  metadata::ContentNamespace content = parts_.stores->Content({context.ns, ""});
  distribution::WalkBudget budget(context.cancel);
  Tree tree;
  WalkTree(content, target, budget, 0, tree);
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
        budget.ReadBytes(content, manifest.digest, oci::kMaxManifestBytes);
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
          budget.ReadBytes(content, document->config.digest, kMaxListedConfigBytes);
      absl::StatusOr<oci::ImageConfig> config =
          config_json.ok() ? oci::ParseImageConfig(*config_json, manifest.digest.str())
                           : absl::StatusOr<oci::ImageConfig>(config_json.status());
      if (config.ok() && !summary.attestation()) {
        if (summary.platform().empty())
          summary.set_platform(oci::FormatPlatform(oci::NormalizePlatform(config->platform)));
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
}

absl::StatusOr<v1::ImageSummary> ImageCatalog::Summarize(
    const CallContext& context, const std::vector<record::v1::Image>& records, bool manifests) {
  GANTRY_ASSIGN_OR_RETURN(v1::ImageSummary out, Names(records));
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(records.front()));
  FillFacts(context, records, target, out);
  FillSizes(context, target, manifests, out);
  return out;
}

absl::StatusOr<absl::flat_hash_map<std::string, int32_t>> ImageCatalog::Users(
    const CallContext& context) {
  absl::flat_hash_map<std::string, int32_t> users;
  record::v1::Container container;
  GANTRY_RETURN_IF_ERROR(parts_.stores->containers.ListWithoutSpecs(
      {context.ns, ""}, [&](absl::string_view, absl::string_view bytes) {
        // One that is damaged can only be removed: it uses nothing.
        if (!container.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
          return absl::OkStatus();
        const std::string digest = ImageOfContainer(container);
        if (!digest.empty()) ++users[digest];
        for (const std::string& shown : ShownImages(container)) {
          if (shown != digest) ++users[shown];
        }
        return absl::OkStatus();
      }));
  return users;
}

absl::StatusOr<v1::ListImagesResponse> ImageCatalog::List(const CallContext& context,
                                                          const v1::ListImagesRequest& request) {
  const auto created_of = [&](const std::string& image) -> absl::StatusOr<absl::Time> {
    GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, image));
    GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(records.front()));
    v1::ImageSummary summary;
    FillFacts(context, records, target, summary);
    return absl::FromUnixSeconds(summary.created_at().seconds()) +
           absl::Nanoseconds(summary.created_at().nanos());
  };
  GANTRY_ASSIGN_OR_RETURN(
      const ImageFilters filters,
      ImageFilters::Parse(request.filters(), parts_.stores->clock.Now(), created_of));
  absl::flat_hash_map<std::string, std::vector<record::v1::Image>> by_target;
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
      {context.ns, ""}, metadata::Filter(), [&](const record::v1::Image& record) {
        by_target[record.target().digest()].push_back(record);
        return absl::OkStatus();
      }));
  std::vector<std::pair<v1::ImageSummary, content::Descriptor>> found;
  for (const auto& [digest, records] : by_target) {
    GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(records.front()));
    GANTRY_ASSIGN_OR_RETURN(v1::ImageSummary summary, Names(records));
    FillFacts(context, records, target, summary);
    if (filters.Take(summary)) found.emplace_back(std::move(summary), std::move(target));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    if (CreatedOf(a.first) != CreatedOf(b.first)) return CreatedOf(a.first) > CreatedOf(b.first);
    return a.first.id() < b.first.id();
  });
  v1::ListImagesResponse response;
  if (request.ids_only()) {
    for (const auto& [summary, target] : found) response.add_images()->set_id(summary.id());
    return response;
  }
  GANTRY_ASSIGN_OR_RETURN(const auto users, Users(context));
  // What other images of the namespace hold too, whether they are shown or not.
  std::map<std::string, int64_t> shared;
  if (request.shared_size()) {
    metadata::ContentNamespace content = parts_.stores->Content({context.ns, ""});
    absl::StatusOr<metadata::SnapshotNamespace> snapshots =
        parts_.stores->Snapshots("", {context.ns, ""});
    std::map<std::string, int> holders;
    std::map<std::string, std::map<std::string, int64_t>> parts;
    for (const auto& [digest, records] : by_target) {
      GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, TargetOf(records.front()));
      parts[digest] = PartsOf(content, snapshots, target, context.cancel);
      for (const auto& [part, size] : parts[digest]) ++holders[part];
    }
    for (const auto& [digest, held] : parts) {
      for (const auto& [part, size] : held) shared[digest] += holders[part] > 1 ? size : 0;
    }
  }
  for (auto& [summary, target] : found) {
    FillSizes(context, target, request.manifests(), summary);
    if (request.shared_size()) summary.set_shared_size_bytes(shared[summary.id()]);
    auto count = users.find(summary.id());
    summary.set_containers(count == users.end() ? 0 : count->second);
    *response.add_images() = std::move(summary);
  }
  return response;
}

absl::StatusOr<v1::ImageDetails> ImageCatalog::Inspect(const CallContext& context,
                                                       const v1::InspectImageRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, Find(context, request.image()));
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> same,
                          RecordsOf(context, records.front().target().digest()));
  v1::ImageDetails details;
  GANTRY_ASSIGN_OR_RETURN(*details.mutable_summary(),
                          Summarize(context, same.empty() ? records : same, request.manifests()));
  GANTRY_ASSIGN_OR_RETURN(ResolvedImage image, ResolveToShow(context, records, request.platform()));
  details.set_config_json(ToValidUtf8(image.config_json));
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
  GANTRY_ASSIGN_OR_RETURN(const std::vector<record::v1::Image> records,
                          Find(context, request.image()));
  GANTRY_ASSIGN_OR_RETURN(ResolvedImage image, ResolveToShow(context, records, request.platform()));
  absl::StatusOr<metadata::SnapshotNamespace> snapshots =
      parts_.stores->Snapshots("", {context.ns, ""});
  v1::ImageHistoryResponse response;
  std::vector<v1::ImageHistoryResponse::Entry> entries;
  size_t layer = 0;
  std::vector<oci::History> history = image.config.history;
  if (history.empty()) history.resize(image.config.diff_ids.size());
  for (const oci::History& step : history) {
    v1::ImageHistoryResponse::Entry entry;
    if (auto created = ParseTimestamp(step.created)) *entry.mutable_created_at() = *created;
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
