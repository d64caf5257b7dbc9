// Finding, listing, naming and removing images. Transfers are in image_transfer.cc.
#include "supervisor/core/image_service.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "base/crash_point.h"
#include "base/status_macros.h"
#include "proto/containerd/events/image.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/runnable_image.h"
#include "supervisor/gc/scheduler.h"

namespace gantry::core {
namespace {

constexpr char kDangling[] = "<none>@";
constexpr int64_t kMaxConfigBytes = 8 << 20;

bool IsHex(absl::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

absl::StatusOr<content::Descriptor> TargetOf(const record::v1::Image& image) {
  content::Descriptor target;
  target.media_type = image.target().media_type();
  target.size_bytes = image.target().size();
  target.annotations.insert(image.target().annotations().begin(),
                            image.target().annotations().end());
  GANTRY_ASSIGN_OR_RETURN(target.digest, content::Digest::Parse(image.target().digest()));
  return target;
}

absl::StatusOr<oci::PlatformMatcher> MatcherFor(absl::string_view platform) {
  if (platform.empty()) return oci::PlatformMatcher::Host();
  GANTRY_ASSIGN_OR_RETURN(content::Platform parsed, oci::ParsePlatform(platform));
  return oci::PlatformMatcher::Only(parsed);
}

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

// "24h": so long ago; or a moment, RFC 3339.
absl::StatusOr<absl::Time> ParseUntil(const std::string& value) {
  absl::Duration age;
  absl::Time moment;
  std::string error;
  if (absl::ParseDuration(value, &age)) return absl::Now() - age;
  if (absl::ParseTime(absl::RFC3339_full, value, &moment, &error)) return moment;
  return absl::InvalidArgumentError(
      absl::StrCat("filter until: \"", value, "\" is neither a duration nor a time"));
}

}  // namespace

std::string ImageService::DanglingName(const content::Digest& digest) {
  return absl::StrCat(kDangling, digest.str());
}

absl::StatusOr<std::vector<record::v1::Image>> ImageService::FindRecords(const CallContext& context,
                                                                         absl::string_view image) {
  const metadata::Scope scope{context.ns, ""};
  Stores& stores = *parts_.stores;
  if (image.empty()) return absl::InvalidArgumentError("image: the name is empty");
  // By its exact name (containerd's clients may use any), then as a person writes it.
  std::vector<std::string> names = {std::string(image)};
  absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(image);
  if (reference.ok()) names.push_back(reference->canonical());
  for (const std::string& name : names) {
    absl::StatusOr<record::v1::Image> found = stores.images.Get(scope, name);
    if (found.ok()) return std::vector<record::v1::Image>{*std::move(found)};
    if (!absl::IsNotFound(found.status()) && !absl::IsInvalidArgument(found.status()))
      return found.status();
  }
  // By repository@digest: any name of the repository that points there.
  std::map<std::string, std::vector<record::v1::Image>> by_target;
  absl::string_view hex = image;
  const bool prefixed = absl::ConsumePrefix(&hex, "sha256:");
  const bool id = IsHex(hex) && hex.size() <= 64 && (prefixed || hex.size() >= 3);
  const std::string wanted_digest = reference.ok() ? reference->digest().str() : "";
  if (!id && wanted_digest.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no such image: ", image,
                     reference.ok() ? "" : absl::StrCat(" (", reference.status().message(), ")")));
  }
  GANTRY_RETURN_IF_ERROR(
      stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
        const std::string& digest = record.target().digest();
        if (!wanted_digest.empty()) {
          if (digest != wanted_digest) return absl::OkStatus();
          absl::StatusOr<distribution::Reference> own =
              distribution::Reference::ParseName(record.name());
          if (own.ok() && own->repository() != reference->repository()) return absl::OkStatus();
          by_target[digest].push_back(record);
        } else if (absl::StartsWith(absl::StripPrefix(digest, "sha256:"), hex)) {
          by_target[digest].push_back(record);
        }
        return absl::OkStatus();
      }));
  if (by_target.empty() && id && hex.size() >= 12) {
    // Some tools call an image by the digest of its configuration.
    metadata::ContentNamespace content = stores.Content(scope);
    GANTRY_RETURN_IF_ERROR(
        stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
          absl::StatusOr<content::Descriptor> target = TargetOf(record);
          if (!target.ok()) return absl::OkStatus();
          absl::StatusOr<distribution::RunnableImage> runnable =
              distribution::FindRunnable(content, *target, oci::PlatformMatcher::All());
          if (runnable.ok() && absl::StartsWith(runnable->config.digest.hex(), hex))
            by_target[record.target().digest()].push_back(record);
          return absl::OkStatus();
        }));
  }
  if (by_target.empty()) return absl::NotFoundError(absl::StrCat("no such image: ", image));
  if (by_target.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "image id ", image, " is ambiguous: ", by_target.size(), " images begin with it"));
  }
  return by_target.begin()->second;
}

