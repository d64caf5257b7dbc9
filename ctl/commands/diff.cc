#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

class DiffAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::DiffRequest request;
    request.set_container(args[0]);
    v1::DiffResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::string out;
    for (const auto& change : response.changes()) {
      const char* letter = change.kind() == v1::DiffResponse::ADDED     ? "A "
                           : change.kind() == v1::DiffResponse::DELETED ? "D "
                                                                        : "C ";
      absl::StrAppend(&out, letter, change.path(), "\n");
    }
    context.Out(out);
    return 0;
  }
};

}  // namespace

Verb DiffVerb() {
  return {.name = "diff",
          .arguments = "CONTAINER",
          .summary = "Show what a container changed in its file system",
          .examples = "  ctl diff web\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "containers",
          .make = [] { return std::make_unique<DiffAction>(); }};
}

}  // namespace gantry::ctl
