#include "supervisor/build/dockerfile_lint.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/build/build_paths.h"
#include "supervisor/oci/platform.h"

namespace gantry::build {
namespace {

// Off unless they are asked for.
constexpr std::array<absl::string_view, 1> kExperimental = {"InvalidDefinitionDescription"};
constexpr std::array<absl::string_view, 2> kReservedNames = {"context", "scratch"};
constexpr std::array<absl::string_view, 10> kSecretWords = {
    "apikey",   "auth",  "credential", "credentials", "key",
    "password", "pword", "passwd",     "secret",      "token"};
// Beside one of these a name is none of a secret: GPG_KEY_VERSION.
constexpr std::array<absl::string_view, 3> kHarmlessWords = {"public", "file", "version"};

template <class List>
bool Has(const List& list, absl::string_view name) {
  return std::any_of(list.begin(), list.end(),
                     [&](absl::string_view one) { return absl::EqualsIgnoreCase(one, name); });
}

bool IsLower(absl::string_view text) { return absl::AsciiStrToLower(text) == text; }
bool IsUpper(absl::string_view text) { return absl::AsciiStrToUpper(text) == text; }

// The keyword as it is written.
absl::string_view Written(const Instruction& instruction) {
  return absl::string_view(instruction.original).substr(0, KeywordName(instruction.keyword).size());
}

bool IsSecretName(absl::string_view name) {
  bool secret = false;
  for (const absl::string_view word : absl::StrSplit(name, '_')) {
    if (Has(kHarmlessWords, word)) return false;
    secret = secret || Has(kSecretWords, word);
  }
  return secret;
}

class Linter {
 public:
  Linter(const Dockerfile& file, const engine::IgnoreRules& ignored)
      : file_(file), ignored_(ignored) {}

  std::vector<Lint> Run() && {
    Casing();
    for (const Instruction& instruction : file_.instructions) One(instruction);
    return std::move(lints_);
  }

 private:
  void Add(const char* rule, const Instruction& at, std::string text) {
    lints_.push_back({rule, std::move(text), at.line});
  }

  // Keywords should look like most of them do.
  void Casing() {
    int lower = 0;
    int upper = 0;
    for (const Instruction& instruction : file_.instructions) {
      if (IsLower(Written(instruction))) ++lower;
      if (IsUpper(Written(instruction))) ++upper;
    }
    const bool to_lower = lower > upper;
    for (const Instruction& instruction : file_.instructions) {
      const absl::string_view written = Written(instruction);
      if (to_lower ? IsLower(written) : IsUpper(written)) continue;
      Add("ConsistentInstructionCasing", instruction,
          absl::StrCat("Command '", written, "' should match the case of the command majority (",
                       to_lower ? "lowercase" : "uppercase", ")"));
    }
  }

  void One(const Instruction& instruction) {
    switch (instruction.keyword) {
      case Keyword::kFrom:
        From(instruction);
        break;
      case Keyword::kArg:
        Arg(instruction);
        break;
      case Keyword::kEnv:
        for (const auto& [name, value] : instruction.pairs) Secret(instruction, name);
        break;
      case Keyword::kCmd:
      case Keyword::kEntrypoint:
        Once(instruction);
        if (!instruction.json && !instruction.text.empty() && !has_shell_) {
          Add("JSONArgsRecommended", instruction,
              absl::StrCat("JSON arguments recommended for ", KeywordName(instruction.keyword),
                           " to prevent unintended behavior related to OS signals"));
        }
        break;
      case Keyword::kHealthcheck:
        Once(instruction);
        break;
      case Keyword::kShell:
        has_shell_ = true;
        Remember();
        break;
      case Keyword::kWorkdir:
        Workdir(instruction);
        break;
      case Keyword::kExpose:
        for (const std::string& word : instruction.words) Port(instruction, word);
        break;
      case Keyword::kCopy:
      case Keyword::kAdd:
        Copy(instruction);
        break;
      case Keyword::kLabel:
      case Keyword::kMaintainer:
      case Keyword::kOnbuild:
      case Keyword::kRun:
      case Keyword::kStopsignal:
      case Keyword::kUser:
      case Keyword::kVolume:
        break;
    }
  }

