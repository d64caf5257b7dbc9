#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/commands/prune.h"

namespace gantry::ctl {
namespace {

class ContainerPruneAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not ask");
    // -f is --force here: filters have no letter.
    filters_.AddFlag(flags, 0);
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!force_) {
      GANTRY_ASSIGN_OR_RETURN(bool agreed,
                              Agreed(context, "This will remove all stopped containers."));
      if (!agreed) return 0;
    }
    GANTRY_ASSIGN_OR_RETURN(int64_t bytes, PruneContainers(context, filters_));
    context.Out(absl::StrCat("Total reclaimed space: ", engine::HumanSize(bytes), "\n"));
    return 0;
  }

 private:
  bool force_ = false;
  FilterFlags filters_;
};

}  // namespace

Verb ContainerPruneVerb() {
  return {.name = "prune",
          .arguments = "[OPTIONS]",
          .summary = "Remove every stopped container",
          .examples = "  ctl container prune --filter until=24h\n",
          .max_args = 0,
          .make = [] { return std::make_unique<ContainerPruneAction>(); }};
}

}  // namespace gantry::ctl
