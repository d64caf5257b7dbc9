#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/containers.pb.h"

namespace gantry::ctl {
namespace {

class KillAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&signal_, "signal", 's', "signal", "Name or number (default KILL)");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      v1::KillContainerRequest request;
      request.set_container(name);
      request.set_signal(signal_);
      v1::KillContainerResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return name;
    });
  }

 private:
  std::string signal_ = "KILL";
};

}  // namespace

Verb KillVerb() {
  return {.name = "kill",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Signal running containers",
          .examples =
              "  ctl kill web\n"
              "  ctl kill -s HUP web\n",
          .min_args = 1,
          .completes = "running",
          .make = [] { return std::make_unique<KillAction>(); }};
}

}  // namespace gantry::ctl
