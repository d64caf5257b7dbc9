#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "ctl/output_file.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class SaveAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&output_, "output", 'o', "file", "Write to a file instead of stdout").completes =
        "files";
    flags.Strings(&platforms_, "platform", 0, "os/arch", "Only this platform");
    flags.Bool(&quiet_, "quiet", 'q', "No progress");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(output_, context.out_fd()));
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style, ProgressStyle(quiet_, "", context.err_fd()));
    // docker's save prints nothing; progress is shown only on a terminal.
    if (style == ProgressView::Style::kLines) style = ProgressView::Style::kSilent;
    ProgressView view = MakeProgress(context, style, true);
    view.SetCompleteWord("Saved");
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::SaveRequest request;
    request.mutable_images()->Assign(args.begin(), args.end());
    request.mutable_platforms()->Assign(platforms_.begin(), platforms_.end());
    auto stream = client->Open<v1::SaveRequest, v1::SaveResponse>(request);
    v1::SaveResponse response;
    while (stream->Read(&response)) {
      switch (response.event_case()) {
        case v1::SaveResponse::kData:
          GANTRY_RETURN_IF_ERROR(file.Write(response.data()));
          break;
        case v1::SaveResponse::kProgress:
          view.Update(response.progress());
          break;
        case v1::SaveResponse::EVENT_NOT_SET:
          break;
      }
    }
    view.Finish();
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    GANTRY_RETURN_IF_ERROR(file.Keep());
    return 0;
  }

 private:
  std::string output_;
  std::vector<std::string> platforms_;
  bool quiet_ = false;
};

}  // namespace

Verb SaveVerb() {
  return {.name = "save",
          .arguments = "[OPTIONS] IMAGE [IMAGE...]",
          .summary = "Write images to an archive that `load` and docker take",
          .examples =
              "  ctl save -o debian.tar debian:12 debian:11\n"
              "  ctl save busybox | zstd > busybox.tar.zst\n",
          .min_args = 1,
          .completes = "images",
          .make = [] { return std::make_unique<SaveAction>(); }};
}

}  // namespace gantry::ctl
