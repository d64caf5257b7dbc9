#include "ctl/commands/commands.h"
#include "ctl/commands/each_container.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
namespace {

class KillAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&signal_, "signal", 's', "signal", "Name or number (default KILL)");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::KillContainerRequest request;
    request.set_signal(signal_);
    return AskEach<v1::KillContainerResponse>(context, args, std::move(request));
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