absl::StatusOr<ResolvedImage> ImageService::Resolve(const CallContext& context,
                                                    absl::string_view image,
                                                    absl::string_view platform) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records, FindRecords(context, image));
  GANTRY_ASSIGN_OR_RETURN(oci::PlatformMatcher matcher, MatcherFor(platform));
  ResolvedImage resolved;
  for (const record::v1::Image& record : records) resolved.names.push_back(record.name());
  GANTRY_ASSIGN_OR_RETURN(resolved.target, TargetOf(records.front()));
  metadata::ContentNamespace content = parts_.stores->Content({context.ns, context.lease});
  absl::StatusOr<distribution::RunnableImage> runnable =
      distribution::FindRunnable(content, resolved.target, matcher);
  if (!runnable.ok()) {
    return absl::Status(absl::IsNotFound(runnable.status()) ? absl::StatusCode::kFailedPrecondition
                                                            : runnable.status().code(),
                        absl::StrCat("image ", image, ": ", runnable.status().message()));
  }
  resolved.manifest = runnable->manifest;
  GANTRY_ASSIGN_OR_RETURN(
      std::string manifest,
      content::ReadBlob(content, runnable->manifest.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(resolved.manifest_document,
                          oci::ParseManifest(manifest, runnable->manifest.media_type, image));
  GANTRY_ASSIGN_OR_RETURN(resolved.config_json,
                          content::ReadBlob(content, runnable->config.digest, kMaxConfigBytes));
  GANTRY_ASSIGN_OR_RETURN(
      resolved.config, oci::ParseImageConfig(resolved.config_json, absl::StrCat("image ", image)));
  resolved.chain_ids = oci::ChainIds(resolved.config.diff_ids);
  return resolved;
}

absl::Status ImageService::Name(const CallContext& context, const std::string& name,
                                const content::Descriptor& target) {
  record::v1::Image record;
  record.set_name(name);
  record.mutable_target()->set_media_type(target.media_type);
  record.mutable_target()->set_digest(target.digest.str());
  record.mutable_target()->set_size(target.size_bytes);
  for (const auto& [key, value] : target.annotations)
    (*record.mutable_target()->mutable_annotations())[key] = value;
  const metadata::Scope scope{context.ns, ""};

  // Who loses the name stays reachable by id, as with docker, until pruned.
  absl::StatusOr<record::v1::Image> before = parts_.stores->images.Get(scope, name);
  bool created = false;
  CrashPoint("image.whole");
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.Put(scope, record, &created).status());
  CrashPoint("image.recorded");
  if (created) {
    containerd::services::images::v1::ImageCreate event;
    event.set_name(name);
    parts_.events->Publish(context.ns, "/images/create", event);
  } else {
    containerd::services::images::v1::ImageUpdate event;
    event.set_name(name);
    parts_.events->Publish(context.ns, "/images/update", event);
  }
  if (before.ok() && before->target().digest() != target.digest.str() &&
      !absl::StartsWith(name, kDangling)) {
    bool still_named = false;
    GANTRY_RETURN_IF_ERROR(
        parts_.stores->images.List(scope, metadata::Filter(), [&](const record::v1::Image& other) {
          still_named = still_named || other.target().digest() == before->target().digest();
          return absl::OkStatus();
        }));
    if (!still_named) {
      GANTRY_ASSIGN_OR_RETURN(content::Descriptor old, TargetOf(*before));
      return Name(context, DanglingName(old.digest), old);
    }
  }
  return absl::OkStatus();
}

absl::Status ImageService::Tag(const CallContext& context, const v1::TagImageRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records,
                          FindRecords(context, request.image()));
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(request.reference()));
  if (!reference.digest().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tag ", request.reference(), ": a tag cannot carry a digest"));
  }
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(records.front()));
  GANTRY_RETURN_IF_ERROR(Name(context, reference.canonical(), target));
  // With a name of its own it is nameless no more.
  absl::Status dropped =
      parts_.stores->images.Delete({context.ns, ""}, DanglingName(target.digest));
  return absl::IsNotFound(dropped) ? absl::OkStatus() : dropped;
}

