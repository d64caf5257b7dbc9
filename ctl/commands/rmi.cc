#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

class RmiAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Even if several names or stopped containers refer to it");
    flags.Bool(&no_prune_, "no-prune", 0, "Keep untagged parents");
    flags.Strings(&platforms_, "platform", 0, "os/arch", "Only this platform");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    return ForEachAtOnce(
        context, args, [&](const std::string& name) -> absl::StatusOr<std::string> {
          v1::RemoveImageRequest request;
          request.set_image(name);
          request.set_force(force_);
          request.set_no_prune(no_prune_);
          request.mutable_platforms()->Assign(platforms_.begin(), platforms_.end());
          v1::RemoveImageResponse response;
          const absl::Status status = client->Call(request, &response);
          if (force_ && absl::IsNotFound(status)) return std::string();
          GANTRY_RETURN_IF_ERROR(status);
          std::vector<std::string> lines;
          for (const v1::ImageRemoval& removal : response.removals()) {
            if (!removal.untagged().empty()) {
              lines.push_back(absl::StrCat("Untagged: ", removal.untagged()));
            }
            if (!removal.deleted().empty())
              lines.push_back(absl::StrCat("Deleted: ", removal.deleted()));
          }
          return absl::StrJoin(lines, "\n");
        });
  }

 private:
  bool force_ = false, no_prune_ = false;
  std::vector<std::string> platforms_;
};

}  // namespace

Verb RmiVerb() {
  return {.name = "rmi",
          .arguments = "[OPTIONS] IMAGE [IMAGE...]",
          .summary = "Remove images",
          .examples =
              "  ctl rmi debian:old\n"
              "  ctl rmi -f $(ctl images -q --filter dangling=true)\n",
          .min_args = 1,
          .completes = "images",
          .make = [] { return std::make_unique<RmiAction>(); }};
}

}  // namespace gantry::ctl
