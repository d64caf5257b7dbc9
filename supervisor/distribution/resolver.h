// From a name to a descriptor, and the small calls around it: tags, referrers, deletion,
// explanation.
//
// Asks the configured hosts in order; the first that answers decides, the most telling error is
// reported when none does. Thread-safe. Spec: OCI distribution-spec v1.1.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_RESOLVER_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_RESOLVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "content-store/descriptor.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"

namespace gantry::distribution {

struct Resolved {
  content::Descriptor descriptor;
  std::string host;      // the origin that answered
  std::string manifest;  // its bytes, verified, when resolving had to read them; empty otherwise
};

// A repository that a registry's search found.
struct FoundRepository {
  std::string name;
  std::string description;
  int64_t stars = 0;
  bool official = false;
  bool automated = false;
};

struct Explanation {
  HostsLookup
      lookup;  // its hosts include plain http where that is tried after https, and hosts that were redirected to
  std::vector<Attempt> attempts;
  absl::StatusOr<content::Descriptor> result = absl::UnknownError("not asked");
};

class Resolver {
 public:
  explicit Resolver(RegistryClient* client) : client_(client) {}

  // HEAD, and GET where a host has no HEAD or names no digest. kNotFound, kUnauthenticated,
  // kPermissionDenied, kResourceExhausted (rate limit), kUnavailable; kDataLoss: the answer
  // contradicts itself or the digest asked for.
  absl::StatusOr<Resolved> Resolve(const Reference& ref, const CallContext& context);

  // All tags, sorted as the registry sorts them; follows pages. kResourceExhausted above 100,000
  // tags.
  absl::StatusOr<std::vector<std::string>> ListTags(const Reference& ref,
                                                    const CallContext& context);

  // Repositories of a registry; many registries refuse this.
  absl::StatusOr<std::vector<std::string>> ListRepositories(const std::string& domain,
                                                            const CallContext& context);

  // Asks the registry's search, /v1/search, which Docker Hub has and few others do; at most `limit`
  // results of its first page. Of a registry without it, the repositories whose names contain the
  // term. kUnimplemented: the registry has neither. kDataLoss: its answer is not one.
  absl::StatusOr<std::vector<FoundRepository>> Search(const std::string& domain,
                                                      const std::string& term, int limit,
                                                      const CallContext& context);

  // Manifests that name `subject`; an empty `artifact_type` means all. Falls back to the
  // `<alg>-<hex>` tag.
  absl::StatusOr<std::vector<content::Descriptor>> Referrers(const Reference& ref,
                                                             const content::Digest& subject,
                                                             const std::string& artifact_type,
                                                             const CallContext& context);

  // Deletes the manifest that `ref` names (a digest, or a tag where the registry allows that).
  // kUnimplemented: registry refuses deletion.
  absl::Status DeleteManifest(const Reference& ref, const CallContext& context);
  absl::Status DeleteBlob(const Reference& ref, const content::Digest& digest,
                          const CallContext& context);

  // GET /v2/ with the credential of `context`: what `login` does. kUnauthenticated: wrong
  // credential. Returns the origin that took it.
  absl::StatusOr<std::string> CheckLogin(const std::string& domain, const CallContext& context);

  // Resolve with everything it looked at and each answer it got. The status of the resolution is
  // inside; with kNobody, which sends no request, it is kUnavailable.
  enum class Asking { kRegistry, kNobody };
  absl::StatusOr<Explanation> Explain(const Reference& ref, const CallContext& context,
                                      Asking asking = Asking::kRegistry);

  // What this object's requests go through.
  HttpClient& http() const { return *client_->options().http; }

 private:
  absl::StatusOr<std::vector<FoundRepository>> SearchCatalog(const std::string& domain,
                                                             const std::string& term, int limit,
                                                             const std::string& origin,
                                                             const CallContext& context);
  RegistryClient* const client_;
};

// The Accept header for manifests.
extern const char kManifestAccept[];

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_RESOLVER_H_
