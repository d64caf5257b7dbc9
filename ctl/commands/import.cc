#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/archive_input.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class ImportAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Strings(&changes_, "change", 'c', "instruction", "Dockerfile instruction to apply");
    flags.String(&message_, "message", 'm', "text", "What it is");
    flags.String(&platform_, "platform", 0, "os/arch", "What it is for");
    flags.Bool(&quiet_, "quiet", 'q', "No progress");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(
        ArchiveInput input,
        ArchiveInput::Open(context, args[0], "name a file, or redirect one in"));
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style, ProgressStyle(quiet_, "", context.err_fd()));
    if (style == ProgressView::Style::kLines) style = ProgressView::Style::kSilent;
    ProgressView view = MakeProgress(context, style, true);
    view.SetCompleteWord("Loaded");
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ImportRequest open;
    if (args.size() > 1) open.mutable_open()->set_reference(args[1]);
    open.mutable_open()->set_comment(message_);
    open.mutable_open()->set_platform(platform_);
    open.mutable_open()->mutable_changes()->Assign(changes_.begin(), changes_.end());
    std::string id;
    GANTRY_RETURN_IF_ERROR((input.Send<v1::ImportRequest, v1::ImportResponse>(
        *client, std::move(open), view, [&](const v1::ImportResponse& response) {
          if (response.has_imported()) id = response.imported().image_id();
        })));
    context.Out(absl::StrCat(id, "\n"));
    return 0;
  }

 private:
  std::vector<std::string> changes_;
  std::string message_, platform_;
  bool quiet_ = false;
};

}  // namespace

Verb ImportVerb() {
  return {.name = "import",
          .arguments = "[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
          .summary = "Make an image from a tar of a root file system",
          .examples =
              "  ctl import rootfs.tar debian:mine\n"
              "  tar -C rootfs -c . | ctl import -c 'CMD [\"bash\"]' - debian:mine\n",
          .min_args = 1,
          .max_args = 2,
          .completes = "files",
          .make = [] { return std::make_unique<ImportAction>(); }};
}

}  // namespace gantry::ctl
