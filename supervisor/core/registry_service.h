// Questions to registries that move no image: whether a credential is good, and how a reference
// would be resolved.
//
// Thread-safe. References outlive the object.
#ifndef GANTRY_SUPERVISOR_CORE_REGISTRY_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_REGISTRY_SERVICE_H_

#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"

namespace gantry::v1 {
class ExplainRegistryRequest;
class ExplainRegistryResponse;
class LoginRequest;
class LoginResponse;
}  // namespace gantry::v1
namespace gantry::distribution {
class CredentialSource;
class Fetcher;
class Resolver;
}  // namespace gantry::distribution

namespace gantry::core {

class RegistryService {
 public:
  RegistryService(distribution::Resolver& resolver, distribution::Fetcher& fetcher,
                  distribution::CredentialSource* credentials)
      : parts_{&resolver, &fetcher, credentials} {}

  absl::StatusOr<v1::LoginResponse> Login(const CallContext& context,
                                          const v1::LoginRequest& request);
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
