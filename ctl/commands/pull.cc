#include "absl/strings/str_cat.h"

#include "base/engine/value.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {

using engine::Value;
namespace {

class PullAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Only the name of what was pulled");
    flags.Bool(&all_tags_, "all-tags", 'a', "Every tag of the repository");
    flags.String(&platform_, "platform", 0, "os/arch", "Platform, where the image has several");
    flags.String(&format_, "format", 0, "json", "Progress as JSON lines");
    flags.Bool(&untrusted_, "disable-content-trust", 0, "Accepted for docker's sake").hidden = true;
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style,
                            ProgressStyle(quiet_, format_, context.out_fd()));
    ProgressView view = MakeProgress(context, style, false);
    const bool plain = style == ProgressView::Style::kBars || style == ProgressView::Style::kLines;
    if (plain && !all_tags_ && NamesNoTag(args[0]) && MayBeReference(args[0])) {
      context.Out("Using default tag: latest\n");
    }
    const absl::Status status =
        PullImage(context, args[0], platform_, all_tags_, view, [&](const v1::PulledImage& image) {
          if (style == ProgressView::Style::kJson) {
            Value line = Value::EmptyObject();
            line.Set("reference", image.reference());
            line.Set("digest", image.digest());
            line.Set("imageId", image.image_id());
            line.Set("upToDate", image.up_to_date());
            context.Out(line.ToJson() + "\n");
            return;
          }
          if (plain) {
            context.Out(absl::StrCat("Digest: ", image.digest(), "\n", PullStatus(image), "\n"));
          }
          context.Out(absl::StrCat(image.reference(), "\n"));
        });
    GANTRY_RETURN_IF_ERROR(status);
    return 0;
  }

 private:
  bool quiet_ = false, all_tags_ = false, untrusted_ = true;
  std::string platform_, format_;
};

}  // namespace

Verb PullVerb() {
  return {.name = "pull",
          .arguments = "[OPTIONS] NAME[:TAG|@DIGEST]",
          .summary = "Fetch an image from a registry",
          .examples =
              "  ctl pull debian:12\n"
              "  ctl pull -q --platform linux/arm64 busybox\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "images",
          .make = [] { return std::make_unique<PullAction>(); }};
}

}  // namespace gantry::ctl
