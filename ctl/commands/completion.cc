#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/commands/commands.h"

namespace gantry::ctl {
namespace {

class CompletionAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(std::string script, CompletionScript(args[0]));
    context.Out(script);
    return 0;
  }
};

class CompleteAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    for (const std::string& candidate : Complete(*context.root, context, args)) {
      context.Out(absl::StrCat(candidate, "\n"));
    }
    return 0;
  }
};

}  // namespace

Verb CompletionVerb() {
  return {.name = "completion",
          .arguments = "bash|zsh|fish",
          .summary = "Print the script that completes ctl's command lines",
          .examples =
              "  ctl completion bash > /etc/bash_completion.d/ctl\n"
              "  ctl completion zsh > \"${fpath[1]}/_ctl\"\n"
              "  ctl completion fish > ~/.config/fish/completions/ctl.fish\n",
          .min_args = 1,
          .max_args = 1,
          .completes = "shells",
          .make = [] { return std::make_unique<CompletionAction>(); }};
}

Verb CompleteVerb() {
  return {.name = "__complete",
          .arguments = "[WORD...]",
          .summary = "What could stand in place of the last word",
          .hands_on = true,
          .hidden = true,
          .make = [] { return std::make_unique<CompleteAction>(); }};
}

}  // namespace gantry::ctl
