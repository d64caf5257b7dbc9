#include "supervisor/build/stage_evaluator.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

#include "base/status_macros.h"
#include "supervisor/build/build_paths.h"
#include "supervisor/build/dockerfile_words.h"

namespace gantry::build {
namespace {

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr size_t kMaxPorts = 65536;
// A string as Go's %q writes it, near enough for the history.
std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        out.push_back(c);
    }
  }
  return out + "\"";
}

std::string QuotedList(const std::vector<std::string>& words) {
  return absl::StrCat(
      "[",
      absl::StrJoin(words, " ",
                    [](std::string* out, const std::string& word) { out->append(Quoted(word)); }),
      "]");
}

std::string PlainList(const std::vector<std::string>& words) {
  return absl::StrCat("[", absl::StrJoin(words, " "), "]");
}

void SetEnvironment(const std::string& name, const std::string& value,
                    std::vector<std::string>& environment) {
  const std::string entry = absl::StrCat(name, "=", value);
  for (std::string& have : environment) {
    if (!absl::StartsWith(have, name + "=")) continue;
    have = entry;
    return;
  }
  environment.push_back(entry);
}

bool IsSignal(absl::string_view text) {
  int number = 0;
  if (absl::SimpleAtoi(text, &number)) return number > 0 && number <= 64;
  std::string name = absl::AsciiStrToUpper(text);
  if (absl::StartsWith(name, "SIG")) name.erase(0, 3);
  if (absl::StartsWith(name, "RTMIN") || absl::StartsWith(name, "RTMAX")) return true;
  for (int signal = 1; signal < 32; ++signal) {
    const char* known = sigabbrev_np(signal);
    if (known != nullptr && name == known) return true;
  }
  return false;
}

// "[ip:][host:]port[-end][/proto]" -> "port/proto"...
absl::Status AddPorts(const std::string& word, std::set<std::string>& ports) {
  std::pair<std::string, std::string> halves = absl::StrSplit(word, absl::MaxSplits('/', 1));
  const std::string protocol = halves.second.empty() ? "tcp" : absl::AsciiStrToLower(halves.second);
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid port: \"", word, "\": invalid proto: ", halves.second));
  }
  const std::string range = halves.first.substr(halves.first.rfind(':') + 1);
  const std::pair<std::string, std::string> ends = absl::StrSplit(range, absl::MaxSplits('-', 1));
  uint32_t first = 0;
  uint32_t last = 0;
  if (!absl::SimpleAtoi(ends.first, &first) ||
      !absl::SimpleAtoi(absl::StrContains(range, '-') ? ends.second : ends.first, &last) ||
      last > 65535 || first > last) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid containerPort: ", range, " (in EXPOSE ", word, ")"));
  }
  for (uint32_t port = first; port <= last; ++port) {
    ports.insert(absl::StrCat(port, "/", protocol));
    if (ports.size() > 3 * kMaxPorts) break;
  }
  return absl::OkStatus();
}

}  // namespace

std::string DurationText(absl::Duration duration) {
  if (duration == absl::ZeroDuration()) return "0s";
  if (duration < absl::Seconds(1)) return absl::FormatDuration(duration);
  const int64_t hours = duration / absl::Hours(1);
  const int64_t minutes = duration % absl::Hours(1) / absl::Minutes(1);
  const absl::Duration seconds = duration % absl::Minutes(1);
  std::string out;
  if (hours > 0) absl::StrAppend(&out, hours, "h");
  if (hours > 0 || minutes > 0) absl::StrAppend(&out, minutes, "m");
  absl::StrAppend(&out, absl::ToDoubleSeconds(seconds), "s");
  return out;
}

StageEvaluator::StageEvaluator(const BuildPlan& plan, int stage, oci::ImageConfig base,
                               const StageEvaluator* before)
    : plan_(plan), stage_(stage), config_(std::move(base)) {
  bool path = false;
  for (const std::string& entry : config_.env) {
    const size_t equals = entry.find('=');
    const std::string name = entry.substr(0, equals);
    path = path || name == "PATH";
    scope_[name] = equals == std::string::npos ? "" : entry.substr(equals + 1);
    order_.push_back(name);
  }
  if (!path) {
    config_.env.push_back(absl::StrCat("PATH=", kDefaultPath));
    scope_["PATH"] = kDefaultPath;
    order_.push_back("PATH");
  }
  if (before != nullptr) {
    scope_ = before->scope_;
    order_ = before->order_;
    args_ = before->args_;
    used_args_ = before->used_args_;
  }
}

