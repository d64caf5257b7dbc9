#include "supervisor/build/build_caches.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/build/build_output.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/core/layer_form.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/manifest.h"

namespace gantry::build {
namespace {

absl::StatusOr<v1::RegistryAuth> AuthOf(const InputParts& inputs, const std::string& reference) {
  GANTRY_ASSIGN_OR_RETURN(const distribution::Reference parsed,
                          distribution::Reference::Parse(reference));
  return inputs.client->Credentials(parsed.domain(), inputs.cancel);
}

absl::StatusOr<std::unique_ptr<core::BuildCacheImport>> ImportOne(
    const InputParts& inputs, core::ImageBuild::Session& session, const v1::BuildCachePlace& place,
    int index, std::vector<ClientLayout>& layouts) {
  if (place.kind() == v1::BuildCachePlace::REGISTRY) {
    // An image that is here and holds a cache need not be asked for.
    absl::StatusOr<std::unique_ptr<core::BlobOrigin>> here =
        session.exchange().Local(place.reference());
    if (here.ok()) {
      absl::StatusOr<std::unique_ptr<core::BuildCacheImport>> found =
          core::BuildCacheImport::Load(session, *std::move(here));
      if (found.ok()) return found;
    }
    GANTRY_ASSIGN_OR_RETURN(const v1::RegistryAuth auth, AuthOf(inputs, place.reference()));
    GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<core::BlobOrigin> origin,
                            session.exchange().Registry(place.reference(), auth, place.insecure()));
    return core::BuildCacheImport::Load(session, std::move(origin));
  }
  GANTRY_ASSIGN_OR_RETURN(ClientLayout layout,
                          TakeLayout(inputs, index, absl::StrCat("cache ", place.reference()),
                                     place.tag(), place.digest()));
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<core::BuildCacheImport> imported,
                          core::BuildCacheImport::Load(session, std::move(layout.origin)));
  layouts.push_back(std::move(layout));
  return imported;
}

// The cache as blobs, with what a place is to point at.
absl::StatusOr<content::Descriptor> WriteCache(core::ImageBuild::Session& session,
                                               core::CacheDocument document,
                                               const v1::BuildCachePlace& place) {
  const core::LayerForm form = FormOf(place);
  const bool docker = place.has_oci_media_types() && !place.oci_media_types();
  for (core::CacheLayer& layer : document.layers) {
    core::ImageLayer one;
    one.blob = layer.blob;
    one.diff_id = layer.diff_id;
    GANTRY_ASSIGN_OR_RETURN(one, session.exchange().ConvertLayer(one, form));
    GANTRY_ASSIGN_OR_RETURN(const Compression compression,
                            core::CompressionOf(one.blob.media_type));
    layer.blob = std::move(one.blob);
    layer.blob.media_type = core::LayerMediaType(compression, docker);
  }
  GANTRY_ASSIGN_OR_RETURN(
      content::Descriptor config,
      session.WriteDocument(core::PrintCacheConfig(document), core::kCacheConfig));
  std::vector<content::Descriptor> blobs;
  std::set<std::string> seen;
  for (const core::CacheLayer& layer : document.layers) {
    if (seen.insert(layer.blob.digest.str()).second) blobs.push_back(layer.blob);
  }
  if (place.index()) {
    oci::Index index;
    index.media_type = docker ? oci::kDockerIndex : oci::kOciIndex;
    index.manifests = std::move(blobs);
    index.manifests.push_back(std::move(config));
    return session.WriteIndex(index);
  }
  oci::Manifest manifest;
  manifest.media_type = docker ? oci::kDockerManifest : oci::kOciManifest;
  manifest.config = std::move(config);
  manifest.layers = std::move(blobs);
  return session.WriteManifest(manifest);
}

absl::Status ExportOne(const InputParts& inputs, core::ImageBuild::Session& session,
                       const core::CacheDocument& document, const v1::BuildCachePlace& place,
                       int index) {
  GANTRY_ASSIGN_OR_RETURN(const content::Descriptor target, WriteCache(session, document, place));
  if (place.kind() == v1::BuildCachePlace::REGISTRY) {
    GANTRY_ASSIGN_OR_RETURN(const v1::RegistryAuth auth, AuthOf(inputs, place.reference()));
    return WhileTelling(*inputs.log, *inputs.cancel, [&] {
      return session.exchange().Push({place.reference()}, target, auth, place.insecure(), nullptr);
    });
  }
  const std::unique_ptr<core::BlobTaker> taker = inputs.client->CacheTaker(index);
  if (taker != nullptr) return session.exchange().Give(target, *taker);
  LogSink out(*inputs.log, static_cast<uint32_t>(1 + inputs.request->more_outputs_size() + index));
  GANTRY_RETURN_IF_ERROR(
      session.exchange().ExportLayout(target, place.tag().empty() ? "latest" : place.tag(), out));
  return out.Flush();
}

}  // namespace

