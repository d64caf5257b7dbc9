#include "absl/strings/str_cat.h"

#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/container_options.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
namespace {

class UpdateAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags_ = &flags;
    resources_.AddFlags(flags);
    flags.String(&restart_, "restart", 0, "policy",
                 "When it exits: no, always, on-failure[:N], unless-stopped");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!flags_->AnySeen()) {
      return absl::InvalidArgumentError("nothing to change; give at least one option");
    }
    v1::UpdateContainerRequest request;
    GANTRY_RETURN_IF_ERROR(resources_.Fill(request.mutable_resources()));
    if (!restart_.empty()) {
      GANTRY_ASSIGN_OR_RETURN(*request.mutable_restart_policy(),
                              engine::ParseRestartPolicy(restart_));
    }
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEach(context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
      request.set_container(name);
      v1::UpdateContainerResponse response;
      GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
      for (const std::string& warning : response.warnings()) {
        context.Err(absl::StrCat("WARNING: ", warning, "\n"));
      }
      return name;
    });
  }

 private:
  const FlagSet* flags_ = nullptr;
  ResourceOptions resources_;
  std::string restart_;
};

}  // namespace

Verb UpdateVerb() {
  return {.name = "update",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Change limits and restart policy of containers",
          .examples = "  ctl update -m 512m --cpus 1.5 web\n",
          .min_args = 1,
          .completes = "containers",
          .make = [] { return std::make_unique<UpdateAction>(); }};
}

}  // namespace gantry::ctl
