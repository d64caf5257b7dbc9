#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/table.h"
#include "proto/containerd/services/tasks/v1/tasks.pb.h"

namespace gantry::ctl {
namespace {

namespace tasks = containerd::services::tasks::v1;

class ListTasksAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override { flags.Bool(&quiet_, "quiet", 'q', "Print ids only"); }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    tasks::ListTasksResponse response;
    GANTRY_RETURN_IF_ERROR(client->Call(tasks::ListTasksRequest(), &response));
    std::string out = quiet_ ? "" : "TASK\tPID\tSTATUS\n";
    for (const auto& task : response.tasks()) {
      absl::StrAppend(&out, task.id().empty() ? task.container_id() : task.id());
      if (!quiet_) {
        absl::StrAppend(&out, "\t", task.pid(), "\t",
                        containerd::v1::types::Status_Name(task.status()));
      }
      out += "\n";
    }
    context.Out(quiet_ ? out : AlignColumns(out));
    return 0;
  }

 private:
  bool quiet_ = false;
};

}  // namespace

std::vector<Verb> TaskVerbs() {
  return {{.name = "ls",
           .aliases = {"list"},
           .arguments = "[OPTIONS]",
           .summary = "List the running processes of containers",
           .examples = "  ctl tasks ls\n",
           .max_args = 0,
           .make = [] { return std::make_unique<ListTasksAction>(); }}};
}

}  // namespace gantry::ctl
