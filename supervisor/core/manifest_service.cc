#include "supervisor/core/manifest_service.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/byte_stream.h"
#include "base/status_macros.h"
#include "content-store/store.h"
#include "proto/gantry/v1/manifests.pb.h"
#include "supervisor/core/call_token.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/refetch.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/distribution/fetcher.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/pusher.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/resolver.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {
namespace {

using distribution::Reference;

RegistryAccess AccessOf(const std::string& domain, bool insecure) {
  RegistryAccess access;
  if (insecure) access.insecure_registry = domain;
  return access;
}

// Where the manifests of an index are now, by digest.
absl::StatusOr<std::map<content::Digest, Reference>> SourcesOf(const v1::PushIndexRequest& request,
                                                               const Reference& target,
                                                               const oci::Index& index) {
  std::map<content::Digest, Reference> sources;
  for (const std::string& text : request.sources()) {
    GANTRY_ASSIGN_OR_RETURN(Reference source, Reference::Parse(text));
    if (source.digest().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("source ", text, ": name the manifest by its digest"));
    }
    if (source.domain() != target.domain()) {
      return absl::InvalidArgumentError(
          absl::StrCat("source ", source.familiar(), " is in registry ", source.domain(),
                       ", the index goes to ", target.domain(), ": push the image there first"));
    }
    const content::Digest digest = source.digest();
    sources.insert_or_assign(digest, std::move(source));
  }
  size_t named = 0;
  for (const content::Descriptor& manifest : index.manifests) {
    if (!sources.contains(manifest.digest)) {
      return absl::InvalidArgumentError(absl::StrCat("index ", target.familiar(), ": manifest ",
                                                     manifest.digest.str(), " has no source"));
    }
    ++named;
  }
  if (named < sources.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("index ", target.familiar(), ": a source is not one of its manifests"));
  }
  return sources;
}

// Puts a manifest where the pusher looks for it, with a label that says which repository its blobs
// can be mounted from.
absl::Status Keep(content::Store& store, const std::string& bytes, const content::Digest& digest,
                  const Reference& source) {
  const std::string key = absl::StrCat("containerd.io/distribution.source.", source.domain());
  content::Labels labels = {{key, source.path()}};
  absl::StatusOr<content::Info> info = store.Stat(digest);
  if (absl::IsNotFound(info.status())) {
    return content::WriteBlob(store, absl::StrCat("index-", digest.str()), bytes, digest, labels)
        .status();
  }
  GANTRY_RETURN_IF_ERROR(info.status());
  std::vector<std::string> repositories = absl::StrSplit(info->labels[key], ',', absl::SkipEmpty());
  for (const std::string& one : repositories) {
    if (one == source.path()) return absl::OkStatus();
  }
  repositories.insert(repositories.begin(), source.path());
  labels[key] = absl::StrJoin(repositories, ",");
  return store.Update(digest, labels, {absl::StrCat("labels.", key)}).status();
}

}  // namespace

absl::StatusOr<v1::ReadManifestResponse> ManifestService::Read(
    const CallContext& context, const v1::ReadManifestRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const Reference reference, Reference::Parse(request.reference()));
  RegistryCall call(request.auth(), reference.domain(), parts_.credentials, context.cancel);
  GANTRY_RETURN_IF_ERROR(
      call.Apply(AccessOf(reference.domain(), request.insecure()), parts_.hosts));
  GANTRY_ASSIGN_OR_RETURN(const distribution::Resolved resolved,
                          parts_.resolver->Resolve(reference, call.context));
  const content::Descriptor& found = resolved.descriptor;
  v1::ReadManifestResponse response;
  response.set_reference(reference.canonical());
  distribution::Fetcher& fetcher = parts_.puller->fetcher();
  GANTRY_ASSIGN_OR_RETURN(*response.mutable_document(),
                          fetcher.FetchManifest(reference, found, call.context));
  v1::Descriptor* descriptor = response.mutable_manifest();
  descriptor->set_media_type(found.media_type);
  descriptor->set_digest(found.digest.str());
  descriptor->set_size_bytes(static_cast<int64_t>(response.document().size()));
  if (oci::IsIndexType(found.media_type)) return response;
  const std::string what = absl::StrCat(reference.familiar(), ": manifest ", found.digest.str());
  GANTRY_ASSIGN_OR_RETURN(const oci::Manifest manifest,
                          oci::ParseManifest(response.document(), found.media_type, what));
  // An artifact's configuration is not that of an image.
  if (!oci::IsConfigType(manifest.config.media_type)) return response;
  StringSink json;
  GANTRY_RETURN_IF_ERROR(fetcher.FetchBlob(reference, manifest.config, {}, call.context, json));
  GANTRY_ASSIGN_OR_RETURN(const oci::ImageConfig config, oci::ParseImageConfig(json.str(), what));
  v1::ManifestPlatform* platform = response.mutable_platform();
  platform->set_architecture(config.platform.architecture);
  platform->set_os(config.platform.os);
  platform->set_os_version(config.platform.os_version);
  for (const std::string& feature : config.platform.os_features) platform->add_os_features(feature);
  platform->set_variant(config.platform.variant);
  return response;
}

