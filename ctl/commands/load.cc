#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/archive_input.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class LoadAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&input_, "input", 'i', "file", "Archive to read (default: stdin)").completes =
        "files";
    flags.Bool(&quiet_, "quiet", 'q', "Only the names loaded");
    flags.Strings(&platforms_, "platform", 0, "os/arch", "Only this platform");
    flags.String(&name_, "name", 0, "reference", "Name for an archive that names nothing");
    flags.String(&format_, "format", 0, "json", "Progress as JSON lines");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(
        ArchiveInput input,
        ArchiveInput::Open(context, input_, "name an archive with -i, or redirect one in"));
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style,
                            ProgressStyle(quiet_, format_, context.out_fd()));
    // Off a terminal only the names are printed, one a line, as scripts read them.
    if (style == ProgressView::Style::kLines) style = ProgressView::Style::kSilent;
    ProgressView view = MakeProgress(context, style, false);
    view.SetCompleteWord("Loaded");

    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::LoadRequest open;
    for (const std::string& platform : platforms_) open.mutable_open()->add_platforms(platform);
    open.mutable_open()->set_name(name_);
    GANTRY_RETURN_IF_ERROR((input.Send<v1::LoadRequest, v1::LoadResponse>(
        *client, std::move(open), view, [&](const v1::LoadResponse& response) {
          if (!response.has_loaded()) return;
          view.Finish();
          const auto& loaded = response.loaded();
          context.Out(loaded.reference().empty()
                          ? absl::StrCat("Loaded image ID: ", loaded.image_id(), "\n")
                          : absl::StrCat("Loaded image: ", loaded.reference(), "\n"));
        })));
    return 0;
  }

 private:
  std::string input_, name_, format_;
  bool quiet_ = false;
  std::vector<std::string> platforms_;
};

}  // namespace

Verb LoadVerb() {
  return {.name = "load",
          .arguments = "[OPTIONS]",
          .summary = "Take images in from an archive: an OCI layout or what `save` writes",
          .examples =
              "  ctl load -i debian.tar\n"
              "  zstdcat image.tar.zst | ctl load\n",
          .max_args = 0,
          .completes = "files",
          .make = [] { return std::make_unique<LoadAction>(); }};
}

}  // namespace gantry::ctl
