// Services that a program provides instead of containers (`provider:`), and models (`models:`).
//
// A provider of type T is the program docker-T among docker's command line plugins, or T in PATH.
// It is run as `T compose --project-name=P up|down [--OPTION=VALUE...] SERVICE` and answers on its
// standard output with a line of JSON per message: info, error, debug, setenv, rawsetenv. What it
// sets goes into the environment of the services that depend on it.
// Models are fetched and served by the program docker-model; services get their address and name.
// Spec: compose-spec "provider", "models"; docker compose's "extending compose".
#ifndef GANTRY_CTL_COMPOSE_PROVIDER_H_
#define GANTRY_CTL_COMPOSE_PROVIDER_H_

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/compose/node.h"
#include "ctl/compose/project.h"

namespace gantry::compose {

struct ProviderMessage {
  enum class Type { kInfo, kError, kDebug, kSetEnv, kRawSetEnv, kOther };
  Type type = Type::kOther;
  std::string text;
};
// A line of a provider's standard output. kInvalidArgument: no such JSON.
absl::StatusOr<ProviderMessage> ParseProviderMessage(absl::string_view line);

struct ProviderOptions {
  // Called with what a provider says about its progress: the service, and the text.
  std::function<void(const std::string& service, const std::string& text)> info;
  const std::atomic<bool>* cancelled = nullptr;
};

// Whether any of `services` is provided by a program or uses a model.
bool NeedsPrograms(const Project& project, const std::vector<std::string>& services);

// Runs the providers among `services` (in the order of dependencies) with `action` "up" or "down".
// "up" puts what they set into the environment of the services that depend on them:
// SERVICE_KEY=value, or KEY=value of rawsetenv.
//   kFailedPrecondition  a program is not there, ended with an error, or broke the protocol; names
//                        the service and its place in the file
absl::Status RunProviders(Project& project, const std::vector<std::string>& services,
                          const std::string& action, const ProviderOptions& options);

// Fetches and sets up the models that `services` use, and tells these where they are.
// kFailedPrecondition: docker-model is not there, or ended with an error.
absl::Status ServeModels(Project& project, const std::vector<std::string>& services,
                         const ProviderOptions& options);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_PROVIDER_H_
