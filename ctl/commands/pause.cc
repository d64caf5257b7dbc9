#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/containers.pb.h"

namespace gantry::ctl {
namespace {

class PauseAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      v1::PauseContainerRequest request;
      request.set_container(name);
      v1::PauseContainerResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return name;
    });
  }
};

}  // namespace

Verb PauseVerb() {
  return {.name = "pause",
          .arguments = "CONTAINER [CONTAINER...]",
          .summary = "Freeze every process of containers",
          .examples = "  ctl pause web\n",
          .min_args = 1,
          .completes = "running",
          .make = [] { return std::make_unique<PauseAction>(); }};
}

}  // namespace gantry::ctl
