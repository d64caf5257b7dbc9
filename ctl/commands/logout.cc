#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/completion.h"
#include "ctl/registry_config.h"

namespace gantry::ctl {
namespace {

class LogoutAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    const std::string registry = args.empty() ? "docker.io" : args[0];
    GANTRY_ASSIGN_OR_RETURN(RegistryConfig config, RegistryConfig::Load(context.environment()));
    context.Out(absl::StrCat("Removing login credentials for ", registry, "\n"));
    GANTRY_RETURN_IF_ERROR(config.Erase(registry).status());
    return 0;
  }
};

std::vector<std::string> RegistriesForCompletion(Context& context) {
  const auto config = RegistryConfig::Load(context.environment());
  return config.ok() ? config->Registries() : std::vector<std::string>();
}

}  // namespace

Verb LogoutVerb() {
  AddCompletionSource("registries", RegistriesForCompletion);
  return {.name = "logout",
          .arguments = "[SERVER]",
          .summary = "Forget the credentials for a registry",
          .examples = "  ctl logout localhost:5000\n",
          .max_args = 1,
          .completes = "registries",
          .make = [] { return std::make_unique<LogoutAction>(); }};
}

}  // namespace gantry::ctl
