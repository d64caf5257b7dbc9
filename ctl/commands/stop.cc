#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/containers.pb.h"

namespace gantry::ctl {
namespace {

class StopAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.OptionalInt(
        &timeout_, "time", 't',
        "Seconds to wait before killing; -1 for ever (default: the container's, or 10)");
    flags.Alias("timeout", "time");
    flags.String(&signal_, "signal", 's', "signal", "Instead of the container's stop signal");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      v1::StopContainerRequest request;
      request.set_container(name);
      request.set_signal(signal_);
      if (timeout_) request.set_timeout_seconds(static_cast<int32_t>(*timeout_));
      v1::StopContainerResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return name;
    });
  }

 private:
  std::string signal_;
  std::optional<int64_t> timeout_;
};

}  // namespace

Verb StopVerb() {
  return {.name = "stop",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Stop running containers: the stop signal, then SIGKILL after a while",
          .examples =
              "  ctl stop web\n"
              "  ctl stop -t 30 web db\n",
          .min_args = 1,
          .completes = "running",
          .make = [] { return std::make_unique<StopAction>(); }};
}

}  // namespace gantry::ctl
