#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/containers.pb.h"

namespace gantry::ctl {
namespace {

class UnpauseAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      v1::UnpauseContainerRequest request;
      request.set_container(name);
      v1::UnpauseContainerResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return name;
    });
  }
};

}  // namespace

Verb UnpauseVerb() {
  return {.name = "unpause",
          .arguments = "CONTAINER [CONTAINER...]",
          .summary = "Let frozen containers go on",
          .examples = "  ctl unpause web\n",
          .min_args = 1,
          .completes = "running",
          .make = [] { return std::make_unique<UnpauseAction>(); }};
}

}  // namespace gantry::ctl
