#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
namespace {

class RenameAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (args[0] == args[1]) {
      return absl::InvalidArgumentError(
          absl::StrCat("container ", args[0], " has that name already"));
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::RenameContainerRequest request;
    request.set_container(args[0]);
    request.set_new_name(args[1]);
    v1::RenameContainerResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return 0;
  }
};

}  // namespace

Verb RenameVerb() {
  return {.name = "rename",
          .arguments = "CONTAINER NEW_NAME",
          .summary = "Give a container another name",
          .examples = "  ctl rename web web-old\n",
          .min_args = 2,
          .max_args = 2,
          .completes = "containers",
          .make = [] { return std::make_unique<RenameAction>(); }};
}

}  // namespace gantry::ctl
