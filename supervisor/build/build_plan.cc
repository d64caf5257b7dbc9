#include "supervisor/build/build_plan.h"

#include <functional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"

#include "base/status_macros.h"
#include "supervisor/build/dockerfile_words.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/oci/platform.h"

namespace gantry::build {
namespace {

absl::Status At(const BuildPlan& plan, const Instruction& instruction, const absl::Status& status) {
  return DockerfileError(plan.file, instruction.line, status.message());
}

absl::StatusOr<std::string> StageName(const std::string& written) {
  const std::string name = absl::AsciiStrToLower(written);
  bool good = !name.empty() && absl::ascii_islower(static_cast<unsigned char>(name[0]));
  for (const char c : name) {
    good = good &&
           (absl::ascii_islower(static_cast<unsigned char>(c)) ||
            absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.');
  }
  if (!good) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid name for build stage: \"", written,
                     "\", name can't start with a number or contain symbols"));
  }
  return name;
}

void SetPlatformGlobals(const PlanOptions& options, BuildPlan& plan) {
  const auto set = [&](const char* kind, const content::Platform& platform) {
    plan.globals[absl::StrCat(kind, "PLATFORM")] = PlatformText(platform);
    plan.globals[absl::StrCat(kind, "OS")] = platform.os;
    plan.globals[absl::StrCat(kind, "ARCH")] = platform.architecture;
    plan.globals[absl::StrCat(kind, "VARIANT")] = platform.variant;
  };
  set("BUILD", options.build_platform);
  set("TARGET", options.target_platform);
  for (auto& [name, value] : plan.globals) {
    const auto given = options.args.find(name);
    if (given != options.args.end() && given->second.has_value()) value = *given->second;
  }
}

using Variables = std::map<std::string, std::string>;

Lookup In(const Variables& variables) {
  return [&](absl::string_view name) -> absl::optional<std::string> {
    const auto found = variables.find(std::string(name));
    if (found == variables.end()) return absl::nullopt;
    return found->second;
  };
}

// An ARG before the first FROM as it is without --build-arg. A mistake in it is found with them.
void SetDefault(const Instruction& instruction, char escape, Variables& defaults) {
  for (const std::string& word : instruction.words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos) continue;
    const absl::StatusOr<std::string> name =
        ExpandWord(word.substr(0, equals), escape, In(defaults));
    absl::StatusOr<std::string> value = ExpandWord(word.substr(equals + 1), escape, In(defaults));
    if (name.ok() && value.ok()) defaults[*name] = *std::move(value);
  }
}

absl::Status SetGlobal(const Instruction& instruction, BuildPlan& plan) {
  const Lookup lookup = In(plan.globals);
  for (const std::string& word : instruction.words) {
    const size_t equals = word.find('=');
    GANTRY_ASSIGN_OR_RETURN(const std::string name,
                            ExpandWord(word.substr(0, equals), plan.escape, lookup));
    const auto given = plan.args.find(name);
    if (given != plan.args.end() && given->second.has_value()) {
      plan.globals[name] = *given->second;
    } else if (equals != std::string::npos) {
      GANTRY_ASSIGN_OR_RETURN(plan.globals[name],
                              ExpandWord(word.substr(equals + 1), plan.escape, lookup));
    }
  }
  return absl::OkStatus();
}

// What a context beside the main one stands for; nullopt: there is none of that name.
absl::optional<Source> NamedContextOf(const BuildPlan& plan, absl::string_view name) {
  const auto found = plan.contexts.find(absl::AsciiStrToLower(name));
  if (found == plan.contexts.end()) return absl::nullopt;
  absl::string_view image = found->second;
  Source source;
  if (absl::ConsumePrefix(&image, "docker-image://")) {
    source.kind = Source::Kind::kImage;
    source.image = std::string(image);
  } else if (absl::StartsWith(image, kOciLayout)) {
    source.kind = Source::Kind::kImage;
    source.image = absl::StrCat(kOciLayout, found->first);
  } else {
    source.image = found->first;
  }
  return source;
}