  void From(const Instruction& from) {
    used_.clear();
    const auto below = stages_.find(absl::AsciiStrToLower(from.words[0]));
    has_shell_ = below != stages_.end() && below->second.first;
    has_workdir_ = below != stages_.end() && below->second.second;
    stage_ = "";
    if (from.words.size() == 3) {
      const std::string& as = from.words[1];
      const absl::string_view written = Written(from);
      if ((IsLower(written) && !IsLower(as)) || (IsUpper(written) && !IsUpper(as))) {
        Add("FromAsCasing", from,
            absl::StrCat("'", as, "' and '", written, "' keywords' casing do not match"));
      }
      const std::string& name = from.words[2];
      stage_ = absl::AsciiStrToLower(name);
      if (!IsLower(name))
        Add("StageNameCasing", from, absl::StrCat("Stage name '", name, "' should be lowercase"));
      if (Has(kReservedNames, stage_)) {
        Add("ReservedStageName", from,
            absl::StrCat("Stage name should not use the same name as reserved stage \"", stage_,
                         "\""));
      }
      Description(from, {name});
      Remember();
    }
    const std::string* platform = from.FlagValue("platform");
    if (platform == nullptr) return;
    if (*platform == "$TARGETPLATFORM" || *platform == "${TARGETPLATFORM}") {
      Add("RedundantTargetPlatform", from,
          "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the "
          "default behavior");
    }
    if (absl::StrContains(*platform, '$')) return;
    const absl::StatusOr<content::Platform> parsed = oci::ParsePlatform(*platform);
    // A stage that is named after its platform is meant to be for it.
    if (!parsed.ok() || absl::StrContains(stage_, parsed->os) ||
        absl::StrContains(stage_, parsed->architecture))
      return;
    Add("FromPlatformFlagConstDisallowed", from,
        absl::StrCat("FROM --platform flag should not use constant value \"", *platform, "\""));
  }

  void Arg(const Instruction& arg) {
    std::vector<std::string> names;
    for (const std::string& word : arg.words) {
      names.push_back(word.substr(0, word.find('=')));
      Secret(arg, names.back());
    }
    Description(arg, names);
  }

  void Secret(const Instruction& instruction, const std::string& name) {
    if (!IsSecretName(name)) return;
    Add("SecretsUsedInArgOrEnv", instruction,
        absl::StrCat("Do not use ARG or ENV instructions for sensitive data (",
                     KeywordName(instruction.keyword), " \"", name, "\")"));
  }

  // A comment above what it names tells what that is for: "# NAME what for".
  void Description(const Instruction& instruction, const std::vector<std::string>& names) {
    if (instruction.comments.empty()) return;
    const std::string& comment = instruction.comments.back();
    if (absl::StartsWith(comment, "check=")) return;
    if (Has(names, comment.substr(0, comment.find(' ')))) return;
    Add("InvalidDefinitionDescription", instruction,
        absl::StrCat("Comment for ",
                     instruction.keyword == Keyword::kFrom ? "build stage" : "build argument",
                     " should follow the format: `# ",
                     names.size() == 1 ? names[0] : std::string("<arg_key>"),
                     " <description>`. If this is not intended to be a description comment, add ",
                     "an empty line or comment between the instruction and the comment."));
  }

  // Of these only the last one of a stage counts. What is reported is the one before it.
  void Once(const Instruction& instruction) {
    const auto [before, first] = used_.emplace(instruction.keyword, &instruction);
    if (first) return;
    Add("MultipleInstructionsDisallowed", *before->second,
        absl::StrCat("Multiple ", KeywordName(instruction.keyword),
                     " instructions should not be used in the same stage because only the last "
                     "one will be used"));
    before->second = &instruction;
  }

  void Workdir(const Instruction& instruction) {
    absl::string_view path = instruction.text;
    while (absl::ConsumePrefix(&path, "\"") || absl::ConsumePrefix(&path, "'")) {
    }
    // What a variable holds is not known here.
    if (!has_workdir_ && !absl::StartsWith(path, "/") && !absl::StrContains(path, '$')) {
      Add("WorkdirRelativePath", instruction,
          absl::StrCat("Relative workdir \"", instruction.text,
                       "\" can have unexpected results if the base image changes"));
    }
    has_workdir_ = true;
    Remember();
  }

  void Port(const Instruction& instruction, const std::string& word) {
    if (absl::StrContains(word, '$')) return;
    const size_t slash = word.find('/');
    if (slash != std::string::npos && !IsLower(word.substr(slash))) {
      Add("ExposeProtoCasing", instruction,
          absl::StrCat("Defined protocol '", word, "' in EXPOSE instruction should be lowercase"));
    }
    if (absl::StrContains(word.substr(0, slash), ':')) {
      Add("ExposeInvalidFormat", instruction,
          absl::StrCat("EXPOSE instruction should not define an IP address or host-port mapping, ",
                       "found '", word, "'"));
    }
  }

