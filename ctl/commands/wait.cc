#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
namespace {

class WaitAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Custom(
        "condition", 0, "condition", "not-running (default), next-exit or removed",
        [this](absl::string_view text) {
          if (text == "not-running") {
            condition_ = v1::WaitContainerRequest::NOT_RUNNING;
          } else if (text == "next-exit") {
            condition_ = v1::WaitContainerRequest::NEXT_EXIT;
          } else if (text == "removed") {
            condition_ = v1::WaitContainerRequest::REMOVED;
          } else {
            return absl::InvalidArgumentError("there is not-running, next-exit and removed");
          }
          return absl::OkStatus();
        });
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      v1::WaitContainerRequest request;
      request.set_container(name);
      request.set_condition(condition_);
      v1::WaitContainerResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      return absl::StrCat(response.exit_code());
    });
  }

 private:
  v1::WaitContainerRequest::Condition condition_ = v1::WaitContainerRequest::NOT_RUNNING;
};

}  // namespace

Verb WaitVerb() {
  return {.name = "wait",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Wait until containers stop, and print their exit codes",
          .examples =
              "  ctl wait job\n"
              "  ctl wait --condition removed job\n",
          .min_args = 1,
          .completes = "running",
          .make = [] { return std::make_unique<WaitAction>(); }};
}

}  // namespace gantry::ctl
