#include "supervisor/build/dockerfile_report.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

#include "supervisor/build/run_mounts.h"
#include "supervisor/build/stage_evaluator.h"

namespace gantry::build {
namespace {

using Json = nlohmann::ordered_json;

// Lines of the Dockerfile that are shown before and after the one that is meant.
constexpr int kLinesAround = 2;
constexpr size_t kGap = 3;  // between columns

// Bytes that are no UTF-8 are replaced.
std::string Print(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace);
}

Json LocationOf(int line) {
  const Json place = {{"line", line}};
  return {{"ranges", Json::array({{{"start", place}, {"end", place}}})}};
}

// The Dockerfile, as an outline and a list of targets have it: its text alone.
Json TextsOf(absl::string_view text) { return Json::array({absl::Base64Escape(text)}); }

// The same in what a check says.
Json SourcesOf(absl::string_view text, const Dockerfile& file) {
  return Json::array(
      {{{"filename", file.file}, {"data", absl::Base64Escape(text)}, {"language", "Dockerfile"}}});
}

// "JSONArgsRecommended" -> "json-args-recommended"
std::string PageOf(const std::string& rule) {
  std::string page;
  const auto is_upper = [&](size_t i) {
    return absl::ascii_isupper(static_cast<unsigned char>(rule[i]));
  };
  for (size_t i = 0; i < rule.size(); ++i) {
    if (i > 0 && is_upper(i) && (!is_upper(i - 1) || (i + 1 < rule.size() && !is_upper(i + 1))))
      page.push_back('-');
    page.push_back(absl::ascii_tolower(static_cast<unsigned char>(rule[i])));
  }
  return absl::StrCat("https://docs.docker.com/go/dockerfile/rule/", page, "/");
}

// The line with those around it.
std::string Excerpt(absl::string_view text, int line) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  std::string out = "--------------------\n";
  const int last = std::min(line + kLinesAround, static_cast<int>(lines.size()));
  for (int i = std::max(1, line - kLinesAround); i <= last; ++i) {
    const std::string shown =
        absl::StrFormat("%4d | %s %s", i, i == line ? ">>>" : "   ", lines[i - 1]);
    absl::StrAppend(&out, absl::StripTrailingAsciiWhitespace(shown), "\n");
  }
  return out + "--------------------\n";
}

DockerfileReport Check(absl::string_view text, const Dockerfile& file,
                       const std::vector<Lint>& lints) {
  DockerfileReport report;
  Json warnings = Json::array();
  for (const Lint& lint : lints) {
    warnings.push_back({{"ruleName", lint.rule},
                        {"url", PageOf(lint.rule)},
                        {"detail", lint.text},
                        {"location", LocationOf(lint.line)}});
  }
  report.json = Print({{"warnings", std::move(warnings)}, {"sources", SourcesOf(text, file)}});
  report.failed = !lints.empty();
  report.text = lints.empty()       ? "Check complete, no warnings found.\n"
                : lints.size() == 1 ? "Check complete, 1 warning has been found!\n"
                                    : absl::StrCat("Check complete, ", lints.size(),
                                                   " warnings have been found!\n");
  for (const Lint& lint : lints)
    absl::StrAppend(&report.text, "\nWARNING: ", lint.rule, " - ", PageOf(lint.rule), "\n",
                    lint.text, "\n", file.file, ":", lint.line, "\n", Excerpt(text, lint.line));
  return report;
}

// What the comment above an instruction says about `name`.
std::string DescriptionOf(const Instruction& instruction, absl::string_view name) {
  for (auto comment = instruction.comments.rbegin(); comment != instruction.comments.rend();
       ++comment) {
    absl::string_view rest = *comment;
    if (absl::ConsumePrefix(&rest, name) && absl::StartsWith(rest, " "))
      return std::string(absl::StripAsciiWhitespace(rest));
  }
  return "";
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      absl::StrAppend(&line, row[i], std::string(widths[i] + kGap - row[i].size(), ' '));
    absl::StrAppend(&out, absl::StripTrailingAsciiWhitespace(line), "\n");
  }
  return out;
}

// The FROM of each stage, in order.
std::vector<const Instruction*> FromsOf(const Dockerfile& file) {
  std::vector<const Instruction*> froms;
  for (const Instruction& instruction : file.instructions) {
    if (instruction.keyword == Keyword::kFrom) froms.push_back(&instruction);
  }
  return froms;
}