absl::StatusOr<std::vector<v1::PushedImage>> ManifestService::PushIndex(
    const CallContext& context, const v1::PushIndexRequest& request, const ProgressFn& progress) {
  GANTRY_ASSIGN_OR_RETURN(const Reference target, Reference::Parse(request.reference()));
  GANTRY_ASSIGN_OR_RETURN(const oci::Index index,
                          oci::ParseIndex(request.document(), request.media_type(),
                                          absl::StrCat("index ", target.familiar())));
  if (index.manifests.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("index ", target.familiar(), " names no manifest"));
  }
  GANTRY_ASSIGN_OR_RETURN(const auto sources, SourcesOf(request, target, index));
  CallToken token(context.cancel);
  RegistryCall call(request.auth(), target.domain(), parts_.credentials, token.get());
  GANTRY_RETURN_IF_ERROR(call.Apply(AccessOf(target.domain(), request.insecure()), parts_.hosts));
  GANTRY_ASSIGN_OR_RETURN(
      const LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  metadata::ContentNamespace content = parts_.stores->Content(lease.scope());
  for (const content::Descriptor& manifest : index.manifests) {
    const Reference& source = sources.at(manifest.digest);
    GANTRY_ASSIGN_OR_RETURN(const std::string bytes,
                            parts_.puller->fetcher().FetchManifest(source, manifest, call.context));
    GANTRY_RETURN_IF_ERROR(Keep(content, bytes, manifest.digest, source));
  }
  content::Descriptor made;
  made.media_type = index.media_type;
  made.digest = content::Digest::Sha256Of(request.document());
  made.size_bytes = static_cast<int64_t>(request.document().size());
  GANTRY_RETURN_IF_ERROR(content::WriteBlob(content, absl::StrCat("index-", made.digest.str()),
                                            request.document(), made.digest)
                             .status());
  distribution::PushOptions options;
  options.max_parallel_blobs = parts_.max_parallel_blobs;
  options.progress = TransferProgress(progress, true);
  // What is fetched only to be sent on does not stay.
  Refetch refetched(*parts_.puller, content, true);
  options.fetch_missing = [&](const content::Descriptor& blob, const content::Labels& labels) {
    return refetched.Fetch(blob, labels, [&](const std::string& asked) {
      return asked == target.domain() ? call.context : DaemonsCall(parts_.credentials, *token);
    });
  };
  GANTRY_ASSIGN_OR_RETURN(const distribution::PushedImage pushed,
                          parts_.pusher->Push(target, made, content, options, call.context));
  std::vector<v1::PushedImage> answers;
  for (const content::Descriptor& manifest : index.manifests) {
    v1::PushedImage& answer = answers.emplace_back();
    answer.set_reference(target.WithDigest(manifest.digest).canonical());
    answer.set_digest(manifest.digest.str());
    answer.set_size_bytes(manifest.size_bytes);
  }
  v1::PushedImage& answer = answers.emplace_back();
  answer.set_reference(target.canonical());
  answer.set_tag(target.tag());
  answer.set_digest(pushed.target.digest.str());
  answer.set_size_bytes(pushed.target.size_bytes);
  return answers;
}

}  // namespace gantry::core
