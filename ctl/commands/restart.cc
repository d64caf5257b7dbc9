#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/containers.pb.h"

namespace gantry::ctl {
namespace {

class RestartAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.OptionalInt(&timeout_, "time", 't', "Seconds to wait before killing");
    flags.Alias("timeout", "time");
    flags.String(&signal_, "signal", 's', "signal", "Instead of the container's stop signal");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      v1::RestartContainerRequest request;
      request.set_container(name);
      request.set_signal(signal_);
      if (timeout_) request.set_timeout_seconds(static_cast<int32_t>(*timeout_));
      v1::RestartContainerResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return name;
    });
  }

 private:
  std::string signal_;
  std::optional<int64_t> timeout_;
};

}  // namespace

Verb RestartVerb() {
  return {.name = "restart",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Stop containers and start them again",
          .examples = "  ctl restart -t 5 web\n",
          .min_args = 1,
          .completes = "containers",
          .make = [] { return std::make_unique<RestartAction>(); }};
}

}  // namespace gantry::ctl
