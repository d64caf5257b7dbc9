#include "absl/time/clock.h"

#include "base/engine/list_rows.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class HistoryAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    human_ = true;
    flags.Bool(&human_, "human", 'H', "Sizes and times for people (default true)");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    flags.String(&platform_, "platform", 0, "os/arch", "Platform, where the image has several");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ImageHistoryRequest request;
    request.set_image(args[0]);
    request.set_platform(platform_);
    v1::ImageHistoryResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    const absl::Time now = absl::Now();
    std::vector<Value> rows;
    for (const auto& entry : response.entries()) {
      rows.push_back(engine::HistoryRow(entry, human_, !no_trunc_, now));
    }
    Listing listing;
    listing.headings = {{"ID", "IMAGE"},
                        {"CreatedSince", "CREATED"},
                        {"CreatedAt", "CREATED AT"},
                        {"CreatedBy", "CREATED BY"},
                        {"Size", "SIZE"},
                        {"Comment", "COMMENT"}};
    listing.default_table =
        human_ ? "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
               : "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
    listing.quiet_field = "ID";
    GANTRY_ASSIGN_OR_RETURN(std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    return 0;
  }

 private:
  bool human_ = true, no_trunc_ = false, quiet_ = false;
  std::string format_, platform_;
};

}  // namespace

Verb HistoryVerb() {
  return {.name = "history",
          .arguments = "[OPTIONS] IMAGE",
          .summary = "Show how an image was made, layer by layer",
          .examples = "  ctl history --no-trunc debian\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "images",
          .make = [] { return std::make_unique<HistoryAction>(); }};
}

}  // namespace gantry::ctl
