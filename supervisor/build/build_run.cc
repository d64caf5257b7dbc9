#include "supervisor/build/build_run.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/new_thread.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/core/build_exchange.h"
#include "supervisor/oci/platform.h"

namespace gantry::build {
namespace {

// Steps that progress counts: what makes or may make a layer.
bool Counts(const Instruction& instruction) {
  return instruction.keyword == Keyword::kRun || instruction.keyword == Keyword::kCopy ||
         instruction.keyword == Keyword::kAdd || instruction.keyword == Keyword::kWorkdir;
}

// An image for another platform than it was asked for is taken, but seldom meant.
void LintPlatform(const Stage& stage, const oci::ImageConfig& config, std::vector<Lint>& lints) {
  const content::Platform& got = config.platform;
  const content::Platform& wanted = stage.made_for;
  if (stage.base.kind != Source::Kind::kImage || got.architecture.empty() ||
      wanted.architecture.empty() ||
      (got.os == wanted.os && got.architecture == wanted.architecture))
    return;
  lints.push_back({"InvalidBaseImagePlatform",
                   absl::StrCat("Base image ", stage.base.image, " was pulled with platform \"",
                                PlatformText(got), "\", expected \"", PlatformText(wanted),
                                "\" for current build"),
                   stage.line});
}

}  // namespace

absl::Status ReportLints(const std::vector<Lint>& lints, const LintRules& rules,
                         const std::string& file, BuildLog& log) {
  std::vector<Lint> reported;
  for (const Lint& lint : lints) {
    if (!rules.Reports(lint)) continue;
    log.Warn(lint.rule, lint.text, file, lint.line);
    reported.push_back(lint);
  }
  return rules.fails() ? LintFailure(reported) : absl::OkStatus();
}

BuildRun::BuildRun(const Parts& parts) : parts_(parts) {
  for (const int index : parts_.plan->order) {
    positions_[index] = instructions_ + 1;
    instructions_ += 1 + static_cast<int>(parts_.plan->stages[index].instructions.size());
  }
}

absl::StatusOr<const BuiltStage*> BuildRun::RunStages() {
  std::vector<std::thread> threads;
  for (const int index : parts_.plan->order) {
    parts_.log->AddSender();
    absl::StatusOr<std::thread> thread = NewThread([this, index] {
      const absl::Status done = RunStage(index);
      if (!done.ok()) {
        {
          absl::MutexLock lock(&mu_);
          if (failure_.ok()) failure_ = done;
        }
        parts_.cancel->Cancel("another stage failed");
      }
      parts_.log->RemoveSender();
    });
    if (!thread.ok()) {
      parts_.log->RemoveSender();
      absl::MutexLock lock(&mu_);
      if (failure_.ok()) failure_ = thread.status();
      break;
    }
    threads.push_back(*std::move(thread));
  }
  parts_.log->Pump([this] { parts_.cancel->Cancel("the client has gone"); });
  for (std::thread& thread : threads) thread.join();
  absl::MutexLock lock(&mu_);
  if (!failure_.ok()) return failure_;
  return &done_.at(parts_.plan->target);
}

absl::StatusOr<const BuiltStage*> BuildRun::WaitFor(int index) {
  absl::MutexLock lock(&mu_);
  const auto over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return done_.count(index) > 0 || !failure_.ok();
  };
  mu_.Await(absl::Condition(&over));
  const auto found = done_.find(index);
  if (found == done_.end()) return absl::CancelledError("a stage that this one needs failed");
  return &found->second;
}

absl::Status BuildRun::AwaitInputs(const LayerStep& layer) {
  std::vector<Source> sources = {layer.from};
  for (const RunMount& mount : layer.mounts) {
    GANTRY_ASSIGN_OR_RETURN(sources.emplace_back(),
                            ResolveFrom(*parts_.plan, layer.stage, mount.from));
  }
  for (const Source& source : sources) {
    if (source.kind == Source::Kind::kStage) GANTRY_RETURN_IF_ERROR(WaitFor(source.stage).status());
  }
  return absl::OkStatus();
}

absl::Status BuildRun::Told(const absl::Status& failed) {
  absl::MutexLock lock(&mu_);
  if (failure_.ok()) return failed;
  // BuildKit's clients know it by the end of the text.
  return absl::CancelledError(absl::StrCat(failed.message(), ": context canceled"));
}