absl::StatusOr<v1::ImageSummary> ImageService::Summarize(
    const CallContext& context, const std::vector<record::v1::Image>& records, bool manifests) {
  v1::ImageSummary out;
  GANTRY_ASSIGN_OR_RETURN(content::Descriptor target, TargetOf(records.front()));
  out.set_id(target.digest.str());
  FillDescriptor(target, *out.mutable_target());
  std::set<std::string> digests;
  for (const record::v1::Image& record : records) {
    if (absl::StartsWith(record.name(), kDangling)) continue;
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

absl::StatusOr<v1::ListImagesResponse> ImageService::List(const CallContext& context,
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
        GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> other, FindRecords(context, value));
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

absl::StatusOr<v1::ImageDetails> ImageService::Inspect(const CallContext& context,
                                                       const v1::InspectImageRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records,
                          FindRecords(context, request.image()));
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

absl::StatusOr<v1::ImageHistoryResponse> ImageService::History(
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

absl::StatusOr<v1::RemoveImageResponse> ImageService::Remove(
    const CallContext& context, const v1::RemoveImageRequest& request) {
  Stores& stores = *parts_.stores;
  const metadata::Scope scope{context.ns, ""};
  GANTRY_ASSIGN_OR_RETURN(std::vector<record::v1::Image> records,
                          FindRecords(context, request.image()));
  const std::string digest = records.front().target().digest();
  std::vector<record::v1::Image> same;
  GANTRY_RETURN_IF_ERROR(
      stores.images.List(scope, metadata::Filter(), [&](const record::v1::Image& record) {
        if (record.target().digest() == digest) same.push_back(record);
        return absl::OkStatus();
      }));
  absl::string_view hex = request.image();
  absl::ConsumePrefix(&hex, "sha256:");
  const bool by_id = records.front().name() != request.image() && IsHex(hex) &&
                     absl::StartsWith(absl::StripPrefix(digest, "sha256:"), hex);
  std::vector<record::v1::Image> going = by_id ? same : records;
  if (by_id && same.size() > 1 && !request.force()) {
    std::vector<std::string> names;
    for (const record::v1::Image& record : same) names.push_back(record.name());
    return absl::FailedPreconditionError(
        absl::StrCat("image ", request.image(), " has several names (", absl::StrJoin(names, ", "),
                     "); remove them one by one, or all with --force"));
  }
  const bool last_names = going.size() == same.size();
  if (last_names && !request.force()) {
    std::string user;
    GANTRY_RETURN_IF_ERROR(stores.containers.List(
        scope, metadata::Filter(), [&](const record::v1::Container& container) {
          auto it = container.extensions().find("gantry.image");
          record::v1::Descriptor target;
          if (it != container.extensions().end() && target.ParseFromString(it->second.value()) &&
              target.digest() == digest)
            user = container.id();
          return absl::OkStatus();
        }));
    if (!user.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("image ", request.image(), " is used by container ", user.substr(0, 12),
                       "; remove that first, or use --force to take the name away"));
    }
  }
  v1::RemoveImageResponse response;
  for (const record::v1::Image& record : going) {
    GANTRY_ASSIGN_OR_RETURN(content::Digest expected, content::Digest::Parse(digest));
    GANTRY_RETURN_IF_ERROR(stores.images.Delete(scope, record.name(), expected));
    containerd::services::images::v1::ImageDelete event;
    event.set_name(record.name());
    parts_.events->Publish(context.ns, "/images/delete", event);
    if (absl::StartsWith(record.name(), kDangling)) continue;
    absl::StatusOr<distribution::Reference> reference =
        distribution::Reference::Parse(record.name());
    response.add_removals()->set_untagged(reference.ok() ? reference->familiar() : record.name());
  }
  if (last_names) {
    response.add_removals()->set_deleted(digest);
    // People look at the disk next: what nothing else needs goes now.
    GANTRY_RETURN_IF_ERROR(parts_.gc->CollectAndWait(false, absl::Now() + absl::Minutes(2)));
  }
  return response;
}

absl::StatusOr<v1::PruneImagesResponse> ImageService::Prune(const CallContext& context,
                                                            const v1::PruneImagesRequest& request) {
  absl::Time until = absl::InfiniteFuture();
  v1::ListImagesRequest list;
  bool all = request.all();
  for (const v1::Filter& filter : request.filters()) {
    if (filter.key() == "until") {
      GANTRY_ASSIGN_OR_RETURN(until, ParseUntil(filter.value()));
    } else if (filter.key() == "dangling") {
      all = filter.value() == "false" || filter.value() == "0";
    } else {
      *list.add_filters() = filter;
    }
  }
  // Who asks for room gets that of interrupted pulls too.
  GANTRY_RETURN_IF_ERROR(LeaseScope::ForgetAll(parts_.stores->leases, context.ns));
  GANTRY_ASSIGN_OR_RETURN(v1::ListImagesResponse images, List(context, list));
  std::set<std::string> pinned;
  GANTRY_RETURN_IF_ERROR(parts_.stores->images.List(
      {context.ns, ""}, metadata::Filter(), [&pinned](const record::v1::Image& record) {
        const auto it = record.labels().find(metadata::kPinnedLabel);
        if (it != record.labels().end() && it->second == metadata::kPinned)
          pinned.insert(record.target().digest());
        return absl::OkStatus();
      }));
  v1::PruneImagesResponse response;
  for (const v1::ImageSummary& image : images.images()) {
    if (pinned.contains(image.id())) continue;
    if (image.containers() > 0 || (!all && !image.repo_tags().empty())) continue;
    if (absl::FromUnixSeconds(image.created_at().seconds()) > until) continue;
    v1::RemoveImageRequest remove;
    remove.set_image(image.id());
    remove.set_force(true);
    absl::StatusOr<v1::RemoveImageResponse> removed = Remove(context, remove);
    if (absl::IsNotFound(removed.status())) continue;
    GANTRY_RETURN_IF_ERROR(removed.status());
    response.mutable_removals()->MergeFrom(removed->removals());
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() + image.size_bytes());
  }
  return response;
}

}  // namespace gantry::core
