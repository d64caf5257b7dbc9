#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class TagAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::TagImageRequest request;
    request.set_image(args[0]);
    request.set_reference(args[1]);
    v1::TagImageResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    return 0;
  }
};

}  // namespace

Verb TagVerb() {
  return {.name = "tag",
          .arguments = "IMAGE[:TAG] NEW_NAME[:TAG]",
          .summary = "Give an image a further name",
          .examples = "  ctl tag debian localhost:5000/debian:mine\n",
          .min_args = 2,
          .max_args = 2,
          .completes = "images",
          .make = [] { return std::make_unique<TagAction>(); }};
}

}  // namespace gantry::ctl
