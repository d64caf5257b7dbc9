#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/prune.h"

namespace gantry::ctl {
namespace {

class ImagePruneAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not ask");
    // -f is --force here: filters have no letter.
    filters_.AddFlag(flags, 0);
    flags.Bool(&all_, "all", 'a', "Every image without a container, not only nameless ones");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!force_) {
      GANTRY_ASSIGN_OR_RETURN(
          bool agreed,
          Agreed(
              context,
              all_
                  ? "This will remove all images without at least one container associated to them."
                  : "This will remove all dangling images."));
      if (!agreed) return 0;
    }
    GANTRY_ASSIGN_OR_RETURN(int64_t bytes, PruneImages(context, filters_, all_));
    context.Out(absl::StrCat("Total reclaimed space: ", engine::HumanSize(bytes), "\n"));
    return 0;
  }

 private:
  bool force_ = false;
  bool all_ = false;
  FilterFlags filters_;
};

}  // namespace

Verb ImagePruneVerb() {
  return {.name = "prune",
          .arguments = "[OPTIONS]",
          .summary = "Remove images that nothing needs",
          .examples =
              "  ctl image prune\n"
              "  ctl image prune -a --filter until=240h\n",
          .max_args = 0,
          .make = [] { return std::make_unique<ImagePruneAction>(); }};
}

}  // namespace gantry::ctl
