// Questions to registries that move no image: whether a credential is good, what a reference points
// at, and how it would be resolved.
//
// Thread-safe. References outlive the object.
#ifndef GANTRY_SUPERVISOR_CORE_REGISTRY_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_REGISTRY_SERVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"
#include "content-store/descriptor.h"
#include "supervisor/core/call_context.h"

namespace gantry::v1 {
class ExplainRegistryRequest;
class ExplainRegistryResponse;
class LoginRequest;
class LoginResponse;
class RegistryAuth;
class SearchImagesRequest;
class SearchImagesResponse;
}  // namespace gantry::v1
namespace gantry::distribution {
class CredentialSource;
class Fetcher;
class Resolver;
}  // namespace gantry::distribution

namespace gantry::core {

// An image as its registry has it.
struct RemoteImage {
  content::Descriptor descriptor;
  std::vector<std::string> platforms;  // "linux/arm64/v8"; of one manifest, that of its config
};

class RegistryService {
 public:
  RegistryService(distribution::Resolver& resolver, distribution::Fetcher& fetcher,
                  distribution::CredentialSource* credentials)
      : parts_{&resolver, &fetcher, credentials} {}

  absl::StatusOr<v1::LoginResponse> Login(const CallContext& context,
                                          const v1::LoginRequest& request);
  // What a reference points at, without pulling it. kInvalidArgument: the reference; kNotFound,
  // kUnauthenticated, kPermissionDenied, kUnavailable: as the registry says.
  absl::StatusOr<RemoteImage> Lookup(const CallContext& context, absl::string_view reference,
                                     const v1::RegistryAuth& auth);
  // Repositories that the registry's own search finds. kUnimplemented: it has none;
  // kInvalidArgument: no term, a limit beyond 100, or a filter; others as the registry says.
  absl::StatusOr<v1::SearchImagesResponse> Search(const CallContext& context,
                                                  const v1::SearchImagesRequest& request);
  // What an http or https URL holds, to be read as it arrives. The context's token outlives it.
  // Errors: distribution/url_source.h.
  absl::StatusOr<std::unique_ptr<ByteSource>> OpenUrl(const CallContext& context,
                                                      absl::string_view url);
  // What stands in the way of resolving is part of the answer. kInvalidArgument: the reference or
  // the platform.
  absl::StatusOr<v1::ExplainRegistryResponse> ExplainRegistry(
      const CallContext& context, const v1::ExplainRegistryRequest& request);

 private:
  struct Parts {
    distribution::Resolver* resolver;
    distribution::Fetcher* fetcher;
    distribution::CredentialSource* credentials;  // the daemon's own
  };
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_REGISTRY_SERVICE_H_