absl::Status BeginStage(const Instruction& from, const Variables& defaults, BuildPlan& plan) {
  Stage stage;
  stage.index = static_cast<int>(plan.stages.size());
  stage.line = from.line;
  std::vector<std::string> unset;
  const Lookup lookup = [&](absl::string_view name) -> absl::optional<std::string> {
    const auto found = plan.globals.find(std::string(name));
    if (found != plan.globals.end()) return found->second;
    unset.emplace_back(name);
    return absl::nullopt;
  };
  GANTRY_ASSIGN_OR_RETURN(const std::string base, ExpandWord(from.words[0], plan.escape, lookup));
  if (base.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("base name (", from.words[0], ") should not be blank"));
  }
  if (const absl::StatusOr<std::string> name = ExpandWord(from.words[0], plan.escape, In(defaults));
      absl::StrContains(from.words[0], '$') && name.ok() &&
      !distribution::Reference::Parse(*name).ok()) {
    plan.lints.push_back({"InvalidDefaultArgInFrom",
                          absl::StrCat("Default value for ARG ", from.words[0],
                                       " results in empty or invalid base image name"),
                          from.line});
  }
  stage.from = absl::StrCat("FROM ", base);
  if (from.words.size() == 3) {
    GANTRY_ASSIGN_OR_RETURN(stage.name, StageName(from.words[2]));
    absl::StrAppend(&stage.from, " AS ", stage.name);
    for (const Stage& earlier : plan.stages) {
      if (earlier.name != stage.name) continue;
      plan.lints.push_back(
          {"DuplicateStageName",
           absl::StrCat("Duplicate stage name \"", stage.name, "\", stage names should be unique"),
           from.line});
    }
  }
  stage.shown = stage.name.empty() ? absl::StrCat("stage-", stage.index) : stage.name;
  if (const std::string* platform = from.FlagValue("platform")) {
    GANTRY_ASSIGN_OR_RETURN(stage.platform, ExpandWord(*platform, plan.escape, lookup));
    if (stage.platform.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("empty platform value from expression ", *platform));
  }
  std::vector<std::string> known;
  for (const auto& [name, value] : plan.globals) known.push_back(name);
  for (const std::string& name : unset) {
    plan.lints.push_back(
        {"UndefinedArgInFrom",
         absl::StrCat("FROM argument '", name, "' is not declared", DidYouMean(name, known)),
         from.line});
  }
  if (const absl::optional<Source> named = NamedContextOf(plan, base); named.has_value()) {
    stage.base = *named;
    if (stage.base.kind == Source::Kind::kContext)
      return absl::InvalidArgumentError(absl::StrCat(
          "context \"", base,
          "\" holds files and no image; copy from it instead: ", "COPY --from=", base));
  } else if (base == "scratch") {
    stage.base.kind = Source::Kind::kScratch;
  } else {
    stage.base.kind = Source::Kind::kImage;
    stage.base.image = base;
    // The last stage of that name so far.
    for (const Stage& earlier : plan.stages) {
      if (earlier.name.empty() || earlier.name != base) continue;
      stage.base = {Source::Kind::kStage, earlier.index, ""};
    }
  }
  stage.made_for = plan.target_platform;
  if (stage.base.kind == Source::Kind::kStage)
    stage.made_for = plan.stages[stage.base.stage].made_for;
  if (!stage.platform.empty()) {
    absl::StatusOr<content::Platform> parsed = oci::ParsePlatform(stage.platform);
    if (!parsed.ok())
      return absl::InvalidArgumentError(absl::StrCat("failed to parse platform ", stage.platform,
                                                     ": ", parsed.status().message()));
    // Another stage's files are for what they are for.
    if (stage.base.kind != Source::Kind::kStage) stage.made_for = *std::move(parsed);
  }
  plan.stages.push_back(std::move(stage));
  return absl::OkStatus();
}

absl::StatusOr<int> FindTarget(const BuildPlan& plan, const std::string& target) {
  if (target.empty()) return static_cast<int>(plan.stages.size()) - 1;
  const std::string name = absl::AsciiStrToLower(target);
  int found = -1;
  std::vector<std::string> names;
  for (const Stage& stage : plan.stages) {
    if (stage.name == name) found = stage.index;
    if (!stage.name.empty()) names.push_back(stage.name);
  }
  int number = 0;
  if (found < 0 && absl::SimpleAtoi(target, &number) && number >= 0 &&
      number < static_cast<int>(plan.stages.size())) {
    found = number;
  }
  if (found < 0) {
    return absl::NotFoundError(absl::StrCat(plan.file, ": target stage \"", target,
                                            "\" could not be found", DidYouMean(name, names)));
  }
  return found;
}

// The value of `from` in the comma-separated list of a --mount; "" if it is not there.
std::string FromOfMount(absl::string_view mount) {
  for (absl::string_view part : absl::StrSplit(mount, ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (absl::StartsWithIgnoreCase(part, "from=")) return std::string(part.substr(5));
  }
  return "";
}

absl::Status Order(BuildPlan& plan) {
  enum class Mark { kNone, kOpen, kDone };
  std::vector<Mark> marks(plan.stages.size(), Mark::kNone);
  // Stages need earlier ones only, so there is no cycle but a stage that needs itself, which
  // ResolveFrom() refuses.
  const std::function<absl::Status(int)> visit = [&](int index) -> absl::Status {
    if (marks[index] != Mark::kNone) return absl::OkStatus();
    marks[index] = Mark::kOpen;
    const Stage& stage = plan.stages[index];
    if (stage.base.kind == Source::Kind::kStage) GANTRY_RETURN_IF_ERROR(visit(stage.base.stage));
    for (const Instruction& instruction : stage.instructions) {
      absl::StatusOr<std::vector<int>> read = StagesReadBy(plan, index, instruction);
      if (!read.ok()) return At(plan, instruction, read.status());
      for (const int needed : *read) GANTRY_RETURN_IF_ERROR(visit(needed));
    }
    marks[index] = Mark::kDone;
    plan.order.push_back(index);
    return absl::OkStatus();
  };
  return visit(plan.target);
}

}  // namespace

