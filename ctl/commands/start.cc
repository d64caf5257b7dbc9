#include "ctl/commands/attach.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/each_container.h"
#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::ctl {
namespace {

class StartAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&attach_, "attach", 'a', "Attach to its output, and pass signals on");
    flags.Bool(&interactive_, "interactive", 'i', "Attach to its stdin");
    flags.String(&detach_keys_, "detach-keys", 0, "keys",
                 "Keys that leave it running (default ctrl-p,ctrl-q)");
    flags.String(&checkpoint_, "checkpoint", 0, "name", "Restore from this checkpoint");
    flags.String(&checkpoint_dir_, "checkpoint-dir", 0, "path", "Where checkpoints are");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (attach_ || interactive_) {
      if (!checkpoint_.empty()) {
        return absl::InvalidArgumentError("--checkpoint cannot be combined with --attach");
      }
      if (args.size() > 1) {
        return absl::InvalidArgumentError("can attach to one container at a time only");
      }
      AttachRequest request;
      request.start = true;
      request.with_stdin = interactive_;
      request.detach_keys = detach_keys_;
      return AttachTo(context, args[0], request);
    }
    v1::StartContainerRequest request;
    request.set_checkpoint(checkpoint_);
    request.set_checkpoint_dir(checkpoint_dir_);
    return AskEach<v1::StartContainerResponse>(context, args, std::move(request));
  }

 private:
  bool attach_ = false;
  bool interactive_ = false;
  std::string detach_keys_, checkpoint_, checkpoint_dir_;
};

}  // namespace

Verb StartVerb() {
  return {.name = "start",
          .arguments = "[OPTIONS] CONTAINER [CONTAINER...]",
          .summary = "Start containers",
          .examples =
              "  ctl start web db\n"
              "  ctl start -ai shell\n",
          .min_args = 1,
          .completes = "stopped",
          .make = [] { return std::make_unique<StartAction>(); }};
}

}  // namespace gantry::ctl
