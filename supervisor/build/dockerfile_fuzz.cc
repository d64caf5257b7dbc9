// Dockerfiles and ignore files from anywhere: parsing, planning and evaluating must end, and what
// they take must keep its promises.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/engine/ignore_file.h"
#include "base/fuzz/fuzz.h"
#include "supervisor/build/build_plan.h"
#include "supervisor/build/dockerfile_lint.h"
#include "supervisor/build/dockerfile_parser.h"
#include "supervisor/build/dockerfile_report.h"
#include "supervisor/build/stage_evaluator.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {"# escape=`\nFROM a AS b\nRUN --mount=type=cache,target=/x,id=\"a,b\" x `\n y\n",
          "ARG A=1\nFROM x:${A:-2}\nENV B=${A%%.*} C='x'\nCOPY --from=0 --chown=$B a b /c/\n",
          "FROM scratch\nCOPY <<-E <<'F' /d/\n\t$A\nE\n\\$B\nF\nRUN <<E\n#!/bin/sh\nE\n",
          "FROM a\nHEALTHCHECK --interval=5s CMD [\"x\"]\nEXPOSE 80-90/udp\nONBUILD RUN x\n",
          "# check=skip=all;experimental=A,B\n# V what\nARG V=1\n"
          "From --platform=linux/arm64 a as B\n"
          "RUN --mount=type=secret,id=x,required --mount=type=ssh y\nWORKDIR \"r/$V\"\nCMD z\n",
          "*\n!a/**/b\n[a-z]?\\*\n"};
}

void FuzzOne(absl::string_view bytes) {
  if (const auto rules = engine::IgnoreRules::Parse(bytes); rules.ok()) {
    const bool ignored = rules->Ignores("a/b/c");
    if (rules->empty() && ignored) std::abort();
    (void)rules->MayContainTaken("a/b");
  }
  absl::StatusOr<build::Dockerfile> file = build::ParseDockerfile(bytes, "Dockerfile");
  if (!file.ok()) return;
  if (file->instructions.empty()) std::abort();
  const engine::IgnoreRules ignored =
      engine::IgnoreRules::Parse(bytes).value_or(engine::IgnoreRules());
  const std::vector<build::Lint> lints = build::LintDockerfile(*file, ignored);
  if (const auto rules = build::LintRules::Of(*file, {}); rules.ok()) {
    for (const build::Lint& lint : lints) (void)rules->Reports(lint);
  }
  absl::StatusOr<build::BuildPlan> plan = build::PlanBuild(*file, {});
  if (!plan.ok()) return;
  (void)build::LintStages(*plan);
  for (const char* call : {"check", "outline", "targets"}) {
    if (!build::DescribeDockerfile(call, bytes, *file, *plan, lints).ok()) std::abort();
  }
  if (plan->order.empty() || plan->order.back() != plan->target) std::abort();
  for (const build::Stage& stage : plan->stages) {
    build::StageEvaluator evaluator(*plan, stage.index, {}, nullptr);
    for (const build::Instruction& instruction : stage.instructions) {
      const auto step = evaluator.Next(instruction);
      if (!step.ok()) break;
      if (!step->has_value()) continue;
      const build::LayerStep& layer = **step;
      if (layer.working_dir.empty() || layer.working_dir[0] != '/') std::abort();
      if (layer.kind != build::LayerStep::Kind::kRun &&
          layer.kind != build::LayerStep::Kind::kWorkdir && layer.destination[0] != '/')
        std::abort();
      evaluator.Done(layer, true);
    }
  }
}

}  // namespace gantry