absl::StatusOr<core::BuildBase> BuildRun::BaseOf(const Stage& stage, v1::BuildStep& step) {
  core::BuildBase base;
  if (stage.base.kind == Source::Kind::kScratch) {
    base.root.manifest.media_type = oci::kOciManifest;
    base.config.working_dir = "/";
    base.config.platform = stage.made_for;
    return base;
  }
  std::string platform = parts_.platform;
  if (!stage.platform.empty()) platform = PlatformText(stage.made_for);
  if (absl::StartsWith(stage.base.image, kOciLayout)) {
    const std::string name = stage.base.image.substr(kOciLayout.size());
    const auto layout = parts_.layouts->find(name);
    if (layout == parts_.layouts->end())
      return absl::NotFoundError(
          absl::StrCat("there is no context \"", name, "\" that is an OCI layout"));
    GANTRY_ASSIGN_OR_RETURN(base,
                            parts_.session->exchange().BaseFrom(*layout->second.origin, platform));
    Used({absl::StrCat("pkg:oci/", name), base.id.str()});
    return base;
  }
  const std::string host = stage.base.image.substr(0, stage.base.image.find('/'));
  GANTRY_ASSIGN_OR_RETURN(
      const v1::RegistryAuth auth,
      parts_.client->Credentials(absl::StrContains(host, '.') ? host : "docker.io", parts_.cancel));
  GANTRY_ASSIGN_OR_RETURN(
      base, parts_.session->Base(stage.base.image, platform,
                                 parts_.request->pull() ? core::ImageBuild::Session::Pull::kAlways
                                                        : core::ImageBuild::Session::Pull::kMissing,
                                 auth, [&](const v1::Progress& progress) {
                                   parts_.log->Progress(
                                       step,
                                       progress.id().empty()
                                           ? absl::StrCat("resolve ", stage.base.image)
                                           : progress.id(),
                                       progress.current_bytes(), progress.total_bytes());
                                 }));
  Used({PurlOfImage(stage.base.image, base.config.platform, ""), base.id.str()});
  return base;
}

void BuildRun::Used(Material material) {
  absl::MutexLock lock(&mu_);
  materials_.insert(std::move(material));
}

std::vector<Material> BuildRun::Materials() {
  absl::MutexLock lock(&mu_);
  return {materials_.begin(), materials_.end()};
}

std::vector<DoneStep> BuildRun::Steps() {
  absl::MutexLock lock(&mu_);
  std::vector<DoneStep> steps;
  std::set<std::string> seen;
  for (const auto& [index, stage] : done_) {
    for (const DoneStep& step : stage.steps) {
      if (seen.insert(step.key).second) steps.push_back(step);
    }
  }
  return steps;
}

