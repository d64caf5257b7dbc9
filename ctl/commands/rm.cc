#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
namespace {

class RmAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Kill what runs; no error for what is not there");
    flags.Bool(&volumes_, "volumes", 'v', "Its anonymous volumes too");
    flags.Bool(&link_, "link", 'l', "Only the link of that name");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEachAtOnce(context, args,
                         [&](const std::string& name) -> absl::StatusOr<std::string> {
                           v1::RemoveContainerRequest request;
                           request.set_container(name);
                           request.set_force(force_);
                           request.set_volumes(volumes_);
                           request.set_link(link_);
                           v1::RemoveContainerResponse response;
                           const absl::Status status = client->Call(request, &response);
                           if (force_ && absl::IsNotFound(status)) {
                             context.Complain(status);
                             return std::string();
                           }
                           GANTRY_RETURN_IF_ERROR(status);
                           return name;
                         });
  }

 private:
  bool force_ = false;
  bool volumes_ = false;
  bool link_ = false;
};

}  // namespace

Verb RmVerb() {
  return {.name = "rm",
          .aliases = {"remove"},
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Remove containers",
          .examples =
              "  ctl rm job\n"
              "  ctl rm -f $(ctl ps -aq)\n",
          .min_args = 1,
          .completes = "containers",
          .make = [] { return std::make_unique<RmAction>(); }};
}

}  // namespace gantry::ctl
