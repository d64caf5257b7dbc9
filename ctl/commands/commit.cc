#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "base/utf8.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/container_files.pb.h"

namespace gantry::ctl {
namespace {

class CommitAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&author_, "author", 'a', "text", "Author of the image");
    flags.String(&message_, "message", 'm', "text", "Comment of the image");
    flags.Strings(&changes_, "change", 'c', "instruction", "Dockerfile instruction to apply");
    flags.Bool(&pause_, "pause", 'p', "Pause the container while it is read (default true)");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::CommitRequest request;
    request.set_container(args[0]);
    if (args.size() > 1) request.set_reference(args[1]);
    request.set_author(ToValidUtf8(author_));
    request.set_comment(ToValidUtf8(message_));
    for (const std::string& change : changes_) request.add_changes(ToValidUtf8(change));
    request.set_pause(pause_);
    v1::CommitResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    context.Out(absl::StrCat(response.image_id(), "\n"));
    return 0;
  }

 private:
  std::string author_, message_;
  std::vector<std::string> changes_;
  bool pause_ = true;
};

}  // namespace

Verb CommitVerb() {
  return {.name = "commit",
          .arguments = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
          .summary = "Make an image of a container",
          .examples = "  ctl commit -m 'with curl' web web:curl\n",
          .min_args = 1,
          .max_args = 2,
          .completes = "containers",
          .make = [] { return std::make_unique<CommitAction>(); }};
}

}  // namespace gantry::ctl