std::string PlatformText(const content::Platform& platform) {
  return absl::StrCat(platform.os, "/", platform.architecture, platform.variant.empty() ? "" : "/",
                      platform.variant);
}

absl::StatusOr<Source> ResolveFrom(const BuildPlan& plan, int stage, const std::string& from) {
  Source source;
  if (from.empty()) return source;
  if (absl::StrContains(from, '$')) {
    return absl::InvalidArgumentError(
        absl::StrCat("variable expansion is not supported for --from, define a new stage with ",
                     "FROM using ARG from global scope as a workaround: ", from));
  }
  if (absl::optional<Source> named = NamedContextOf(plan, from); named.has_value())
    return *std::move(named);
  const std::string name = absl::AsciiStrToLower(from);
  int number = 0;
  if (absl::SimpleAtoi(from, &number)) {
    if (number < 0 || number >= static_cast<int>(plan.stages.size()))
      return absl::InvalidArgumentError(absl::StrCat("invalid stage index ", from));
    source = {Source::Kind::kStage, number, ""};
  } else if (name == "scratch") {
    source.kind = Source::Kind::kScratch;
    return source;
  } else {
    for (const Stage& other : plan.stages) {
      if (other.name != name) continue;
      // Before this stage the last one of that name counts; a later one only if there is no other.
      if (source.kind == Source::Kind::kStage && other.index >= stage && source.stage < stage)
        continue;
      source = {Source::Kind::kStage, other.index, ""};
    }
    if (source.kind != Source::Kind::kStage) {
      source.kind = Source::Kind::kImage;
      source.image = from;
      return source;
    }
  }
  if (source.stage == stage) {
    return absl::InvalidArgumentError(
        absl::StrCat("circular dependency detected on stage: ", from));
  }
  if (source.stage > stage) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot copy from stage \"", from, "\", it needs to be defined before current stage \"",
        plan.stages[stage].shown, "\""));
  }
  return source;
}

absl::StatusOr<std::vector<int>> StagesReadBy(const BuildPlan& plan, int stage,
                                              const Instruction& instruction) {
  std::vector<std::string> froms;
  if (instruction.keyword == Keyword::kCopy) {
    if (const std::string* from = instruction.FlagValue("from")) froms.push_back(*from);
  } else if (instruction.keyword == Keyword::kRun) {
    for (const std::string& mount : instruction.FlagValues("mount"))
      froms.push_back(FromOfMount(mount));
  }
  std::vector<int> stages;
  for (const std::string& from : froms) {
    GANTRY_ASSIGN_OR_RETURN(const Source source, ResolveFrom(plan, stage, from));
    if (source.kind == Source::Kind::kStage) stages.push_back(source.stage);
  }
  return stages;
}

absl::StatusOr<BuildPlan> PlanBuild(Dockerfile dockerfile, const PlanOptions& options) {
  BuildPlan plan;
  plan.file = dockerfile.file;
  plan.escape = dockerfile.escape;
  plan.lints = std::move(dockerfile.lints);
  plan.args = options.args;
  plan.contexts = options.contexts;
  plan.target_platform = options.target_platform;
  SetPlatformGlobals(options, plan);
  Variables defaults = plan.globals;
  for (Instruction& instruction : dockerfile.instructions) {
    absl::Status done;
    if (instruction.keyword == Keyword::kFrom) {
      done = BeginStage(instruction, defaults, plan);
    } else if (!plan.stages.empty()) {
      plan.stages.back().instructions.push_back(std::move(instruction));
      continue;
    } else if (instruction.keyword == Keyword::kArg) {
      done = SetGlobal(instruction, plan);
      SetDefault(instruction, plan.escape, defaults);
    } else {
      done = absl::InvalidArgumentError(
          absl::StrCat("no build stage in current context: ", KeywordName(instruction.keyword),
                       " comes before the first FROM"));
    }
    if (!done.ok()) return At(plan, instruction, done);
  }
  if (plan.stages.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(plan.file, ": no build stage: there is no FROM instruction"));
  }
  GANTRY_ASSIGN_OR_RETURN(plan.target, FindTarget(plan, options.target));
  plan.globals.emplace("TARGETSTAGE", plan.stages[plan.target].name.empty()
                                          ? "default"
                                          : plan.stages[plan.target].name);
  GANTRY_RETURN_IF_ERROR(Order(plan));
  return plan;
}

}  // namespace gantry::build
