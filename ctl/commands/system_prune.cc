#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/prune.h"

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
                       : "  - all dangling images\n")));
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
    context.Out(absl::StrCat("Total reclaimed space: ", engine::HumanSize(bytes), "\n"));
    return 0;
  }

 private:
  bool force_ = false;
  bool all_ = false;
  bool volumes_ = false;
  FilterFlags filters_;
};

}  // namespace

Verb SystemPruneVerb() {
  return {.name = "prune",
          .arguments = "[OPTIONS]",
          .summary = "Remove stopped containers, and networks and images that nothing needs",
          .examples = "  ctl system prune -f\n",
          .max_args = 0,
          .make = [] { return std::make_unique<SystemPruneAction>(); }};
}

}  // namespace gantry::ctl