  void Copy(const Instruction& instruction) {
    if (ignored_.empty() || instruction.FlagValue("from") != nullptr) return;
    for (size_t i = 0; i + 1 < instruction.words.size(); ++i) {
      const std::string& word = instruction.words[i];
      if (absl::StrContains(word, '$') || absl::StrContains(word, "://") ||
          absl::StrContains(word, "<<"))
        continue;
      const std::string path = JoinPath("/", word).substr(1);
      // A later rule may take something in again that is below it.
      if (path.empty() || !ignored_.Ignores(path) || ignored_.MayContainTaken(path)) continue;
      Add("CopyIgnoredFile", instruction,
          absl::StrCat("Attempting to ", instruction.keyword == Keyword::kAdd ? "Add" : "Copy",
                       " file \"", path, "\" that is excluded by .dockerignore"));
    }
  }

  // For stages that stand on this one.
  void Remember() {
    if (!stage_.empty()) stages_[stage_] = {has_shell_, has_workdir_};
  }

  const Dockerfile& file_;
  const engine::IgnoreRules& ignored_;
  std::vector<Lint> lints_;
  std::string stage_;
  bool has_shell_ = false;
  bool has_workdir_ = false;
  std::map<std::string, std::pair<bool, bool>> stages_;  // by name: the two above
  std::map<Keyword, const Instruction*> used_;
};

}  // namespace

absl::Status LintRules::Read(absl::string_view text, Options& options) {
  for (const absl::string_view option : absl::StrSplit(text, ';', absl::SkipWhitespace())) {
    const std::pair<std::string, std::string> field =
        absl::StrSplit(option, absl::MaxSplits('=', 1));
    const std::string name(absl::StripAsciiWhitespace(field.first));
    std::vector<std::string> rules;
    for (const absl::string_view rule : absl::StrSplit(field.second, ',', absl::SkipWhitespace()))
      rules.emplace_back(absl::StripAsciiWhitespace(rule));
    const bool all = rules.size() == 1 && absl::EqualsIgnoreCase(rules[0], "all");
    if (name == "skip") {
      options.skips_all = all;
      options.skips = std::move(rules);
    } else if (name == "experimental") {
      options.experiments_all = all;
      options.experiments = std::move(rules);
    } else if (name == "error") {
      if (!absl::SimpleAtob(absl::StripAsciiWhitespace(field.second), &options.error))
        return absl::InvalidArgumentError(absl::StrCat("failed to parse check option \"", option,
                                                       "\": write error=true or error=false"));
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("invalid check option \"", name, "\"",
                       DidYouMean(name, {"skip", "error", "experimental"})));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<LintRules> LintRules::Of(const Dockerfile& file, const BuildArgs& args) {
  LintRules rules;
  const auto argument = args.find(kCheckArgument);
  const bool given = argument != args.end() && argument->second.has_value();
  if (absl::Status read = Read(given ? *argument->second : file.check, rules.everywhere_);
      !read.ok())
    return absl::InvalidArgumentError(absl::StrCat(
        given ? kCheckArgument : absl::StrCat(file.file, ": # check"), ": ", read.message()));
  for (const Instruction& instruction : file.instructions) {
    for (absl::string_view comment : instruction.comments) {
      if (!absl::ConsumePrefix(&comment, "check=")) continue;
      Options options;
      // A comment that is no list of options is prose.
      if (Read(comment, options).ok()) rules.at_lines_[instruction.line] = std::move(options);
    }
  }
  return rules;
}

bool LintRules::Reports(const Lint& lint) const {
  static const Options& none = *new Options();
  const auto found = at_lines_.find(lint.line);
  const Options& here = found == at_lines_.end() ? none : found->second;
  for (const Options* options : {&everywhere_, &here}) {
    if (options->skips_all || Has(options->skips, lint.rule)) return false;
  }
  if (!Has(kExperimental, lint.rule)) return true;
  for (const Options* options : {&everywhere_, &here}) {
    if (options->experiments_all || Has(options->experiments, lint.rule)) return true;
  }
  return false;
}

std::vector<Lint> LintDockerfile(const Dockerfile& file, const engine::IgnoreRules& ignored) {
  return Linter(file, ignored).Run();
}

absl::Status LintFailure(const std::vector<Lint>& reported) {
  std::set<std::string> rules;
  for (const Lint& lint : reported) rules.insert(lint.rule);
  if (rules.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("lint violation found for rules: ", absl::StrJoin(rules, ", ")));
}

}  // namespace gantry::build