absl::Status CheckCachePlaces(const v1::BuildRequest::Open& request) {
  const auto check = [](const v1::BuildCachePlace& place, const char* flag) -> absl::Status {
    if (place.kind() != v1::BuildCachePlace::REGISTRY) return absl::OkStatus();
    if (place.reference().empty())
      return absl::InvalidArgumentError(
          absl::StrCat(flag, " type=registry: name the cache, ref=REGISTRY/NAME:TAG"));
    return WithContext(distribution::Reference::Parse(place.reference()).status(), flag);
  };
  for (const v1::BuildCachePlace& place : request.cache_from()) {
    if (place.kind() == v1::BuildCachePlace::INLINE)
      return absl::InvalidArgumentError(
          "cache-from type=inline: name the image that holds the cache, type=registry,ref=IMAGE");
    GANTRY_RETURN_IF_ERROR(check(place, "cache-from"));
  }
  for (const v1::BuildCachePlace& place : request.cache_to())
    GANTRY_RETURN_IF_ERROR(check(place, "cache-to"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::unique_ptr<core::BuildCacheImport>>> ImportCaches(
    const InputParts& inputs, core::ImageBuild::Session& session,
    std::vector<ClientLayout>& layouts) {
  std::vector<std::unique_ptr<core::BuildCacheImport>> imports;
  for (int i = 0; i < inputs.request->cache_from_size(); ++i) {
    const v1::BuildCachePlace& place = inputs.request->cache_from(i);
    v1::BuildStep step =
        inputs.log->Begin(absl::StrCat("importing cache manifest from ", place.reference()));
    absl::StatusOr<std::unique_ptr<core::BuildCacheImport>> imported =
        ImportOne(inputs, session, place, 1 + inputs.request->contexts_size() + i, layouts);
    if (!imported.ok()) {
      GANTRY_RETURN_IF_ERROR(inputs.cancel->Check());
      inputs.log->Fail(step, WithContext(imported.status(), "no cache from there"));
      continue;
    }
    GANTRY_RETURN_IF_ERROR(inputs.log->End(step));
    imports.push_back(*std::move(imported));
  }
  return imports;
}

core::CacheDocument DocumentOf(const std::vector<DoneStep>& steps) {
  core::CacheDocument document;
  std::map<std::string, int> by_chain;
  // Layers below come first; a step whose layer below is none of these lies on an image's.
  std::vector<const DoneStep*> order;
  for (const DoneStep& step : steps) order.push_back(&step);
  std::stable_sort(order.begin(), order.end(), [](const DoneStep* a, const DoneStep* b) {
    return a->after.diff_ids.size() < b->after.diff_ids.size();
  });
  for (const DoneStep* step : order) {
    const std::string chain = step->after.chain_id();
    const auto [found, fresh] = by_chain.emplace(chain, static_cast<int>(document.layers.size()));
    if (fresh) {
      core::CacheLayer layer;
      layer.blob = step->after.manifest.layers.back();
      layer.diff_id = step->after.diff_ids.back();
      layer.created = step->made_at;
      core::BuildRoot below = step->after;
      below.diff_ids.pop_back();
      const auto parent = by_chain.find(below.chain_id());
      if (parent != by_chain.end()) layer.parent = parent->second;
      document.layers.push_back(std::move(layer));
    }
    document.steps.push_back({step->key, found->second, step->made_at});
  }
  return document;
}

absl::Status ExportCaches(const InputParts& inputs, core::ImageBuild::Session& session,
                          const std::vector<DoneStep>& result, const std::vector<DoneStep>& all) {
  for (int i = 0; i < inputs.request->cache_to_size(); ++i) {
    const v1::BuildCachePlace& place = inputs.request->cache_to(i);
    if (place.kind() == v1::BuildCachePlace::INLINE) continue;
    const bool registry = place.kind() == v1::BuildCachePlace::REGISTRY;
    v1::BuildStep step = inputs.log->Begin(
        absl::StrCat("exporting cache to ", registry ? "registry" : "client directory"));
    const core::CacheDocument document = DocumentOf(place.all_steps() ? all : result);
    const absl::Status exported = WithContext(ExportOne(inputs, session, document, place, i),
                                              absl::StrCat("cache-to ", place.reference()));
    if (!exported.ok()) {
      inputs.log->Fail(step, exported);
      if (!place.ignore_error()) return exported;
      continue;
    }
    GANTRY_RETURN_IF_ERROR(inputs.log->End(step));
  }
  return absl::OkStatus();
}

bool WantsInlineCache(const v1::BuildRequest::Open& request) {
  for (const v1::BuildCachePlace& place : request.cache_to()) {
    if (place.kind() == v1::BuildCachePlace::INLINE) return true;
  }
  return false;
}

std::vector<core::CacheStep> InlineSteps(const core::BuildRoot& root,
                                         const std::vector<DoneStep>& steps) {
  const std::vector<content::Digest> chains = oci::ChainIds(root.diff_ids);
  std::vector<core::CacheStep> out;
  for (const DoneStep& step : steps) {
    const size_t depth = step.after.diff_ids.size();
    if (depth == 0 || depth > chains.size() || chains[depth - 1].str() != step.after.chain_id())
      continue;
    out.push_back({step.key, static_cast<int>(depth) - 1, step.made_at});
  }
  return out;
}

}  // namespace gantry::build
