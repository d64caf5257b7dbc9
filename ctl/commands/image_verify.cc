#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/engine/value.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {

using engine::Value;
namespace {

class ImageVerifyAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&repair_, "repair", 0, "Fetch what is damaged again, and only that");
    flags.Bool(&quiet_, "quiet", 'q', "Only what is damaged");
    flags.String(&format_, "format", 0, "json", "Findings and progress as JSON lines");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style,
                            ProgressStyle(quiet_, format_, context.out_fd()));
    // Off a terminal only findings are printed, not a line for each blob.
    if (style == ProgressView::Style::kLines) style = ProgressView::Style::kSilent;
    ProgressView view = MakeProgress(context, style, false);
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::VerifyRequest request;
    for (const std::string& image : args) request.add_images(image);
    request.set_repair(repair_);
    if (repair_ && args.size() == 1) {
      GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, args[0]));
    }
    auto stream = client->Open<v1::VerifyRequest, v1::VerifyResponse>(request);
    v1::VerifyResponse response;
    int64_t left = 0;
    while (stream->Read(&response)) {
      switch (response.event_case()) {
        case v1::VerifyResponse::kProgress:
          view.Update(response.progress());
          break;
        case v1::VerifyResponse::kFinding: {
          const auto& finding = response.finding();
          if (format_ == "json") {
            Value line = Value::EmptyObject();
            line.Set("image", finding.image());
            line.Set("digest", finding.digest());
            line.Set("problem", finding.problem());
            line.Set("repaired", finding.repaired());
            context.Out(line.ToJson() + "\n");
          } else {
            const std::string text =
                absl::StrCat(finding.image(), ": ", finding.digest(), ": ", finding.problem(),
                             finding.repaired() ? "; repaired" : "");
            style == ProgressView::Style::kBars ? view.Message(text) : context.Out(text + "\n");
          }
          break;
        }
        case v1::VerifyResponse::kResult: {
          view.Finish();
          const auto& result = response.result();
          left = result.damaged() - result.repaired();
          if (!quiet_ && format_.empty()) {
            context.Out(absl::StrCat(
                result.images(), " images, ", result.blobs(), " blobs, ",
                engine::HumanSize(result.bytes()), " read: ", result.damaged(), " damaged",
                result.repaired() > 0 ? absl::StrCat(", ", result.repaired(), " repaired") : "",
                "\n"));
          }
          break;
        }
        case v1::VerifyResponse::EVENT_NOT_SET:
          break;
      }
    }
    view.Finish();
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return left > 0 ? 1 : 0;
  }

 private:
  bool repair_ = false, quiet_ = false;
  std::string format_;
};

}  // namespace

Verb ImageVerifyVerb() {
  return {.name = "verify",
          .arguments = "[OPTIONS] [IMAGE...]",
          .summary = "Read every blob of images again and compare digests",
          .examples =
              "  ctl image verify\n"
              "  ctl image verify --repair debian\n",
          .completes = "images",
          .make = [] { return std::make_unique<ImageVerifyAction>(); }};
}

}  // namespace gantry::ctl
