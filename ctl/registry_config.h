// The part of docker's client configuration that is about registries: the credentials for each.
//
// The file is $DOCKER_CONFIG/config.json, else ~/.docker/config.json. Secrets come from it
// (`auths`), from a credential helper for one registry (`credHelpers`) or for all (`credsStore`):
// programs named docker-credential-NAME. Other content of the file is kept when it is written.
//
// Thread-compatible. Secrets are never part of a message.
#ifndef GANTRY_CTL_REGISTRY_CONFIG_H_
#define GANTRY_CTL_REGISTRY_CONFIG_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::ctl {

using engine::Value;

struct Credential {
  std::string username;
  std::string password;
  std::string identity_token;
  std::string registry_token;
  std::string source;  // where it came from, for people
  bool empty() const {
    return username.empty() && password.empty() && identity_token.empty() && registry_token.empty();
  }
};

class RegistryConfig {
 public:
  // A missing file is an empty configuration. kInvalidArgument: it does not parse.
  static absl::StatusOr<RegistryConfig> Load(const std::map<std::string, std::string>& environment);

  // Empty if the registry has none.
  absl::StatusOr<Credential> Find(const std::string& registry) const;
  // Stores in the helper if one is configured, else in the file. Returns where.
  absl::StatusOr<std::string> Store(const std::string& registry, const Credential& credential);
  // False: the registry had none.
  absl::StatusOr<bool> Erase(const std::string& registry);
  // Those with credentials in the file, as people write them; what a helper keeps besides is not
  // known.
  std::vector<std::string> Registries() const;

  const std::string& path() const { return path_; }

 private:
  std::string HelperFor(const std::string& registry) const;
  absl::Status Save() const;

  std::string path_;
  Value document_ = Value::EmptyObject();
};

// The registry of a reference as people write it: "docker.io" unless the first component is a host.
std::string RegistryOfReference(absl::string_view reference);
// "docker.io" under the key that docker uses for it; others as they are, without scheme and path.
std::string ConfigKey(absl::string_view registry);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_REGISTRY_CONFIG_H_
