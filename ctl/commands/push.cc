#include "absl/strings/str_cat.h"

#include "base/engine/value.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {

using engine::Value;
namespace {

class PushAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&quiet_, "quiet", 'q', "Only the name of what was pushed");
    flags.Bool(&all_tags_, "all-tags", 'a', "Every tag of the repository");
    flags.String(&platform_, "platform", 0, "os/arch", "Only this platform");
    flags.String(&format_, "format", 0, "json", "Progress as JSON lines");
    flags.Bool(&untrusted_, "disable-content-trust", 0, "Accepted for docker's sake").hidden = true;
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(ProgressView::Style style,
                            ProgressStyle(quiet_, format_, context.out_fd()));
    ProgressView view = MakeProgress(context, style, false);
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::PushRequest request;
    request.set_reference(args[0]);
    request.set_platform(platform_);
    request.set_all_tags(all_tags_);
    GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, args[0]));
    view.SetUpload();
    const bool plain = style == ProgressView::Style::kBars || style == ProgressView::Style::kLines;
    if (plain && MayBeReference(args[0])) {
      if (!all_tags_ && NamesNoTag(args[0])) context.Out("Using default tag: latest\n");
      context.Out(absl::StrCat("The push refers to repository [", RepositoryOf(args[0]), "]\n"));
    }
    auto stream = client->Open<v1::PushRequest, v1::PushResponse>(request);
    v1::PushResponse response;
    while (stream->Read(&response)) {
      switch (response.event_case()) {
        case v1::PushResponse::kProgress:
          view.Update(response.progress());
          break;
        case v1::PushResponse::kMessage:
          view.Message(response.message());
          break;
        case v1::PushResponse::kPushed: {
          view.Finish();
          const v1::PushedImage& pushed = response.pushed();
          if (style == ProgressView::Style::kJson) {
            Value line = Value::EmptyObject();
            line.Set("reference", pushed.reference());
            line.Set("tag", pushed.tag());
            line.Set("digest", pushed.digest());
            line.Set("size", pushed.size_bytes());
            context.Out(line.ToJson() + "\n");
          } else if (quiet_) {
            context.Out(absl::StrCat(pushed.reference(), "\n"));
          } else {
            context.Out(absl::StrCat(pushed.tag(), ": digest: ", pushed.digest(),
                                     " size: ", pushed.size_bytes(), "\n"));
          }
          break;
        }
        case v1::PushResponse::EVENT_NOT_SET:
          break;
      }
    }
    view.Finish();
    GANTRY_RETURN_IF_ERROR(stream->Finish());
    return 0;
  }

 private:
  bool quiet_ = false, all_tags_ = false, untrusted_ = true;
  std::string platform_, format_;
};

}  // namespace

Verb PushVerb() {
  return {.name = "push",
          .arguments = "[OPTIONS] NAME[:TAG]",
          .summary = "Send an image to a registry",
          .examples = "  ctl push localhost:5000/debian:mine\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "images",
          .make = [] { return std::make_unique<PushAction>(); }};
}

}  // namespace gantry::ctl
