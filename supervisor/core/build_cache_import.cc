#include "supervisor/core/build_cache_import.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "content-store/digest.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/json_document.h"

namespace gantry::core {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{64} << 20;
constexpr int kMaxDepth = 4;

// Another key than that of the same step done here.
std::string KeyOf(const std::string& place, const std::string& key) {
  return content::Digest::Sha256Of(absl::StrCat("imported from ", place, "\n", key)).str();
}

// The cache in an image's configuration; nullopt: it has none.
absl::StatusOr<absl::optional<std::string>> InlineCacheOf(const std::string& config,
                                                          const std::string& name) {
  GANTRY_ASSIGN_OR_RETURN(const nlohmann::json json,
                          oci::ParseJson(config, name, {.max_bytes = kMaxConfigBytes}));
  if (!json.is_object()) return absl::optional<std::string>();
  const auto found = json.find(kInlineCache);
  if (found == json.end() || !found->is_string()) return absl::optional<std::string>();
  std::string text;
  if (!absl::Base64Unescape(found->get<std::string>(), &text))
    return absl::InvalidArgumentError(absl::StrCat(name, ": its cache is not base64"));
  return absl::optional<std::string>(std::move(text));
}

}  // namespace

absl::StatusOr<std::unique_ptr<BuildCacheImport>> BuildCacheImport::Load(
    ImageBuild::Session& session, std::unique_ptr<BlobOrigin> origin) {
  std::unique_ptr<BuildCacheImport> imported(new BuildCacheImport(std::move(origin)));
  BlobOrigin& from = *imported->origin_;
  CancelToken* const cancel = session.context().cancel;
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor root, from.Root(cancel));
  GANTRY_RETURN_IF_ERROR(imported->AddTree(session, root, 0));
  if (imported->documents_.empty())
    return absl::NotFoundError(absl::StrCat(from.name(), ": there is no build cache in it"));
  return imported;
}

absl::Status BuildCacheImport::AddTree(ImageBuild::Session& session,
                                       const content::Descriptor& target, int depth) {
  content::Store& store = session.store();
  CancelToken* const cancel = session.context().cancel;
  GANTRY_RETURN_IF_ERROR(origin_->Fetch(target, store, cancel));
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          content::ReadBlob(store, target.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(const oci::Document document,
                          oci::ParseDocument(text, target.media_type, origin_->name()));
  const auto read = [&](const content::Descriptor& config) -> absl::StatusOr<std::string> {
    GANTRY_RETURN_IF_ERROR(origin_->Fetch(config, store, cancel));
    return content::ReadBlob(store, config.digest, kMaxConfigBytes);
  };
  if (document.index.has_value()) {
    // A cache that is written as an index: layers and configuration side by side.
    for (const content::Descriptor& one : document.index->manifests) {
      if (one.media_type != kCacheConfig) continue;
      GANTRY_ASSIGN_OR_RETURN(const std::string config, read(one));
      GANTRY_ASSIGN_OR_RETURN(CacheDocument cache,
                              ParseCacheConfig(config, document.index->manifests));
      Add(std::move(cache));
      return absl::OkStatus();
    }
    for (const content::Descriptor& one : document.index->manifests) {
      if (!oci::IsManifestType(one.media_type) || oci::IsAttestation(one) || depth >= kMaxDepth)
        continue;
      GANTRY_RETURN_IF_ERROR(AddTree(session, one, depth + 1));
    }
    return absl::OkStatus();
  }
  const oci::Manifest& manifest = *document.manifest;
  if (manifest.config.media_type == kCacheConfig) {
    GANTRY_ASSIGN_OR_RETURN(const std::string config, read(manifest.config));
    GANTRY_ASSIGN_OR_RETURN(CacheDocument cache, ParseCacheConfig(config, manifest.layers));
    Add(std::move(cache));
    return absl::OkStatus();
  }
  if (!oci::IsConfigType(manifest.config.media_type)) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const std::string config, read(manifest.config));
  GANTRY_ASSIGN_OR_RETURN(const absl::optional<std::string> records,
                          InlineCacheOf(config, origin_->name()));
  if (!records.has_value()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const oci::ImageConfig image,
                          oci::ParseImageConfig(config, origin_->name()));
  GANTRY_ASSIGN_OR_RETURN(CacheDocument cache,
                          ParseInlineCache(*records, manifest, image.diff_ids));
  Add(std::move(cache));
  return absl::OkStatus();
}

void BuildCacheImport::Add(CacheDocument document) {
  for (const CacheStep& step : document.steps)
    by_key_.emplace(step.key, Step{documents_.size(), step});
  documents_.push_back(std::move(document));
}

absl::StatusOr<absl::optional<BuildCache::Hit>> BuildCacheImport::Find(
    ImageBuild::Session& session, BuildCache& cache, const BuildRoot& root, const std::string& key,
    const std::string& description) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return absl::optional<BuildCache::Hit>();
  const CacheDocument& document = documents_[found->second.document];
  const CacheLayer& layer = document.layers[found->second.step.layer];
  // The layer was made on these files and on no others.
  size_t below = root.diff_ids.size();
  for (int number = layer.parent; number >= 0; number = document.layers[number].parent) {
    if (below == 0 || root.diff_ids[below - 1] != document.layers[number].diff_id)
      return absl::optional<BuildCache::Hit>();
    --below;
  }
  const std::string own = KeyOf(name(), key);
  GANTRY_ASSIGN_OR_RETURN(absl::optional<BuildCache::Hit> hit, cache.Find(session, root, own));
  if (hit.has_value()) return hit;
  GANTRY_RETURN_IF_ERROR(origin_->Fetch(layer.blob, session.store(), session.context().cancel));
  BuildCache::Hit made;
  GANTRY_ASSIGN_OR_RETURN(made.root, session.exchange().Adopt(root, layer.blob, layer.diff_id));
  made.made_at = found->second.step.created;
  GANTRY_RETURN_IF_ERROR(cache.Put(session, own, description, made.root, made.made_at));
  return absl::optional<BuildCache::Hit>(std::move(made));
}

}  // namespace gantry::core
