#include "ctl/commands/builder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/engine/list_rows.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/prune.h"
#include "ctl/filters.h"
#include "ctl/listing.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {
namespace {

using engine::Value;

class UsageAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    filters_.AddFlag(flags, 0);
    flags.String(&format_, "format", 0, "template", "table, json, or a Go template");
    flags.Bool(&quiet_, "quiet", 'q', "Print ids only");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::BuildCacheUsageRequest request;
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::BuildCacheUsageResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::vector<Value> rows;
    for (const v1::BuildCacheRecord& record : response.records())
      rows.push_back(engine::BuildCacheRow(record, /*truncate=*/true, absl::Now()));
    Listing listing;
    listing.headings = {
        {"ID", "ID"},           {"CacheType", "TYPE"},          {"Size", "SIZE"},
        {"UsageCount", "USES"}, {"LastUsedAt", "LAST USED"},    {"CreatedAt", "CREATED AT"},
        {"InUse", "IN USE"},    {"Description", "DESCRIPTION"}, {"Shared", "SHARED"}};
    listing.default_table =
        "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.UsageCount}}\t{{.LastUsedAt}}\t{{.Shared}}\t"
        "{{.Description}}";
    listing.quiet_field = "ID";
    GANTRY_ASSIGN_OR_RETURN(const std::string text, Render(listing, rows, format_, quiet_));
    context.Out(text);
    if (!quiet_ && format_.empty())
      context.Out(absl::StrCat("Total: ", engine::HumanSize(response.total_bytes()), "\n"));
    return 0;
  }

 private:
  FilterFlags filters_;
  std::string format_;
  bool quiet_ = false;
};

}  // namespace

absl::StatusOr<int64_t> PruneBuildCache(Context& context, const v1::PruneBuildCacheRequest& request,
                                        absl::string_view title) {
  GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::PruneBuildCacheResponse response;
  GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
  if (!response.removed().empty()) context.Out(absl::StrCat(title, "\n"));
  for (const v1::BuildCacheRecord& record : response.removed())
    context.Out(absl::StrCat(record.id().substr(0, 25), "\n"));
  return response.space_reclaimed_bytes();
}

namespace {

class PruneAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not ask");
    flags.Bool(&all_, "all", 'a', "Also layers that images have in common with the cache");
    filters_.AddFlag(flags, 0);
    flags.String(&keep_, "keep-storage", 0, "bytes",
                 "Keep so much, of what was used most recently");
    flags.Alias("reserved-space", "keep-storage");
    flags.Alias("max-used-space", "keep-storage");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    v1::PruneBuildCacheRequest request;
    request.set_all(all_);
    GANTRY_RETURN_IF_ERROR(filters_.Fill(request.mutable_filters()));
    if (!keep_.empty()) {
      GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, engine::ParseBytes(keep_));
      request.set_keep_bytes(bytes);
    }
    if (!force_) {
      GANTRY_ASSIGN_OR_RETURN(
          const bool agreed,
          Agreed(context, all_ ? "This will remove all of the build cache."
                               : "This will remove the build cache that no image shares."));
      if (!agreed) return 0;
    }
    GANTRY_ASSIGN_OR_RETURN(const int64_t bytes,
                            PruneBuildCache(context, request, "Deleted build cache objects:"));
    context.Out(absl::StrCat("Total reclaimed space: ", engine::HumanSize(bytes), "\n"));
    return 0;
  }

 private:
  bool force_ = false;
  bool all_ = false;
  std::string keep_;
  FilterFlags filters_;
};

}  // namespace

std::vector<Verb> BuilderVerbs() {
  return {BuildVerb(),
          {.name = "du",
           .aliases = {},
           .arguments = "[OPTIONS]",
           .summary = "Show what the build cache holds",
           .examples = "  ctl builder du\n  ctl builder du --filter type=regular\n",
           .max_args = 0,
           .make = [] { return std::make_unique<UsageAction>(); }},
          {.name = "prune",
           .aliases = {},
           .arguments = "[OPTIONS]",
           .summary = "Remove the build cache",
           .examples = "  ctl builder prune -f\n"
                       "  ctl builder prune -f --keep-storage 5g\n"
                       "  ctl builder prune -f --filter until=48h\n",
           .max_args = 0,
           .make = [] { return std::make_unique<PruneAction>(); }}};
}

std::vector<Verb> BuildxVerbs() {
  std::vector<Verb> verbs = BuilderVerbs();
  verbs.front().aliases = {"b"};
  Verb version = VersionVerb();
  version.summary = "Show the versions of ctl and gantryd, which builds";
  version.examples = "  ctl buildx version\n";
  verbs.push_back(std::move(version));
  return verbs;
}

}  // namespace gantry::ctl