absl::Status BuildRun::RunStage(int index) {
  const Stage& stage = parts_.plan->stages[index];
  BuiltStage built;
  const StageEvaluator* before = nullptr;
  core::BuildBase base;
  std::vector<Lint> lints;
  // Before the first line, so that it is known how many steps there are.
  v1::BuildStep from;
  const std::string prefix =
      parts_.shown + (parts_.plan->order.size() == 1 ? std::string() : stage.shown + " ");
  if (stage.base.kind == Source::Kind::kStage) {
    GANTRY_ASSIGN_OR_RETURN(const BuiltStage* below, WaitFor(stage.base.stage));
    base.root = below->root;
    base.config = below->evaluator->config();
    before = below->evaluator.get();
    built.base_layers = below->base_layers;
    built.steps = below->steps;
    from = parts_.log->Begin(stage.from, stage.from, positions_.at(index), instructions_, true);
    from.set_image_id(base.root.chain_id());
    GANTRY_RETURN_IF_ERROR(parts_.log->End(from));
  } else {
    // Without triggers of the base, which is not known yet.
    const auto steps =
        1 + std::count_if(stage.instructions.begin(), stage.instructions.end(), Counts);
    from = parts_.log->Begin(absl::StrCat("[", prefix, "1/", steps, "] ", stage.from), stage.from,
                             positions_.at(index), instructions_);
    absl::StatusOr<core::BuildBase> found = BaseOf(stage, from);
    if (!found.ok()) {
      const absl::Status failed = absl::Status(
          found.status().code(), absl::StrCat(parts_.plan->file, ":", stage.line, ": ", stage.from,
                                              ": ", found.status().message()));
      parts_.log->Fail(from, Told(failed));
      return failed;
    }
    base = *std::move(found);
    LintPlatform(stage, base.config, lints);
    built.base_layers = base.root.diff_ids.size();
    from.set_image_id(base.id.str());
    GANTRY_RETURN_IF_ERROR(parts_.log->End(from));
  }
  built.root = base.root;
  built.evaluator =
      std::make_unique<StageEvaluator>(*parts_.plan, index, std::move(base.config), before);
  GANTRY_ASSIGN_OR_RETURN(std::vector<Instruction> instructions, built.evaluator->TakeTriggers());
  for (const Instruction& trigger : instructions) {
    if (trigger.keyword != Keyword::kRun) continue;
    GANTRY_RETURN_IF_ERROR(parts_.emulation->CheckRun(*parts_.plan, stage, stage.line));
  }
  instructions.insert(instructions.end(), stage.instructions.begin(), stage.instructions.end());
  const auto total = 1 + std::count_if(instructions.begin(), instructions.end(), Counts);
  int position = 1;
  // Triggers come before the first of the stage's own, and share its FROM's place.
  int line =
      positions_.at(index) - static_cast<int>(instructions.size() - stage.instructions.size());
  for (const Instruction& instruction : instructions) {
    GANTRY_RETURN_IF_ERROR(parts_.cancel->Check());
    GANTRY_ASSIGN_OR_RETURN(const absl::optional<LayerStep> layer,
                            built.evaluator->Next(instruction));
    const int place = std::max(++line, positions_.at(index));
    if (Counts(instruction)) ++position;
    if (!layer.has_value()) {
      v1::BuildStep step =
          parts_.log->Begin(instruction.original, instruction.original, place, instructions_, true);
      step.set_image_id(built.root.chain_id());
      GANTRY_RETURN_IF_ERROR(parts_.log->End(step));
      continue;
    }
    GANTRY_RETURN_IF_ERROR(AwaitInputs(*layer));
    v1::BuildStep step =
        parts_.log->Begin(absl::StrCat("[", prefix, position, "/", total, "] ", layer->shown),
                          instruction.original, place, instructions_);
    step.set_command(absl::StrJoin(layer->arguments, " "));
    if (absl::Status done = DoStep(stage, *layer, step, built); !done.ok()) {
      const absl::Status failed =
          absl::Status(done.code(), absl::StrCat(parts_.plan->file, ":", layer->line, ": ",
                                                 layer->shown, ": ", done.message()));
      parts_.log->Fail(step, Told(failed), step.exit_code());
      return failed;
    }
  }
  if (parts_.lint_rules != nullptr) {
    lints.insert(lints.end(), built.evaluator->lints().begin(), built.evaluator->lints().end());
    GANTRY_RETURN_IF_ERROR(ReportLints(lints, *parts_.lint_rules, parts_.plan->file, *parts_.log));
  }
  absl::MutexLock lock(&mu_);
  done_.emplace(index, std::move(built));
  return absl::OkStatus();
}

absl::StatusOr<StepFiles> BuildRun::FilesOf(const Source& source, int reader) {
  switch (source.kind) {
    case Source::Kind::kContext:
      return StepFiles{
          nullptr, source.image.empty() ? parts_.context : parts_.contexts->at(source.image).get()};
    case Source::Kind::kStage: {
      GANTRY_ASSIGN_OR_RETURN(const BuiltStage* stage, WaitFor(source.stage));
      return StepFiles{&stage->root, nullptr};
    }
    case Source::Kind::kScratch:
      return absl::InvalidArgumentError("there are no files in scratch");
    case Source::Kind::kImage:
      break;
  }
  Stage stage;
  stage.base = source;
  stage.made_for = parts_.plan->stages[reader].made_for;
  if (!(stage.made_for == parts_.plan->target_platform))
    stage.platform = PlatformText(stage.made_for);
  const std::string key = absl::StrCat(source.image, " ", stage.platform);
  {
    absl::MutexLock lock(&mu_);
    const auto found = images_.find(key);
    if (found != images_.end()) return StepFiles{found->second.get(), nullptr};
  }
  v1::BuildStep step = parts_.log->Begin(absl::StrCat("[internal] FROM ", source.image));
  absl::StatusOr<core::BuildBase> base = BaseOf(stage, step);
  if (!base.ok()) {
    parts_.log->Fail(step, base.status());
    return base.status();
  }
  GANTRY_RETURN_IF_ERROR(parts_.log->End(step));
  absl::MutexLock lock(&mu_);
  return StepFiles{
      images_.emplace(key, std::make_unique<core::BuildRoot>(base->root)).first->second.get(),
      nullptr};
}

}  // namespace gantry::build