DockerfileReport Targets(absl::string_view text, const Dockerfile& file, const BuildPlan& plan) {
  const std::vector<const Instruction*> froms = FromsOf(file);
  Json targets = Json::array();
  std::vector<std::vector<std::string>> rows = {{"TARGET", "DESCRIPTION"}};
  const int last = static_cast<int>(plan.stages.size()) - 1;
  for (const Stage& stage : plan.stages) {
    const bool is_default = stage.index == last;
    if (stage.name.empty() && !is_default) continue;
    const std::string description =
        stage.name.empty() ? "" : DescriptionOf(*froms[stage.index], stage.name);
    Json target = Json::object();
    if (!stage.name.empty()) target["name"] = stage.name;
    if (is_default) target["default"] = true;
    if (!description.empty()) target["description"] = description;
    target["base"] = froms[stage.index]->words[0];
    if (!stage.platform.empty()) target["platform"] = stage.platform;
    target["location"] = LocationOf(stage.line);
    targets.push_back(std::move(target));
    rows.push_back({stage.name.empty() ? "(default)"
                    : is_default       ? stage.name + " (default)"
                                       : stage.name,
                    description});
  }
  DockerfileReport report;
  report.json = Print({{"targets", std::move(targets)}, {"sources", TextsOf(text)}});
  report.text = Table(rows);
  return report;
}

// Whether `name` is read as a variable.
bool Reads(absl::string_view text, absl::string_view name) {
  for (size_t at = text.find('$'); at != absl::string_view::npos; at = text.find('$', at + 1)) {
    absl::string_view rest = text.substr(at + 1);
    absl::ConsumePrefix(&rest, "{");
    if (!absl::ConsumePrefix(&rest, name)) continue;
    if (rest.empty() ||
        (!absl::ascii_isalnum(static_cast<unsigned char>(rest[0])) && rest[0] != '_'))
      return true;
  }
  return false;
}

struct Argument {
  std::string name;
  std::string value;
  std::string description;
  int line = 0;
};
struct Needed {
  std::string id;
  bool required = false;
  int line = 0;
};

// What the target asks of whoever builds it.
class Outline {
 public:
  Outline(const Dockerfile& file, const BuildPlan& plan) : plan_(plan) {
    const std::vector<const Instruction*> froms = FromsOf(file);
    for (const int index : plan.order) {
      froms_.push_back(froms[index]);
      for (const Instruction& instruction : plan.stages[index].instructions) {
        if (instruction.keyword == Keyword::kArg) stage_args_.push_back(&instruction);
        if (instruction.keyword == Keyword::kRun) Mounts(instruction);
      }
    }
    for (const Instruction& instruction : file.instructions) {
      if (instruction.keyword == Keyword::kFrom) break;
      Args(instruction, /*global=*/true);
    }
    for (const Instruction* instruction : stage_args_) Args(*instruction, /*global=*/false);
  }

  DockerfileReport Report(absl::string_view text) const {
    const Stage& target = plan_.stages[plan_.target];
    const std::string description =
        target.name.empty() ? "" : DescriptionOf(*froms_.back(), target.name);
    Json out = Json::object();
    std::vector<std::vector<std::string>> head;
    if (!target.name.empty()) {
      out["name"] = target.name;
      head.push_back({"TARGET:", target.name});
    }
    if (!description.empty()) {
      out["description"] = description;
      head.push_back({"DESCRIPTION:", description});
    }
    std::string table = head.empty() ? "" : Table(head);
    const auto append = [&](const std::vector<std::vector<std::string>>& rows) {
      if (rows.size() > 1) absl::StrAppend(&table, table.empty() ? "" : "\n", Table(rows));
    };
    std::vector<std::vector<std::string>> rows = {{"BUILD ARG", "VALUE", "DESCRIPTION"}};
    for (const Argument& one : args_) {
      Json arg = {{"name", one.name}};
      if (!one.description.empty()) arg["description"] = one.description;
      if (!one.value.empty()) arg["value"] = one.value;
      arg["location"] = LocationOf(one.line);
      out["args"].push_back(std::move(arg));
      rows.push_back({one.name, one.value, one.description});
    }
    append(rows);
    for (const auto& [key, title, needs] :
         {std::make_tuple("secrets", "SECRET", &secrets_), std::make_tuple("ssh", "SSH", &ssh_)}) {
      rows = {{title, "REQUIRED"}};
      for (const Needed& one : *needs) {
        Json need = {{"name", one.id}};
        if (one.required) need["required"] = true;
        need["location"] = LocationOf(one.line);
        out[key].push_back(std::move(need));
        rows.push_back({one.id, one.required ? "true" : ""});
      }
      append(rows);
    }
    out["sources"] = TextsOf(text);
    return {Print(out), std::move(table), false};
  }

 private:
  // One before the first FROM counts if a stage that is needed reads it, or names it again.
  bool IsUsed(const std::string& name) const {
    for (const Instruction* from : froms_) {
      if (Reads(from->original, name)) return true;
    }
    for (const Instruction* arg : stage_args_) {
      for (const std::string& word : arg->words) {
        if (word == name) return true;
      }
    }
    return false;
  }

