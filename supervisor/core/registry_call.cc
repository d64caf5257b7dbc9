#include "supervisor/core/registry_call.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "proto/gantry/v1/types.pb.h"

namespace gantry::core {

RegistryCall::RegistryCall(const v1::RegistryAuth& auth, const std::string& domain,
                           distribution::CredentialSource* fallback, CancelToken* cancel) {
  context.cancel = cancel;
  context.credentials = fallback;
  if (auth.username().empty() && auth.password().empty() && auth.identity_token().empty() &&
      auth.registry_token().empty())
    return;
  distribution::Credential credential;
  credential.username = auth.username();
  credential.password = auth.password();
  credential.identity_token = auth.identity_token();
  credential.registry_token = auth.registry_token();
  credential.source = "the request";
  own_.emplace(domain, credential);
  context.credentials = &*own_;
}

absl::Status RegistryCall::Apply(const RegistryAccess& access,
                                 const distribution::HostsConfig* hosts) {
  context.headers = access.headers;
  if (access.hosts_directory.empty() && access.default_scheme.empty() &&
      access.insecure_registry.empty())
    return absl::OkStatus();
  distribution::HostsConfigOptions options;
  if (hosts != nullptr) options = hosts->options();
  if (!access.hosts_directory.empty()) {
    options.directories = absl::StrSplit(access.hosts_directory, ':');
    for (const std::string& directory : options.directories) {
      if (!absl::StartsWith(directory, "/")) {
        return absl::InvalidArgumentError(absl::StrCat("directory of registry hosts \"", directory,
                                                       "\": must be an absolute path"));
      }
    }
  }
  if (!access.insecure_registry.empty())
    options.insecure_registries.push_back(access.insecure_registry);
  options.default_scheme = absl::AsciiStrToLower(access.default_scheme);
  if (!options.default_scheme.empty() && options.default_scheme != "http" &&
      options.default_scheme != "https") {
    return absl::InvalidArgumentError(
        absl::StrCat("scheme \"", access.default_scheme, "\" of a registry: use http or https"));
  }
  context.hosts = &hosts_.emplace(std::move(options));
  return absl::OkStatus();
}

distribution::CallContext DaemonsCall(distribution::CredentialSource* credentials,
                                      CancelToken& cancel) {
  distribution::CallContext context;
  context.cancel = &cancel;
  context.credentials = credentials;
  return context;
}

}  // namespace gantry::core
