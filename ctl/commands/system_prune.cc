#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/prune.h"
#include "proto/gantry/v1/builds.pb.h"

namespace gantry::ctl {
namespace {

class SystemPruneAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not ask");
    // -f is --force here: filters have no letter.
    filters_.AddFlag(flags, 0);
    flags.Bool(&all_, "all", 'a', "Every image without a container, not only nameless ones");
    flags.Bool(&volumes_, "volumes", 0, "Anonymous volumes that no container uses, too");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    for (const std::string& text : filters_.texts) {
      if (volumes_ && absl::StartsWith(text, "until=")) {
        return absl::InvalidArgumentError(
            "the \"until\" filter is not supported with \"--volumes\"");
      }
    }
    if (!force_) {
      GANTRY_ASSIGN_OR_RETURN(
          bool agreed,
          Agreed(
              context,
              absl::StrCat(
                  "This will remove:\n  - all stopped containers\n"
                  "  - all networks not used by at least one container\n",
                  volumes_ ? "  - all anonymous volumes not used by at least one container\n" : "",
                  all_ ? "  - all images without at least one container associated to them\n"
                       : "  - all dangling images\n",
                  all_ ? "  - all build cache\n" : "  - unused build cache\n")));
      if (!agreed) return 0;
    }
    GANTRY_ASSIGN_OR_RETURN(int64_t bytes, PruneContainers(context, filters_));
    GANTRY_RETURN_IF_ERROR(PruneNetworks(context, filters_));
    if (volumes_) {
      GANTRY_ASSIGN_OR_RETURN(const int64_t volume_bytes,
                              PruneVolumes(context, filters_, /*all=*/false));
      bytes += volume_bytes;
    }
    GANTRY_ASSIGN_OR_RETURN(int64_t image_bytes, PruneImages(context, filters_, all_));
    bytes += image_bytes;
    GANTRY_ASSIGN_OR_RETURN(const int64_t cache_bytes, PruneCache(context));
    bytes += cache_bytes;
    context.Out(absl::StrCat("Total reclaimed space: ", engine::HumanSize(bytes), "\n"));
    return 0;
  }

 private:
  // What was built has no labels: a label that is wanted is not there, one that is not wanted is
  // not either.
  absl::StatusOr<int64_t> PruneCache(Context& context) const {
    v1::PruneBuildCacheRequest request;
    request.set_all(all_);
    FilterFlags filters;
    for (const std::string& text : filters_.texts) {
      if (absl::StartsWith(text, "label=")) return 0;
      if (!absl::StartsWith(text, "label!=")) filters.texts.push_back(text);
    }
    GANTRY_RETURN_IF_ERROR(filters.Fill(request.mutable_filters()));
    return PruneBuildCache(context, request, "\nDeleted build cache objects:");
  }

  bool force_ = false;
  bool all_ = false;
  bool volumes_ = false;
  FilterFlags filters_;
};

}  // namespace

Verb SystemPruneVerb() {
  return {.name = "prune",
          .arguments = "[OPTIONS]",
          .summary = "Remove stopped containers, and networks, images and build cache without use",
          .examples = "  ctl system prune -f\n",
          .max_args = 0,
          .make = [] { return std::make_unique<SystemPruneAction>(); }};
}

}  // namespace gantry::ctl
