#include "supervisor/distribution/resolver.h"

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/http_client.h"
#include "supervisor/oci/json_document.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {

const char kManifestAccept[] =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json, */*";

namespace {

constexpr size_t kMaxListed = 100000;

// "application/json; charset=utf-8" -> "application/json"
std::string MediaType(absl::string_view content_type) {
  return absl::AsciiStrToLower(
      absl::StripAsciiWhitespace(content_type.substr(0, content_type.find(';'))));
}

// Cancelled: asking further hosts would not help.
bool GaveUp(const absl::Status& status) {
  return absl::IsCancelled(status) || absl::IsDeadlineExceeded(status);
}

absl::Status Schema1(const Reference& ref) {
  return absl::FailedPreconditionError(
      absl::StrCat("image ", ref.familiar(),
                   ": it is in docker's schema 1 format of 2015, which is not supported any more; "
                   "push it again with a current docker or buildah"));
}

// "404 Not Found" says nothing of the image.
absl::Status NotInRegistry(const Reference& ref) {
  return absl::NotFoundError(absl::StrCat(ref.familiar(), ": the registry has no such ",
                                          ref.digest().empty() ? "tag" : "digest",
                                          " or repository"));
}

absl::StatusOr<Resolved> ResolveAt(RegistryClient& client, const RegistryHost& host,
                                   const Reference& ref, bool last, const CallContext& context) {
  RegistryRequest request;
  request.method = "HEAD";
  request.path = absl::StrCat("/", ref.path(), "/manifests/", ref.object());
  request.headers = {{"Accept", kManifestAccept}};
  request.scope_repository = ref.path();
  request.last_resort = last;

  Resolved out;
  out.host = host.origin();
  absl::StatusOr<RegistryResponse> head = client.Send(host, request, context);
  if (head.ok()) {
    std::string type = MediaType(head->header("content-type"));
    if (oci::IsSchema1Type(type)) return Schema1(ref);
    absl::StatusOr<content::Digest> digest =
        content::Digest::Parse(head->header("docker-content-digest"));
    int64_t size = -1;
    bool sized = absl::SimpleAtoi(head->header("content-length"), &size) && size > 0;
    if (!ref.digest().empty() && digest.ok() && *digest != ref.digest()) {
      return absl::DataLossError(absl::StrCat("registry ", host.origin(), ": asked for ",
                                              ref.digest().str(), ", it names ", digest->str()));
    }
    if (digest.ok() && sized && (oci::IsIndexType(type) || oci::IsManifestType(type))) {
      if (size > oci::kMaxManifestBytes) {
        return absl::ResourceExhaustedError(
            absl::StrCat("registry ", host.origin(), ": the manifest of ", ref.familiar(), " has ",
                         size, " bytes, at most ", oci::kMaxManifestBytes, " are accepted"));
      }
      out.descriptor.media_type = type;
      out.descriptor.digest = *digest;
      out.descriptor.size_bytes = size;
      return out;
    }
  } else if (absl::IsNotFound(head.status())) {
    return NotInRegistry(ref);
  } else if (!absl::IsFailedPrecondition(head.status()) && !absl::IsUnimplemented(head.status())) {
    return head.status();
  }

  // No HEAD here, or it leaves something open: read the manifest itself.
  request.method = "GET";
  request.max_response_bytes = oci::kMaxManifestBytes;
  absl::StatusOr<RegistryResponse> answer = client.Send(host, request, context);
  if (absl::IsNotFound(answer.status())) return NotInRegistry(ref);
  GANTRY_RETURN_IF_ERROR(answer.status());
  RegistryResponse& got = *answer;
  std::string type = MediaType(got.header("content-type"));
  if (oci::IsSchema1Type(type)) return Schema1(ref);
  std::string where = absl::StrCat("registry ", host.origin(), ": manifest of ", ref.familiar());
  content::Digest digest;
  if (!ref.digest().empty()) {
    content::Hasher hasher(ref.digest().algorithm());
    hasher.Update(got.body);
    digest = hasher.Current();
    if (digest != ref.digest()) {
      return absl::DataLossError(absl::StrCat(where, ": the bytes hash to ", digest.str(),
                                              ", asked for was ", ref.digest().str()));
    }
  } else {
    absl::string_view named = got.header("docker-content-digest");
    absl::StatusOr<content::Digest> said = content::Digest::Parse(named);
    if (!named.empty() && !said.ok())
      return absl::DataLossError(absl::StrCat(where, ": ", said.status().message()));
    content::Hasher hasher(said.ok() ? said->algorithm() : "sha256");
    hasher.Update(got.body);
    digest = hasher.Current();
    if (said.ok() && *said != digest) {
      return absl::DataLossError(
          absl::StrCat(where, ": the bytes hash to ", digest.str(), ", it names ", said->str()));
    }
  }
  // Generic types are what static file servers say; the document itself then tells.
  bool generic = type.empty() || type == "application/json" || type == "application/octet-stream" ||
                 type == "text/plain";
  GANTRY_ASSIGN_OR_RETURN(oci::Document document,
                          oci::ParseDocument(got.body, generic ? "" : type, where));
  out.descriptor.media_type =
      document.index ? document.index->media_type : document.manifest->media_type;
  out.descriptor.digest = digest;
  out.descriptor.size_bytes = got.body.size();
  out.manifest = std::move(got.body);
  return out;
}

// The next page's path and query below the host; empty: this was the last.
std::string NextPage(const RegistryResponse& response, const RegistryHost& host) {
  for (const auto& [name, value] : response.headers) {
    if (name != "link" || !absl::StrContains(value, "next")) continue;
    size_t open = value.find('<'), close = value.find('>');
    if (open == std::string::npos || close == std::string::npos || close < open) continue;
    absl::StatusOr<Url> base = Url::Parse(response.url);
    if (!base.ok()) return "";
    absl::StatusOr<Url> next =
        base->Resolve(absl::string_view(value).substr(open + 1, close - open - 1));
    // A list that continues on another host is not followed.
    if (!next.ok() || next->origin() != base->origin()) return "";
    return next->str();
  }
  return "";
}

absl::StatusOr<std::vector<std::string>> ListPages(RegistryClient& client, const RegistryHost& host,
                                                   RegistryRequest request, const char* field,
                                                   const CallContext& context) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  while (true) {
    GANTRY_ASSIGN_OR_RETURN(RegistryResponse response, client.Send(host, request, context));
    std::string what =
        absl::StrCat("registry ", host.origin(), ": ", request.method, " ", response.url);
    absl::StatusOr<nlohmann::json> page = oci::ParseJson(response.body, what);
    if (!page.ok()) return absl::DataLossError(page.status().message());
    auto list = page->is_object() ? page->find(field) : page->end();
    if (!page->is_object()) return absl::DataLossError(absl::StrCat(what, ": not a JSON object"));
    if (list != page->end() && list->is_array()) {
      for (const nlohmann::json& item : *list) {
        if (!item.is_string())
          return absl::DataLossError(
              absl::StrCat(what, ": ", field, " holds something that is not a name"));
        out.push_back(item.get<std::string>());
      }
    }
    if (out.size() > kMaxListed)
      return absl::ResourceExhaustedError(absl::StrCat(what, ": more than ", kMaxListed, " names"));
    std::string next = NextPage(response, host);
    if (next.empty()) return out;
    if (!seen.insert(next).second || seen.size() > kMaxListed / 10) {
      return absl::DataLossError(absl::StrCat(what, ": its pages go round in a circle"));
    }
    request.path = next;
    request.query.clear();
  }
}

absl::StatusOr<std::vector<content::Descriptor>> ParseReferrers(const std::string& body,
                                                                const std::string& artifact_type,
                                                                absl::string_view what) {
  GANTRY_ASSIGN_OR_RETURN(oci::Index index, oci::ParseIndex(body, oci::kOciIndex, what));
  std::vector<content::Descriptor> out;
  for (content::Descriptor& descriptor : index.manifests) {
    // Registries may ignore the filter.
    if (artifact_type.empty() || descriptor.artifact_type == artifact_type)
      out.push_back(std::move(descriptor));
  }
  return out;
}

}  // namespace

absl::StatusOr<Resolved> Resolver::Resolve(const Reference& ref, const CallContext& context) {
  if (ref.object().empty())
    return absl::InvalidArgumentError(
        absl::StrCat("image ", ref.familiar(), ": a tag or digest is needed"));
  MemoCredentials memo(context.credentials != nullptr ? context.credentials
                                                      : client_->options().credentials);
  CallContext memo_context = context;
  memo_context.credentials = &memo;
  // A host that may not resolve tags may still know a digest.
  GANTRY_ASSIGN_OR_RETURN(
      std::vector<RegistryHost> hosts,
      client_->Hosts(
          ref, ref.digest().empty() ? RegistryClient::Need::kResolve : RegistryClient::Need::kPull,
          context));
  std::vector<absl::Status> failures;
  for (size_t i = 0; i < hosts.size(); ++i) {
    absl::StatusOr<Resolved> resolved =
        ResolveAt(*client_, hosts[i], ref, i + 1 == hosts.size(), memo_context);
    if (resolved.ok() || GaveUp(resolved.status())) return resolved;
    failures.push_back(resolved.status());
  }
  return MostTelling(failures);
}

absl::StatusOr<std::vector<std::string>> Resolver::ListTags(const Reference& ref,
                                                            const CallContext& context) {
  MemoCredentials memo(context.credentials != nullptr ? context.credentials
                                                      : client_->options().credentials);
  CallContext memo_context = context;
  memo_context.credentials = &memo;
  GANTRY_ASSIGN_OR_RETURN(std::vector<RegistryHost> hosts,
                          client_->Hosts(ref, RegistryClient::Need::kResolve, context));
  std::vector<absl::Status> failures;
  for (size_t i = 0; i < hosts.size(); ++i) {
    RegistryRequest request;
    request.path = absl::StrCat("/", ref.path(), "/tags/list");
    request.query = {{"n", "1000"}};
    request.scope_repository = ref.path();
    request.last_resort = i + 1 == hosts.size();
    absl::StatusOr<std::vector<std::string>> tags =
        ListPages(*client_, hosts[i], request, "tags", memo_context);
    if (tags.ok() || GaveUp(tags.status())) return tags;
    failures.push_back(tags.status());
  }
  return MostTelling(failures);
}

absl::StatusOr<std::vector<std::string>> Resolver::ListRepositories(const std::string& domain,
                                                                    const CallContext& context) {
  GANTRY_ASSIGN_OR_RETURN(Reference any, Reference::ParseName(absl::StrCat(domain, "/any/any")));
  MemoCredentials memo(context.credentials != nullptr ? context.credentials
                                                      : client_->options().credentials);
  CallContext memo_context = context;
  memo_context.credentials = &memo;
  GANTRY_ASSIGN_OR_RETURN(std::vector<RegistryHost> hosts,
                          client_->Hosts(any, RegistryClient::Need::kResolve, context));
  RegistryRequest request;
  request.path = "/_catalog";
  request.query = {{"n", "1000"}};
  request.extra_scope = "registry:catalog:*";
  return ListPages(*client_, hosts.back(), request, "repositories", memo_context);
}

absl::StatusOr<std::vector<FoundRepository>> Resolver::SearchCatalog(const std::string& domain,
                                                                     const std::string& term,
                                                                     int limit,
                                                                     const std::string& origin,
                                                                     const CallContext& context) {
  const absl::StatusOr<std::vector<std::string>> names = ListRepositories(domain, context);
  if (absl::IsNotFound(names.status()) || absl::IsUnimplemented(names.status()) ||
      absl::IsFailedPrecondition(names.status())) {
    return absl::UnimplementedError(
        absl::StrCat("registry ", origin,
                     " has no search (/v1/search) and no list of its repositories "
                     "(/v2/_catalog): name an image and pull it"));
  }
  GANTRY_RETURN_IF_ERROR(names.status());
  const std::string wanted = absl::AsciiStrToLower(term);
  std::vector<FoundRepository> found;
  for (const std::string& name : *names) {
    if (static_cast<int>(found.size()) >= limit) break;
    if (!absl::StrContains(name, wanted)) continue;
    FoundRepository& one = found.emplace_back();
    one.name = name;
  }
  return found;
}

absl::StatusOr<std::vector<FoundRepository>> Resolver::Search(const std::string& domain,
                                                              const std::string& term, int limit,
                                                              const CallContext& context) {
  GANTRY_ASSIGN_OR_RETURN(Reference any, Reference::ParseName(absl::StrCat(domain, "/any/any")));
  RegistryHost host;
  if (any.domain() == "docker.io") {
    // Its search is not where its images are.
    host.host = "index.docker.io";
    host.upstream_domain = any.domain();
  } else {
    const HostsConfig* config = context.hosts != nullptr ? context.hosts : client_->options().hosts;
    GANTRY_ASSIGN_OR_RETURN(HostsLookup lookup, config->Lookup(any.domain()));
    host = lookup.hosts.back();  // the registry itself: mirrors have no search
  }
  host.path = "/v1";
  RegistryRequest request;
  request.path = "/search";
  request.query = {{"q", term}, {"n", absl::StrCat(limit)}};
  request.headers = {{"Accept", "application/json"}};
  const absl::StatusOr<RegistryResponse> response = client_->Send(host, request, context);
  if (absl::IsNotFound(response.status()))
    return SearchCatalog(any.domain(), term, limit, host.origin(), context);
  GANTRY_RETURN_IF_ERROR(response.status());
  const std::string what = absl::StrCat("registry ", host.origin(), ": its search");
  const absl::StatusOr<nlohmann::json> page = oci::ParseJson(response->body, what);
  if (!page.ok()) return absl::DataLossError(page.status().message());
  std::vector<FoundRepository> found;
  const auto results = page->is_object() ? page->find("results") : page->end();
  if (!page->is_object() || results == page->end() || !results->is_array())
    return absl::DataLossError(absl::StrCat(what, ": the answer holds no results"));
  const auto text = [](const nlohmann::json& entry, const char* key) {
    const auto value = entry.find(key);
    return value != entry.end() && value->is_string() ? value->get<std::string>() : std::string();
  };
  const auto truth = [](const nlohmann::json& entry, const char* key) {
    const auto value = entry.find(key);
    return value != entry.end() && value->is_boolean() && value->get<bool>();
  };
  for (const nlohmann::json& entry : *results) {
    if (static_cast<int>(found.size()) >= limit) break;
    FoundRepository one;
    if (entry.is_object()) one.name = text(entry, "name");
    if (one.name.empty()) return absl::DataLossError(absl::StrCat(what, ": a result has no name"));
    one.description = text(entry, "description");
    const auto stars = entry.find("star_count");
    if (stars != entry.end() && stars->is_number_integer()) one.stars = stars->get<int64_t>();
    one.official = truth(entry, "is_official");
    one.automated = truth(entry, "is_automated") || truth(entry, "is_trusted");
    found.push_back(std::move(one));
  }
  return found;
}

absl::StatusOr<std::vector<content::Descriptor>> Resolver::Referrers(
    const Reference& ref, const content::Digest& subject, const std::string& artifact_type,
    const CallContext& context) {
  MemoCredentials memo(context.credentials != nullptr ? context.credentials
                                                      : client_->options().credentials);
  CallContext memo_context = context;
  memo_context.credentials = &memo;
  GANTRY_ASSIGN_OR_RETURN(std::vector<RegistryHost> hosts,
                          client_->Hosts(ref, RegistryClient::Need::kReferrers, context));
  std::vector<absl::Status> failures;
  for (size_t i = 0; i < hosts.size(); ++i) {
    RegistryRequest request;
    request.path = absl::StrCat("/", ref.path(), "/referrers/", subject.str());
    if (!artifact_type.empty()) request.query = {{"artifactType", artifact_type}};
    request.headers = {{"Accept", oci::kOciIndex}};
    request.scope_repository = ref.path();
    request.last_resort = i + 1 == hosts.size();
    std::string what =
        absl::StrCat("registry ", hosts[i].origin(), ": referrers of ", subject.str());
    absl::StatusOr<RegistryResponse> response = client_->Send(hosts[i], request, memo_context);
    if (response.ok()) return ParseReferrers(response->body, artifact_type, what);
    if (GaveUp(response.status())) return response.status();
    if (absl::IsNotFound(response.status())) {
      // Registries of before version 1.1 keep the list under a tag.
      RegistryRequest fallback = request;
      fallback.query.clear();
      fallback.path = absl::StrCat("/", ref.path(), "/manifests/", std::string(subject.algorithm()),
                                   "-", std::string(subject.hex()).substr(0, 64));
      absl::StatusOr<RegistryResponse> tagged = client_->Send(hosts[i], fallback, memo_context);
      if (tagged.ok()) return ParseReferrers(tagged->body, artifact_type, what);
      if (absl::IsNotFound(tagged.status())) return std::vector<content::Descriptor>();
      failures.push_back(tagged.status());
      continue;
    }
    failures.push_back(response.status());
  }
  return MostTelling(failures);
}

namespace {

absl::Status Delete(RegistryClient& client, const Reference& ref, const std::string& path,
                    const CallContext& context) {
  MemoCredentials memo(context.credentials != nullptr ? context.credentials
                                                      : client.options().credentials);
  CallContext memo_context = context;
  memo_context.credentials = &memo;
  GANTRY_ASSIGN_OR_RETURN(std::vector<RegistryHost> hosts,
                          client.Hosts(ref, RegistryClient::Need::kPush, context));
  RegistryRequest request;
  request.method = "DELETE";
  request.path = path;
  request.scope_repository = ref.path();
  request.scope_actions = "delete,pull,push";
  absl::StatusOr<RegistryResponse> response = client.Send(hosts.front(), request, memo_context);
  if (absl::IsFailedPrecondition(response.status())) {
    return absl::UnimplementedError(
        absl::StrCat(response.status().message(), "; this registry does not allow deletion"));
  }
  return response.status();
}

}  // namespace

absl::Status Resolver::DeleteManifest(const Reference& ref, const CallContext& context) {
  if (ref.object().empty())
    return absl::InvalidArgumentError(
        absl::StrCat("image ", ref.familiar(), ": a tag or digest is needed"));
  return Delete(*client_, ref, absl::StrCat("/", ref.path(), "/manifests/", ref.object()), context);
}

absl::Status Resolver::DeleteBlob(const Reference& ref, const content::Digest& digest,
                                  const CallContext& context) {
  return Delete(*client_, ref, absl::StrCat("/", ref.path(), "/blobs/", digest.str()), context);
}

absl::StatusOr<std::string> Resolver::CheckLogin(const std::string& domain,
                                                 const CallContext& context) {
  GANTRY_ASSIGN_OR_RETURN(Reference any, Reference::ParseName(absl::StrCat(domain, "/any/any")));
  const HostsConfig* config = context.hosts != nullptr ? context.hosts : client_->options().hosts;
  GANTRY_ASSIGN_OR_RETURN(HostsLookup lookup, config->Lookup(any.domain()));
  // The registry itself, which is last: mirrors have logins of their own.
  const RegistryHost& host = lookup.hosts.back();
  RegistryRequest request;
  request.path = "/";
  request.last_resort = true;
  GANTRY_RETURN_IF_ERROR(client_->Send(host, request, context).status());
  return host.origin();
}

absl::StatusOr<Explanation> Resolver::Explain(const Reference& ref, const CallContext& context,
                                              Asking asking) {
  Explanation explanation;
  const HostsConfig* config = context.hosts != nullptr ? context.hosts : client_->options().hosts;
  GANTRY_ASSIGN_OR_RETURN(explanation.lookup, config->Lookup(ref.domain()));
  CallContext recording = context;
  recording.on_attempt = [&](const Attempt& attempt) {
    explanation.attempts.push_back(attempt);
    if (context.on_attempt) context.on_attempt(attempt);
  };
  absl::StatusOr<Resolved> resolved = absl::UnavailableError("no registry was asked");
  if (asking == Asking::kRegistry) resolved = Resolve(ref, recording);
  if (resolved.ok()) {
    explanation.result = resolved->descriptor;
  } else {
    explanation.result = resolved.status();
  }
  // Every attempt finds its host in the list: where https was a guess, http is an entry of its own,
  // and so is each place that was redirected to.
  std::vector<RegistryHost> hosts;
  std::set<std::string> listed;
  for (const RegistryHost& host : explanation.lookup.hosts) {
    hosts.push_back(host);
    listed.insert(host.origin());
    if (!host.http_fallback || host.scheme != "https") continue;
    RegistryHost plain = host;
    plain.scheme = "http";
    plain.http_fallback = false;
    listed.insert(plain.origin());
    hosts.push_back(std::move(plain));
  }
  for (const Attempt& attempt : explanation.attempts) {
    absl::StatusOr<Url> url = Url::Parse(attempt.host);
    if (!url.ok() || !listed.insert(url->origin()).second) continue;
    RegistryHost elsewhere;
    elsewhere.scheme = url->scheme;
    elsewhere.host = url->host;
    elsewhere.path.clear();
    elsewhere.upstream_domain = ref.domain();
    elsewhere.can_pull = elsewhere.can_resolve = elsewhere.can_push = elsewhere.can_referrers =
        false;
    elsewhere.rule = attempt.rule;
    hosts.push_back(std::move(elsewhere));
  }
  explanation.lookup.hosts = std::move(hosts);
  return explanation;
}

}  // namespace gantry::distribution
