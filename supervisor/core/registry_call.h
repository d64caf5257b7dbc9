// One call on a registry: with the credential that the request brought along, else the daemon's;
// with the hosts it asked for, else the daemon's.
//
// Thread-compatible until Apply() returned; what `context` points at belongs to the object and is
// read by many threads.
#ifndef GANTRY_SUPERVISOR_CORE_REGISTRY_CALL_H_
#define GANTRY_SUPERVISOR_CORE_REGISTRY_CALL_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "base/cancel_token.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/registry_client.h"

namespace gantry::v1 {
class RegistryAuth;
}  // namespace gantry::v1

namespace gantry::core {

// How a caller wants registries to be reached, where that is not how the daemon is configured.
struct RegistryAccess {
  std::vector<std::pair<std::string, std::string>> headers;  // sent to the registry's own origins
  std::string hosts_directory;  // of <host>/hosts.toml, absolute; "" the daemon's
  std::string
      default_scheme;  // "http" or "https" for registries no file speaks of; "" the daemon's rules
  std::string insecure_registry;  // a host to which plain HTTP and unverified TLS are allowed too
};

class RegistryCall {
 public:
  RegistryCall(const v1::RegistryAuth& auth, const std::string& domain,
               distribution::CredentialSource* fallback, CancelToken* cancel);
  RegistryCall(const RegistryCall&) = delete;
  RegistryCall& operator=(const RegistryCall&) = delete;

  // kInvalidArgument: a directory that is not absolute, or a scheme that is neither http nor https.
  absl::Status Apply(const RegistryAccess& access, const distribution::HostsConfig* hosts);

  distribution::CallContext context;

 private:
  std::optional<distribution::StaticCredentials> own_;
  std::optional<distribution::HostsConfig> hosts_;
};

// For work on a registry that no request's credential is meant for.
distribution::CallContext DaemonsCall(distribution::CredentialSource* credentials,
                                      CancelToken& cancel);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_REGISTRY_CALL_H_
