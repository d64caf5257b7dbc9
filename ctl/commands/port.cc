#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

class PortAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::InspectContainerRequest request;
    request.set_container(args[0]);
    v1::InspectContainerResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::string wanted;
    if (args.size() > 1) {
      wanted = absl::StrContains(args[1], "/") ? args[1] : absl::StrCat(args[1], "/tcp");
    }
    std::string out;
    for (const v1::PublishedPort& port : response.container().summary().ports()) {
      if (port.public_port() == 0) continue;
      const std::string inside = absl::StrCat(port.private_port(), "/", port.protocol());
      const bool v6 = absl::StrContains(port.ip(), ":");
      const std::string outside =
          absl::StrCat(v6 ? "[" : "", port.ip(), v6 ? "]" : "", ":", port.public_port());
      if (wanted.empty()) {
        absl::StrAppend(&out, inside, " -> ", outside, "\n");
      } else if (wanted == inside) {
        absl::StrAppend(&out, outside, "\n");
      }
    }
    if (out.empty() && !wanted.empty()) {
      return absl::NotFoundError(absl::StrCat("no public port '", wanted, "' of ", args[0]));
    }
    context.Out(out);
    return 0;
  }
};

}  // namespace

Verb PortVerb() {
  return {.name = "port",
          .arguments = "CONTAINER [PORT[/PROTOCOL]]",
          .summary = "List where the ports of a container are published",
          .examples =
              "  ctl port web\n"
              "  ctl port web 80\n",
          .min_args = 1,
          .max_args = 2,
          .completes = "containers",
          .make = [] { return std::make_unique<PortAction>(); }};
}

}  // namespace gantry::ctl
