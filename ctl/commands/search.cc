#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/transfer.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "ctl/text.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

constexpr size_t kDescriptionWidth = 45;

class SearchAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    filters_.AddFlags(flags);
    flags.OptionalInt(&limit_, "limit", 0, "At most so many results, 1 to 100 (default 25)");
    flags.Bool(&no_trunc_, "no-trunc", 0, "Do not shorten");
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::SearchImagesRequest request;
    request.set_term(args[0]);
    if (limit_.has_value() && (*limit_ < 1 || *limit_ > 100)) {
      return absl::InvalidArgumentError(
          absl::StrCat("limit ", *limit_, " is outside the range of [1, 100]"));
    }
    request.set_limit(static_cast<int32_t>(limit_.value_or(0)));
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    GANTRY_ASSIGN_OR_RETURN(*request.mutable_auth(), AuthFor(context, args[0]));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::SearchImagesResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::stable_sort(response.mutable_results()->begin(), response.mutable_results()->end(),
                     [](const auto& a, const auto& b) { return a.stars() > b.stars(); });
    const bool json = format_ == "json";
    const auto truth = [json](bool value) {
      if (json) return value ? "true" : "false";
      return value ? "[OK]" : "";
    };
    std::vector<Value> rows;
    for (const auto& result : response.results()) {
      const std::string description =
          absl::StrReplaceAll(result.description(), {{"\n", " "}, {"\r", " "}});
      Value row = Value::EmptyObject();
      row.Set("Description", no_trunc_ ? description : Ellipsis(description, kDescriptionWidth));
      row.Set("IsAutomated", truth(result.automated()));
      row.Set("IsOfficial", truth(result.official()));
      row.Set("Name", result.name());
      row.Set("StarCount", absl::StrCat(result.stars()));
      rows.push_back(std::move(row));
    }
    Listing listing;
    listing.headings = {{"Name", "NAME"},
                        {"Description", "DESCRIPTION"},
                        {"StarCount", "STARS"},
                        {"IsOfficial", "OFFICIAL"},
                        {"IsAutomated", "AUTOMATED"}};
    listing.default_table = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, false));
    context.Out(text);
    return 0;
  }

 private:
  FilterFlags filters_;
  std::optional<int64_t> limit_;
  bool no_trunc_ = false;
  std::string format_;
};

}  // namespace

Verb SearchVerb() {
  return {.name = "search",
          .arguments = "[OPTIONS] TERM",
          .summary = "Look for images in Docker Hub, or with registry:5000/TERM in that registry",
          .examples =
              "  ctl search --filter is-official=true debian\n"
              "  ctl search --limit 5 localhost:5000/app\n",
          .min_args = 1,
          .max_args = 1,
          .make = [] { return std::make_unique<SearchAction>(); }};
}

}  // namespace gantry::ctl
