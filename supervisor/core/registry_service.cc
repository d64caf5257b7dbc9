#include "supervisor/core/registry_service.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/byte_stream.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.pb.h"
#include "supervisor/core/filters.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/distribution/fetcher.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/resolver.h"
#include "supervisor/distribution/url_source.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"

namespace gantry::core {

absl::StatusOr<v1::LoginResponse> RegistryService::Login(const CallContext& context,
                                                         const v1::LoginRequest& request) {
  const std::string domain =
      request.auth().server_address().empty() ? "docker.io" : request.auth().server_address();
  RegistryCall call(request.auth(), domain, nullptr, context.cancel);
  if (call.context.credentials == nullptr)
    return absl::InvalidArgumentError("login: neither user name and password nor a token given");
  GANTRY_RETURN_IF_ERROR(parts_.resolver->CheckLogin(domain, call.context).status());
  v1::LoginResponse response;
  response.set_status("Login Succeeded");
  return response;
}

namespace {

constexpr int kFoundUsually = 25;
constexpr int kFoundAtMost = 100;

// "registry:5000/word" in the registry and what is looked for there.
std::pair<std::string, std::string> SplitTerm(const std::string& term) {
  const size_t slash = term.find('/');
  const std::string first = term.substr(0, slash);
  if (slash == std::string::npos ||
      (!absl::StrContains(first, '.') && !absl::StrContains(first, ':') && first != "localhost"))
    return {"docker.io", term};
  std::string words = term.substr(slash + 1);
  return {first == "index.docker.io" ? "docker.io" : first, std::move(words)};
}

}  // namespace

absl::StatusOr<v1::SearchImagesResponse> RegistryService::Search(
    const CallContext& context, const v1::SearchImagesRequest& request) {
  const int limit = request.limit() == 0 ? kFoundUsually : request.limit();
  if (limit < 1 || limit > kFoundAtMost) {
    return absl::InvalidArgumentError(
        absl::StrCat("limit ", limit, " is outside the range of [1, ", kFoundAtMost, "]"));
  }
  GANTRY_ASSIGN_OR_RETURN(
      const Filters filters,
      Filters::Parse(request.filters(), {"is-official", "is-automated", "stars"}));
  bool official = false, automated = false;
  int64_t stars = 0;
  for (const std::string& text : filters.Values("is-official")) {
    GANTRY_ASSIGN_OR_RETURN(official, ParseTruth("is-official", text));
  }
  for (const std::string& text : filters.Values("is-automated")) {
    GANTRY_ASSIGN_OR_RETURN(automated, ParseTruth("is-automated", text));
  }
  for (const std::string& text : filters.Values("stars")) {
    int64_t least;
    if (!absl::SimpleAtoi(text, &least))
      return absl::InvalidArgumentError(absl::StrCat("invalid filter 'stars=", text, "'"));
    stars = std::max(stars, least);
  }
  const auto [domain, words] = SplitTerm(request.term());
  if (words.empty()) return absl::InvalidArgumentError("search: no term is given");
  RegistryCall call(request.auth(), domain, parts_.credentials, context.cancel);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<distribution::FoundRepository> found,
                          parts_.resolver->Search(domain, words, limit, call.context));
  v1::SearchImagesResponse response;
  for (const distribution::FoundRepository& one : found) {
    if (filters.Has("is-official") && one.official != official) continue;
    if (filters.Has("is-automated") && one.automated != automated) continue;
    if (one.stars < stars) continue;
    v1::SearchImagesResponse::Result* result = response.add_results();
    result->set_name(one.name);
    result->set_description(one.description);
    result->set_stars(one.stars);
    result->set_official(one.official);
    result->set_automated(one.automated);
  }
  return response;
}

absl::StatusOr<std::unique_ptr<ByteSource>> RegistryService::OpenUrl(const CallContext& context,
                                                                     absl::string_view url) {
  return distribution::UrlSource::Open(parts_.resolver->http(), url, context.cancel);
}

namespace {

void SetDescriptor(const content::Descriptor& descriptor, v1::Descriptor& out) {
  out.set_media_type(descriptor.media_type);
  out.set_digest(descriptor.digest.str());
  out.set_size_bytes(descriptor.size_bytes);
}

// The manifest of an index for a platform. kNotFound names the platforms that there are.
absl::StatusOr<content::Descriptor> ChooseManifest(absl::string_view document,
                                                   const content::Descriptor& index_descriptor,
                                                   const oci::PlatformMatcher& platforms) {
  GANTRY_ASSIGN_OR_RETURN(
      const oci::Index index,
      oci::ParseIndex(document, index_descriptor.media_type, index_descriptor.digest.str()));
  const std::vector<content::Descriptor> fitting = oci::SelectManifests(index.manifests, platforms);
  if (!fitting.empty()) return fitting.front();
  std::vector<std::string> there;
  for (const content::Descriptor& manifest : index.manifests) {
    if (manifest.platform.has_value() && !oci::IsAttestation(manifest))
      there.push_back(oci::FormatPlatform(*manifest.platform));
  }
  return absl::NotFoundError(absl::StrCat("no image for platform ", platforms.Describe(),
                                          "; there are ", absl::StrJoin(there, ", ")));
}

}  // namespace