absl::StatusOr<std::vector<Instruction>> StageEvaluator::TakeTriggers() {
  std::vector<Instruction> triggers;
  for (const std::string& text : config_.on_build) {
    GANTRY_ASSIGN_OR_RETURN(Instruction instruction,
                            ParseInstruction(text, "ONBUILD trigger of the base image"));
    instruction.line = plan_.stages[stage_].line;
    triggers.push_back(std::move(instruction));
  }
  config_.on_build.clear();
  return triggers;
}

absl::StatusOr<absl::optional<LayerStep>> StageEvaluator::Next(const Instruction& instruction) {
  unknown_.clear();
  absl::StatusOr<absl::optional<LayerStep>> step = Evaluate(instruction);
  if (!step.ok()) return DockerfileError(plan_.file, instruction.line, step.status().message());
  WarnOfUnknown(instruction);
  return step;
}

// An ARG without a value is known, too.
void StageEvaluator::WarnOfUnknown(const Instruction& instruction) {
  for (const auto& [name, value] : args_) unknown_.erase(name);
  if (unknown_.empty()) return;
  std::vector<std::string> known;
  for (const auto& [name, value] : scope_) known.push_back(absl::StrCat("$", name));
  for (const std::string& name : unknown_) {
    const std::string shown = absl::StrCat("$", name);
    lints_.push_back(
        {"UndefinedVar",
         absl::StrCat("Usage of undefined variable '", shown, "'", DidYouMean(shown, known)),
         instruction.line});
  }
}

absl::StatusOr<absl::optional<LayerStep>> StageEvaluator::Evaluate(const Instruction& instruction) {
  switch (instruction.keyword) {
    case Keyword::kRun: {
      GANTRY_ASSIGN_OR_RETURN(LayerStep step, Run(instruction));
      return absl::optional<LayerStep>(std::move(step));
    }
    case Keyword::kCopy:
    case Keyword::kAdd: {
      GANTRY_ASSIGN_OR_RETURN(LayerStep step, CopyOrAdd(instruction));
      return absl::optional<LayerStep>(std::move(step));
    }
    case Keyword::kWorkdir:
      return Workdir(instruction);
    case Keyword::kArg:
      GANTRY_RETURN_IF_ERROR(Arg(instruction));
      break;
    case Keyword::kEnv:
      GANTRY_RETURN_IF_ERROR(Environment(instruction));
      break;
    case Keyword::kLabel:
      GANTRY_RETURN_IF_ERROR(Label(instruction));
      break;
    case Keyword::kExpose:
      GANTRY_RETURN_IF_ERROR(Expose(instruction));
      break;
    case Keyword::kVolume:
      GANTRY_RETURN_IF_ERROR(Volume(instruction));
      break;
    case Keyword::kHealthcheck:
      GANTRY_RETURN_IF_ERROR(Healthcheck(instruction));
      break;
    case Keyword::kStopsignal:
      GANTRY_RETURN_IF_ERROR(Stopsignal(instruction));
      break;
    case Keyword::kUser: {
      GANTRY_ASSIGN_OR_RETURN(config_.user, Expand(instruction.text));
      Remember(absl::StrCat("USER ", config_.user));
      break;
    }
    case Keyword::kMaintainer:
      config_.author = instruction.text;
      Remember(absl::StrCat("MAINTAINER ", instruction.text));
      break;
    case Keyword::kShell:
      config_.shell = instruction.words;
      Remember(absl::StrCat("SHELL ", PlainList(config_.shell)));
      break;
    case Keyword::kCmd:
      config_.cmd = CommandLine(instruction);
      config_.args_escaped = true;
      cmd_set_ = true;
      Remember(absl::StrCat("CMD ", QuotedList(config_.cmd)));
      break;
    case Keyword::kEntrypoint:
      config_.entrypoint = CommandLine(instruction);
      // The base's command belonged to the base's entrypoint.
      if (!cmd_set_) config_.cmd.clear();
      Remember(absl::StrCat("ENTRYPOINT ", QuotedList(config_.entrypoint)));
      break;
    case Keyword::kOnbuild: {
      std::string trigger = instruction.text;
      for (const Heredoc& heredoc : instruction.heredocs)
        absl::StrAppend(&trigger, "\n", heredoc.body, heredoc.name);
      config_.on_build.push_back(std::move(trigger));
      break;
    }
    case Keyword::kFrom:
      return absl::InternalError("FROM within a stage");
  }
  return absl::optional<LayerStep>();
}

