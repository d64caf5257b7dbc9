#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/table.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {
namespace {

class GcAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&dry_run_, "dry-run", 0, "Only show what would be removed");
    flags.Bool(&quiet_, "quiet", 'q', "Only the sum");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::GcRequest request;
    request.set_dry_run(dry_run_);
    v1::GcResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::string out;
    if (!quiet_) {
      for (const auto& removed : response.removed()) {
        absl::StrAppend(&out, removed.kind(), "\t", removed.key(), "\t",
                        engine::HumanSize(removed.size_bytes()), "\n");
      }
      out = AlignColumns(out);
    }
    absl::StrAppend(&out, dry_run_ ? "Would remove " : "Removed ", response.removed_size(),
                    " objects, ", engine::HumanSize(response.space_reclaimed_bytes()), ", in ",
                    engine::ShortDuration(absl::Seconds(response.duration().seconds()) +
                                          absl::Nanoseconds(response.duration().nanos())),
                    "\n");
    context.Out(out);
    return 0;
  }

 private:
  bool dry_run_ = false, quiet_ = false;
};

}  // namespace

Verb GcVerb() {
  return {.name = "gc",
          .arguments = "[OPTIONS]",
          .summary = "Remove what nothing refers to, now",
          .examples = "  ctl gc --dry-run\n",
          .max_args = 0,
          .make = [] { return std::make_unique<GcAction>(); }};
}

}  // namespace gantry::ctl
