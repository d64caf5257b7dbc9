// What RUN, COPY and ADD are to do to the files.
#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "supervisor/build/build_paths.h"
#include "supervisor/build/dockerfile_words.h"
#include "supervisor/build/git_source.h"
#include "supervisor/build/stage_evaluator.h"

namespace gantry::build {
namespace {

constexpr const char* kProxies[] = {"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY",
                                    "ALL_PROXY"};

}  // namespace

absl::StatusOr<LayerStep> StageEvaluator::Run(const Instruction& instruction) {
  LayerStep step;
  step.kind = LayerStep::Kind::kRun;
  step.stage = stage_;
  step.line = instruction.line;
  step.user = config_.user;
  step.working_dir = config_.working_dir.empty() ? "/" : config_.working_dir;
  Instruction command = instruction;
  std::string note;
  if (!instruction.heredocs.empty()) {
    const Heredoc& first = instruction.heredocs[0];
    // The text is one word, which opens one here-document: that is the script.
    const bool alone = instruction.heredocs.size() == 1 &&
                       instruction.text.find_first_of(" \t") == std::string::npos;
    if (!alone) {
      for (const Heredoc& heredoc : instruction.heredocs)
        absl::StrAppend(&command.text, "\n", heredoc.body, heredoc.name);
    } else if (absl::StartsWith(first.body, "#!")) {
      step.script_name = first.name;
      step.script = first.body;
      command.text = absl::StrCat("/dev/pipes/", first.name);
      if (absl::StrContains(first.name, '/') || first.name == "." || first.name == "..")
        return absl::InvalidArgumentError(
            absl::StrCat("RUN: the name of the heredoc \"", first.name, "\" is not a file name"));
    } else {
      command.text = first.body;
    }
    note = absl::StrCat(" (", first.body.substr(0, first.body.find('\n')), "...)");
  }
  step.arguments = CommandLine(command);
  if (step.arguments.empty()) return absl::InvalidArgumentError("RUN needs a command");
  for (const std::string& name : order_) {
    const auto value = scope_.find(name);
    if (value != scope_.end()) step.environment.push_back(absl::StrCat(name, "=", value->second));
  }
  for (const char* proxy : kProxies) {
    for (const std::string& name : {std::string(proxy), absl::AsciiStrToLower(proxy)}) {
      const auto given = plan_.args.find(name);
      if (given == plan_.args.end() || !given->second.has_value() || scope_.count(name) > 0)
        continue;
      step.proxies[proxy] = *given->second;
      step.proxies[absl::AsciiStrToLower(proxy)] = *given->second;
    }
  }
  for (const std::string& mount : instruction.FlagValues("mount")) {
    GANTRY_ASSIGN_OR_RETURN(RunMount parsed,
                            ParseRunMount(mount, step.working_dir, plan_.escape, Variables()));
    step.mounts.push_back(std::move(parsed));
  }
  const std::string* network = instruction.FlagValue("network");
  step.network = network == nullptr ? "default" : *network;
  if (step.network != "default" && step.network != "none" && step.network != "host") {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid network mode \"", step.network, "\"",
                     DidYouMean(step.network, {"default", "none", "host"})));
  }
  const std::string* security = instruction.FlagValue("security");
  step.security = security == nullptr ? "sandbox" : *security;
  if (step.security != "sandbox" && step.security != "insecure") {
    return absl::InvalidArgumentError(
        absl::StrCat("security \"", step.security, "\" is not valid",
                     DidYouMean(step.security, {"sandbox", "insecure"})));
  }
  step.devices = instruction.FlagValues("device");
  step.shown = absl::StrCat(
      "RUN ", instruction.original.substr(std::min<size_t>(instruction.original.size(), 4)), note);
  std::string arguments;
  int count = 0;
  for (const auto& [name, value] : args_) {
    if (!value.has_value()) continue;
    ++count;
    absl::StrAppend(&arguments, name, "=", *value, " ");
  }
  if (count > 0) arguments = absl::StrCat("|", count, " ", arguments);
  step.created_by =
      absl::StrCat("RUN ", arguments, absl::StrJoin(step.arguments, " "), " # buildkit");
  return step;
}