Lookup StageEvaluator::Variables() const {
  return [this](absl::string_view name) -> absl::optional<std::string> {
    const auto found = scope_.find(std::string(name));
    if (found != scope_.end()) return found->second;
    unknown_.emplace(name);
    return absl::nullopt;
  };
}

absl::StatusOr<std::string> StageEvaluator::Expand(absl::string_view text) const {
  return ExpandWord(text, plan_.escape, Variables());
}

void StageEvaluator::Remember(std::string created_by) {
  oci::History entry;
  entry.created_by = std::move(created_by);
  entry.comment = "buildkit.dockerfile.v0";
  entry.empty_layer = true;
  config_.history.push_back(std::move(entry));
}

void StageEvaluator::Done(const LayerStep& step, bool layer) {
  Remember(step.created_by);
  config_.history.back().empty_layer = !layer;
}

absl::Status StageEvaluator::Arg(const Instruction& instruction) {
  std::vector<std::string> shown;
  for (const std::string& word : instruction.words) {
    const size_t equals = word.find('=');
    GANTRY_ASSIGN_OR_RETURN(const std::string name, Expand(word.substr(0, equals)));
    absl::optional<std::string> value;
    const auto given = plan_.args.find(name);
    if (given != plan_.args.end()) used_args_.insert(name);
    if (given != plan_.args.end() && given->second.has_value()) {
      value = given->second;
    } else if (equals != std::string::npos) {
      GANTRY_ASSIGN_OR_RETURN(value, Expand(word.substr(equals + 1)));
    } else if (const auto global = plan_.globals.find(name); global != plan_.globals.end()) {
      value = global->second;
    }
    if (value.has_value()) {
      if (scope_.count(name) == 0) order_.push_back(name);
      scope_[name] = *value;
    }
    args_.erase(std::remove_if(args_.begin(), args_.end(),
                               [&](const auto& arg) { return arg.first == name; }),
                args_.end());
    args_.emplace_back(name, value);
    shown.push_back(value.has_value() ? absl::StrCat(name, "=", *value) : name);
  }
  Remember(absl::StrCat("ARG ", absl::StrJoin(shown, " ")));
  return absl::OkStatus();
}

absl::Status StageEvaluator::Environment(const Instruction& instruction) {
  // All values see the variables as they were before the instruction.
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto& [name, value] : instruction.pairs) {
    GANTRY_ASSIGN_OR_RETURN(std::string expanded_name, Expand(name));
    GANTRY_ASSIGN_OR_RETURN(std::string expanded, Expand(value));
    if (expanded_name.empty()) return absl::InvalidArgumentError("ENV names can not be blank");
    pairs.emplace_back(std::move(expanded_name), std::move(expanded));
  }
  std::string shown = "ENV";
  for (const auto& [name, value] : pairs) {
    SetEnvironment(name, value, config_.env);
    if (scope_.count(name) == 0) order_.push_back(name);
    scope_[name] = value;
    absl::StrAppend(&shown, " ", name, "=", value);
  }
  Remember(std::move(shown));
  return absl::OkStatus();
}

absl::Status StageEvaluator::Label(const Instruction& instruction) {
  std::string shown = "LABEL";
  for (const auto& [name, value] : instruction.pairs) {
    GANTRY_ASSIGN_OR_RETURN(const std::string expanded_name, Expand(name));
    GANTRY_ASSIGN_OR_RETURN(const std::string expanded, Expand(value));
    if (expanded_name.empty()) return absl::InvalidArgumentError("LABEL names can not be blank");
    config_.labels[expanded_name] = expanded;
    absl::StrAppend(&shown, " ", expanded_name, "=", expanded);
  }
  Remember(std::move(shown));
  return absl::OkStatus();
}

absl::Status StageEvaluator::Expose(const Instruction& instruction) {
  std::vector<std::string> words = instruction.words;
  std::sort(words.begin(), words.end());
  std::set<std::string> ports;
  for (const std::string& word : words) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> expanded,
                            ExpandWords(word, plan_.escape, Variables()));
    for (const std::string& one : expanded) GANTRY_RETURN_IF_ERROR(AddPorts(one, ports));
  }
  config_.exposed_ports.insert(ports.begin(), ports.end());
  Remember(absl::StrCat("EXPOSE ", PlainList({ports.begin(), ports.end()})));
  return absl::OkStatus();
}