absl::StatusOr<RemoteImage> RegistryService::Lookup(const CallContext& context,
                                                    absl::string_view text,
                                                    const v1::RegistryAuth& auth) {
  GANTRY_ASSIGN_OR_RETURN(const distribution::Reference reference,
                          distribution::Reference::Parse(text));
  RegistryCall call(auth, reference.domain(), parts_.credentials, context.cancel);
  GANTRY_ASSIGN_OR_RETURN(const distribution::Resolved resolved,
                          parts_.resolver->Resolve(reference, call.context));
  RemoteImage image;
  image.descriptor = resolved.descriptor;
  const std::string what = image.descriptor.digest.str();
  GANTRY_ASSIGN_OR_RETURN(const std::string document,
                          parts_.fetcher->FetchManifest(reference, image.descriptor, call.context));
  if (oci::IsIndexType(image.descriptor.media_type)) {
    GANTRY_ASSIGN_OR_RETURN(const oci::Index index,
                            oci::ParseIndex(document, image.descriptor.media_type, what));
    for (const content::Descriptor& manifest : index.manifests) {
      if (manifest.platform.has_value() && !oci::IsAttestation(manifest))
        image.platforms.push_back(oci::FormatPlatform(*manifest.platform));
    }
    return image;
  }
  GANTRY_ASSIGN_OR_RETURN(const oci::Manifest manifest,
                          oci::ParseManifest(document, image.descriptor.media_type, what));
  StringSink json;
  GANTRY_RETURN_IF_ERROR(
      parts_.fetcher->FetchBlob(reference, manifest.config, {}, call.context, json));
  // An artifact's configuration is none of an image.
  const absl::StatusOr<oci::ImageConfig> config = oci::ParseImageConfig(json.str(), what);
  if (config.ok()) image.platforms.push_back(oci::FormatPlatform(config->platform));
  return image;
}

absl::StatusOr<v1::ExplainRegistryResponse> RegistryService::ExplainRegistry(
    const CallContext& context, const v1::ExplainRegistryRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(distribution::Reference reference,
                          distribution::Reference::Parse(request.reference()));
  oci::PlatformMatcher platforms = oci::PlatformMatcher::Host();
  if (!request.platform().empty()) {
    GANTRY_ASSIGN_OR_RETURN(const content::Platform platform,
                            oci::ParsePlatform(request.platform()));
    platforms = oci::PlatformMatcher::Only(platform);
  }
  RegistryCall call(request.auth(), reference.domain(), parts_.credentials, context.cancel);
  GANTRY_ASSIGN_OR_RETURN(
      distribution::Explanation explanation,
      parts_.resolver->Explain(reference, call.context,
                               request.offline() ? distribution::Resolver::Asking::kNobody
                                                 : distribution::Resolver::Asking::kRegistry));
  v1::ExplainRegistryResponse response;
  response.set_reference(reference.canonical());
  for (const std::string& file : explanation.lookup.looked_at) response.add_files_read(file);
  for (const distribution::RegistryHost& host : explanation.lookup.hosts) {
    v1::ExplainRegistryResponse::Host* out = response.add_hosts();
    out->set_url(host.origin() + host.path);
    if (host.can_pull) out->add_capabilities("pull");
    if (host.can_resolve) out->add_capabilities("resolve");
    if (host.can_push) out->add_capabilities("push");
    out->set_source(explanation.lookup.used.empty() ? "default" : explanation.lookup.used);
    out->set_rule(host.rule);
    out->set_skip_verify(host.tls.skip_verify);
    out->set_ca(absl::StrJoin(host.tls.ca_files, ", "));
    if (!host.tls.client_pairs.empty())
      out->set_client_certificate(host.tls.client_pairs.front().first);
    for (const distribution::Attempt& attempt : explanation.attempts) {
      if (attempt.host != host.origin()) continue;
      v1::ExplainRegistryResponse::Attempt* tried = out->add_attempts();
      const size_t space = attempt.request.find(' ');
      tried->set_method(attempt.request.substr(0, space));
      tried->set_url(absl::StrCat(
          attempt.host, space == std::string::npos ? "" : attempt.request.substr(space + 1)));
      tried->set_status(attempt.status);
      if (attempt.status < 200 || attempt.status >= 300) tried->set_error(attempt.answer);
      tried->set_duration_micros(absl::ToInt64Microseconds(attempt.took));
      out->set_credential(attempt.credential);
    }
  }
  if (explanation.result.ok()) {
    const content::Descriptor& resolved = *explanation.result;
    SetDescriptor(resolved, *response.mutable_resolved());
    if (!oci::IsIndexType(resolved.media_type)) return response;
    const absl::StatusOr<std::string> document =
        parts_.fetcher->FetchManifest(reference, resolved, call.context);
    const absl::StatusOr<content::Descriptor> manifest =
        document.ok() ? ChooseManifest(*document, resolved, platforms) : document.status();
    if (manifest.ok()) {
      SetDescriptor(*manifest, *response.mutable_manifest());
    } else {
      response.set_error(std::string(manifest.status().message()));
    }
  } else if (!request.offline()) {
    response.set_error(std::string(explanation.result.status().message()));
  }
  return response;
}

}  // namespace gantry::core