absl::StatusOr<LayerStep> StageEvaluator::CopyOrAdd(const Instruction& instruction) {
  const bool add = instruction.keyword == Keyword::kAdd;
  const std::string name(KeywordName(instruction.keyword));
  LayerStep step;
  step.kind = add ? LayerStep::Kind::kAdd : LayerStep::Kind::kCopy;
  step.stage = stage_;
  step.line = instruction.line;
  if (const std::string* from = instruction.FlagValue("from")) {
    GANTRY_ASSIGN_OR_RETURN(step.from, ResolveFrom(plan_, stage_, *from));
  }
  const auto flag = [&](const char* flag_name, std::string& out) -> absl::Status {
    const std::string* text = instruction.FlagValue(flag_name);
    if (text == nullptr) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN(out, Expand(*text));
    return absl::OkStatus();
  };
  GANTRY_RETURN_IF_ERROR(flag("chown", step.owner));
  GANTRY_RETURN_IF_ERROR(flag("chmod", step.mode));
  GANTRY_RETURN_IF_ERROR(flag("checksum", step.checksum));
  step.link = instruction.HasSwitch("link");
  step.parents = instruction.HasSwitch("parents");
  step.keep_git_dir = instruction.HasSwitch("keep-git-dir");
  if (instruction.FlagValue("unpack") != nullptr) step.unpack = instruction.HasSwitch("unpack");
  step.excludes = instruction.FlagValues("exclude");

  step.created_by = absl::StrCat(name, step.parents ? " --parents" : "");
  if (!step.owner.empty()) absl::StrAppend(&step.created_by, " --chown=", step.owner);
  if (!step.mode.empty()) absl::StrAppend(&step.created_by, " --chmod=", step.mode);
  std::string shown = name;
  for (const Flag& one : instruction.flags) {
    absl::StrAppend(&shown, " --", one.name);
    if (one.name != "link" && one.name != "parents" && one.name != "keep-git-dir")
      absl::StrAppend(&shown, "=", one.value);
  }
  size_t heredoc = 0;
  for (size_t i = 0; i + 1 < instruction.words.size(); ++i) {
    const std::string& word = instruction.words[i];
    CopySource source;
    if (!instruction.json && heredoc < instruction.heredocs.size() &&
        absl::StrContains(word, "<<")) {
      const Heredoc& document = instruction.heredocs[heredoc++];
      source.kind = CopySource::Kind::kHeredoc;
      source.path = document.name;
      source.content = document.body;
      if (document.expand) {
        GANTRY_ASSIGN_OR_RETURN(source.content, ExpandHeredoc(document.body, Variables()));
      }
      if (absl::StrContains(document.name, '/') || document.name == "." || document.name == "..")
        return absl::InvalidArgumentError(absl::StrCat(name, ": the name of the heredoc \"",
                                                       document.name, "\" is not a file name"));
      absl::StrAppend(&step.created_by, " <<", document.name);
      absl::StrAppend(&shown, " <<", document.name);
      step.sources.push_back(std::move(source));
      continue;
    }
    GANTRY_ASSIGN_OR_RETURN(source.path, Expand(word));
    absl::StrAppend(&step.created_by, " ", source.path);
    absl::StrAppend(&shown, " ", source.path);
    if (IsGitUrl(source.path)) {
      GANTRY_RETURN_IF_ERROR(ParseGitSource(source.path).status());
      source.kind = CopySource::Kind::kGit;
    } else if (IsUrl(source.path)) {
      source.kind = CopySource::Kind::kUrl;
    }
    if (!add && source.kind != CopySource::Kind::kPath) {
      return absl::InvalidArgumentError(source.kind == CopySource::Kind::kGit
                                            ? "source can't be a git ref for COPY"
                                            : "source can't be a URL for COPY");
    }
    step.sources.push_back(std::move(source));
  }
  if (!step.checksum.empty()) {
    if (step.sources.size() > 1)
      return absl::InvalidArgumentError("checksum can't be specified for multiple sources");
    if (step.sources[0].kind != CopySource::Kind::kUrl &&
        step.sources[0].kind != CopySource::Kind::kGit)
      return absl::InvalidArgumentError("checksum requires HTTP(S) or Git sources");
  }
  GANTRY_ASSIGN_OR_RETURN(const std::string destination, Expand(instruction.words.back()));
  absl::StrAppend(&step.created_by, " ", destination, " # buildkit");
  absl::StrAppend(&shown, " ", destination);
  step.shown = std::move(shown);
  step.working_dir = config_.working_dir.empty() ? "/" : config_.working_dir;
  step.destination = JoinPath(step.working_dir, destination);
  const bool folder = destination.empty() || absl::EndsWith(destination, "/") ||
                      destination == "." || absl::EndsWith(destination, "/.");
  if (folder && step.destination != "/") step.destination.push_back('/');
  return step;
}

}  // namespace gantry::build