absl::Status StageEvaluator::Volume(const Instruction& instruction) {
  std::vector<std::string> volumes;
  for (const std::string& word : instruction.words) {
    GANTRY_ASSIGN_OR_RETURN(const std::string volume, Expand(word));
    if (volume.empty())
      return absl::InvalidArgumentError("VOLUME specified can not be an empty string");
    config_.volumes.insert(volume);
    volumes.push_back(volume);
  }
  Remember(absl::StrCat("VOLUME ", PlainList(volumes)));
  return absl::OkStatus();
}

absl::Status StageEvaluator::Healthcheck(const Instruction& instruction) {
  oci::HealthCheck check;
  if (instruction.words == std::vector<std::string>{"NONE"} && !instruction.json &&
      absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(instruction.text), "NONE")) {
    check.test = {"NONE"};
  } else {
    check.test = {instruction.json ? "CMD" : "CMD-SHELL"};
    check.test.insert(check.test.end(), instruction.words.begin(), instruction.words.end());
  }
  const struct {
    const char* flag;
    absl::Duration* value;
  } durations[] = {{"interval", &check.interval},
                   {"timeout", &check.timeout},
                   {"start-period", &check.start_period},
                   {"start-interval", &check.start_interval}};
  for (const auto& [flag, value] : durations) {
    const std::string* text = instruction.FlagValue(flag);
    if (text == nullptr || text->empty()) continue;
    if (!absl::ParseDuration(*text, value))
      return absl::InvalidArgumentError(
          absl::StrCat("HEALTHCHECK --", flag, ": invalid duration \"", *text, "\""));
    if (*value != absl::ZeroDuration() && *value < absl::Milliseconds(1))
      return absl::InvalidArgumentError(
          absl::StrCat("Interval \"", flag, "\" cannot be less than 1ms"));
  }
  if (const std::string* text = instruction.FlagValue("retries");
      text != nullptr && !text->empty()) {
    if (!absl::SimpleAtoi(*text, &check.retries))
      return absl::InvalidArgumentError(
          absl::StrCat("HEALTHCHECK --retries: \"", *text, "\" is not a number"));
    if (check.retries < 0)
      return absl::InvalidArgumentError(
          absl::StrCat("--retries cannot be negative (", check.retries, ")"));
  }
  Remember(absl::StrCat(
      "HEALTHCHECK {Test:", PlainList(check.test), " Interval:", DurationText(check.interval),
      " Timeout:", DurationText(check.timeout), " StartPeriod:", DurationText(check.start_period),
      " StartInterval:", DurationText(check.start_interval), " Retries:", check.retries, "}"));
  config_.health_check = std::move(check);
  return absl::OkStatus();
}

absl::Status StageEvaluator::Stopsignal(const Instruction& instruction) {
  GANTRY_ASSIGN_OR_RETURN(const std::string signal, Expand(instruction.text));
  if (!IsSignal(signal))
    return absl::InvalidArgumentError(absl::StrCat("invalid signal: ", signal));
  config_.stop_signal = signal;
  Remember(absl::StrCat("STOPSIGNAL ", signal));
  return absl::OkStatus();
}

absl::StatusOr<absl::optional<LayerStep>> StageEvaluator::Workdir(const Instruction& instruction) {
  GANTRY_ASSIGN_OR_RETURN(const std::string path, Expand(instruction.text));
  if (path.empty()) return absl::InvalidArgumentError("WORKDIR: cannot normalize nothing");
  config_.working_dir = JoinPath(config_.working_dir, path);
  LayerStep step;
  step.kind = LayerStep::Kind::kWorkdir;
  step.stage = stage_;
  step.line = instruction.line;
  step.working_dir = config_.working_dir;
  step.user = config_.user;
  step.shown = absl::StrCat("WORKDIR ", config_.working_dir);
  step.created_by = step.shown;
  if (config_.working_dir == "/") {
    Remember(step.created_by);
    return absl::optional<LayerStep>();
  }
  return absl::optional<LayerStep>(std::move(step));
}

std::vector<std::string> StageEvaluator::CommandLine(const Instruction& instruction) const {
  if (instruction.json) return instruction.words;
  if (instruction.text.empty()) return {};
  std::vector<std::string> words =
      config_.shell.empty() ? std::vector<std::string>{"/bin/sh", "-c"} : config_.shell;
  words.push_back(instruction.text);
  return words;
}

}  // namespace gantry::build
