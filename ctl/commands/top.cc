#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/table.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

class TopAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::TopRequest request;
    request.set_container(args[0]);
    for (size_t i = 1; i < args.size(); ++i) request.add_ps_args(args[i]);
    v1::TopResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(request, &response));
    std::string out = absl::StrCat(absl::StrJoin(response.titles(), "\t"), "\n");
    for (const v1::StringList& process : response.processes()) {
      absl::StrAppend(&out, absl::StrJoin(process.values(), "\t"), "\n");
    }
    context.Out(AlignColumns(out));
    return 0;
  }
};

}  // namespace

Verb TopVerb() {
  return {.name = "top",
          .arguments = "CONTAINER [PS OPTIONS]",
          .summary = "List the processes of a container",
          .examples =
              "  ctl top web\n"
              "  ctl top web -o pid,rss,args\n",
          .min_args = 1,
          .hands_on = true,
          .completes = "running",
          .make = [] { return std::make_unique<TopAction>(); }};
}

}  // namespace gantry::ctl