  void Args(const Instruction& instruction, bool global) {
    for (const std::string& word : instruction.words) {
      const size_t equals = word.find('=');
      Argument one;
      one.name = word.substr(0, equals);
      if (global && !IsUsed(one.name)) continue;
      const bool known = std::any_of(args_.begin(), args_.end(),
                                     [&](const Argument& arg) { return arg.name == one.name; });
      if (known) continue;
      // The platform's are set by the builder.
      if (!global && equals == std::string::npos && plan_.globals.count(one.name) > 0 &&
          plan_.args.count(one.name) == 0)
        continue;
      one.description = DescriptionOf(instruction, one.name);
      one.line = instruction.line;
      if (const auto given = plan_.args.find(one.name);
          given != plan_.args.end() && given->second.has_value()) {
        one.value = *given->second;
      } else if (const auto set = plan_.globals.find(one.name);
                 global && set != plan_.globals.end()) {
        one.value = set->second;
      } else if (equals != std::string::npos) {
        const std::string written = word.substr(equals + 1);
        one.value = ExpandWord(written, plan_.escape, [this](absl::string_view name) {
                      const auto found = plan_.globals.find(std::string(name));
                      return found == plan_.globals.end()
                                 ? absl::nullopt
                                 : absl::optional<std::string>(found->second);
                    }).value_or(written);
      }
      args_.push_back(std::move(one));
    }
  }

  void Mounts(const Instruction& run) {
    for (const std::string& text : run.FlagValues("mount")) {
      const absl::StatusOr<RunMount> mount = ParseRunMount(
          text, "/", plan_.escape, [](absl::string_view) { return absl::optional<std::string>(); });
      if (!mount.ok()) continue;
      std::vector<Needed>* const needs = mount->type == RunMount::Type::kSecret ? &secrets_
                                         : mount->type == RunMount::Type::kSsh  ? &ssh_
                                                                                : nullptr;
      if (needs == nullptr) continue;
      const auto found = std::find_if(needs->begin(), needs->end(),
                                      [&](const Needed& one) { return one.id == mount->id; });
      if (found == needs->end()) {
        needs->push_back({mount->id, mount->required, run.line});
      } else {
        found->required = found->required || mount->required;
      }
    }
  }

  const BuildPlan& plan_;
  std::vector<const Instruction*> froms_;  // of the stages that are needed; the target's is last
  std::vector<const Instruction*> stage_args_;
  std::vector<Argument> args_;
  std::vector<Needed> secrets_, ssh_;
};

DockerfileReport Describe() {
  const std::pair<const char*, const char*> calls[] = {
      {"lint", "Lint a Dockerfile"},
      {"outline", "List all parameters current build target supports"},
      {"targets", "List all targets current build supports"},
      {"subrequests.describe", "List available subrequest types"}};
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows = {{"NAME", "VERSION", "DESCRIPTION"}};
  for (const auto& [name, description] : calls) {
    const std::string whole = absl::StrCat("frontend.", name);
    const Json results = Json::array({{{"name", "result.json"}}, {{"name", "result.txt"}}});
    list.push_back({{"name", whole},
                    {"version", "1.0.0"},
                    {"type", "rpc"},
                    {"description", description},
                    {"metadata", results}});
    rows.push_back({whole, "1.0.0", description});
  }
  return {Print(list), Table(rows), false};
}

}  // namespace

absl::StatusOr<DockerfileReport> DescribeDockerfile(absl::string_view call, absl::string_view text,
                                                    const Dockerfile& file, const BuildPlan& plan,
                                                    const std::vector<Lint>& lints) {
  if (call == "check") return Check(text, file, lints);
  if (call == "outline") return Outline(file, plan).Report(text);
  if (call == "targets") return Targets(text, file, plan);
  if (call == "describe") return Describe();
  return absl::InvalidArgumentError(
      absl::StrCat("call \"", call, "\": there is build, check, outline and targets",
                   DidYouMean(call, {"build", "check", "outline", "targets"})));
}

std::vector<Lint> LintStages(const BuildPlan& plan) {
  std::vector<Lint> lints;
  std::map<int, std::unique_ptr<StageEvaluator>> done;
  for (const int index : plan.order) {
    const Stage& stage = plan.stages[index];
    const StageEvaluator* before = nullptr;
    if (stage.base.kind == Source::Kind::kStage) {
      const auto found = done.find(stage.base.stage);
      if (found == done.end()) continue;
      before = found->second.get();
    } else if (stage.base.kind != Source::Kind::kScratch) {
      continue;  // an image may have any variables
    }
    auto evaluator = std::make_unique<StageEvaluator>(
        plan, index, before == nullptr ? oci::ImageConfig() : before->config(), before);
    for (const Instruction& instruction : stage.instructions) {
      // What is wrong with one is said by a build.
      const absl::StatusOr<absl::optional<LayerStep>> step = evaluator->Next(instruction);
      if (!step.ok()) break;
      if (step->has_value()) evaluator->Done(**step, true);
    }
    lints.insert(lints.end(), evaluator->lints().begin(), evaluator->lints().end());
    done[index] = std::move(evaluator);
  }
  return lints;
}

}  // namespace gantry::build
