#include "supervisor/build/dockerfile_parser.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

#include "base/status_macros.h"
#include "supervisor/build/dockerfile_lexer.h"

namespace gantry::build {
namespace {

constexpr size_t kMaxLineBytes = 65535;
constexpr size_t kMaxFileBytes = 16 << 20;
constexpr char kBom[] = "\xef\xbb\xbf";

constexpr std::array<absl::string_view, 18> kKeywords = {
    "ADD",    "ARG",   "CMD",         "COPY",  "ENTRYPOINT", "ENV",
    "EXPOSE", "FROM",  "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN",    "SHELL", "STOPSIGNAL",  "USER",  "VOLUME",     "WORKDIR"};

enum class FlagKind { kValue, kSwitch, kRepeated };
struct KnownFlag {
  absl::string_view name;
  FlagKind kind;
};

std::vector<KnownFlag> FlagsOf(Keyword keyword) {
  switch (keyword) {
    case Keyword::kFrom:
      return {{"platform", FlagKind::kValue}};
    case Keyword::kRun:
      return {{"mount", FlagKind::kRepeated},
              {"network", FlagKind::kValue},
              {"security", FlagKind::kValue},
              {"device", FlagKind::kRepeated}};
    case Keyword::kCopy:
      return {{"from", FlagKind::kValue},     {"chown", FlagKind::kValue},
              {"chmod", FlagKind::kValue},    {"link", FlagKind::kSwitch},
              {"parents", FlagKind::kSwitch}, {"exclude", FlagKind::kRepeated}};
    case Keyword::kAdd:
      return {{"chown", FlagKind::kValue},     {"chmod", FlagKind::kValue},
              {"link", FlagKind::kSwitch},     {"keep-git-dir", FlagKind::kSwitch},
              {"checksum", FlagKind::kValue},  {"unpack", FlagKind::kSwitch},
              {"exclude", FlagKind::kRepeated}};
    case Keyword::kHealthcheck:
      return {{"interval", FlagKind::kValue},
              {"timeout", FlagKind::kValue},
              {"start-period", FlagKind::kValue},
              {"start-interval", FlagKind::kValue},
              {"retries", FlagKind::kValue}};
    case Keyword::kArg:
    case Keyword::kCmd:
    case Keyword::kEntrypoint:
    case Keyword::kEnv:
    case Keyword::kExpose:
    case Keyword::kLabel:
    case Keyword::kMaintainer:
    case Keyword::kOnbuild:
    case Keyword::kShell:
    case Keyword::kStopsignal:
    case Keyword::kUser:
    case Keyword::kVolume:
    case Keyword::kWorkdir:
      return {};
  }
  return {};
}

absl::StatusOr<std::vector<Flag>> ReadFlags(Keyword keyword,
                                            const std::vector<std::string>& words) {
  const std::vector<KnownFlag> known = FlagsOf(keyword);
  std::vector<Flag> flags;
  std::set<std::string> seen;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const KnownFlag& flag) { return flag.name == name; });
    if (found == known.end()) {
      std::vector<std::string> names;
      for (const KnownFlag& flag : known) names.emplace_back(flag.name);
      return absl::InvalidArgumentError(
          absl::StrCat(KeywordName(keyword), ": unknown flag: --", name, DidYouMean(name, names)));
    }
    if (found->kind != FlagKind::kRepeated && !seen.insert(name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(KeywordName(keyword), ": duplicate flag specified: --", name));
    }
    Flag flag{name, equals == std::string::npos ? "" : word.substr(equals + 1)};
    if (found->kind == FlagKind::kSwitch) {
      if (equals == std::string::npos) flag.value = "true";
      const std::string value = absl::AsciiStrToLower(flag.value);
      if (value == "true" || value == "1" || value == "t") {
        flag.value = "true";
      } else if (value == "false" || value == "0" || value == "f") {
        flag.value = "false";
      } else {
        return absl::InvalidArgumentError(absl::StrCat(KeywordName(keyword),
                                                       ": expecting boolean value for flag --",
                                                       name, ", not: ", flag.value));
      }
    } else if (equals == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(KeywordName(keyword), ": missing a value on flag: --", name));
    }
    flags.push_back(std::move(flag));
  }
  return flags;
}

// True: `text` is a JSON array, whose strings are in `words`. What is no JSON is the shell form.
absl::StatusOr<bool> ReadJsonList(absl::string_view text, std::vector<std::string>& words) {
  if (!absl::StartsWith(text, "[")) return false;
  // Lists are flat: what nests deeper than that is not parsed, which would cost stack.
  if (std::count(text.begin(), text.end(), '[') > 4096) return false;
  const nlohmann::json list =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return false;
  std::vector<std::string> strings;
  for (const nlohmann::json& item : list) {
    if (!item.is_string()) {
      return absl::InvalidArgumentError(
          "when using JSON array syntax, arrays must be comprised of strings only");
    }
    strings.push_back(item.get<std::string>());
  }
  words = std::move(strings);
  return true;
}

// One word of the line that opens a here-document.
std::optional<Heredoc> ReadHeredocWord(absl::string_view word, bool& strip_tabs) {
  while (!word.empty() && absl::ascii_isdigit(static_cast<unsigned char>(word[0])))
    word.remove_prefix(1);
  if (!absl::ConsumePrefix(&word, "<<")) return std::nullopt;
  strip_tabs = absl::ConsumePrefix(&word, "-");
  word = TrimLeft(word);
  if (word.empty() || absl::StrContains(word, '<')) return std::nullopt;
  Heredoc heredoc;
  char quote = '\0';
  for (size_t i = 0; i < word.size(); ++i) {
    const char c = word[i];
    if (quote != '\0') {
      if (c == quote) {
        quote = '\0';
      } else {
        heredoc.name.push_back(c);
      }
    } else if (c == '"' || c == '\'') {
      quote = c;
      heredoc.expand = false;
    } else if (c == '\\' && i + 1 < word.size()) {
      heredoc.name.push_back(word[++i]);
    } else {
      heredoc.name.push_back(c);
    }
  }
  if (quote != '\0' || heredoc.name.empty()) return std::nullopt;
  return heredoc;
}

struct OpenHeredoc {
  Heredoc heredoc;
  bool strip_tabs = false;
};

std::vector<OpenHeredoc> HeredocsOf(const Instruction& instruction, char escape) {
  std::vector<OpenHeredoc> found;
  if (instruction.json) return found;
  absl::string_view text = instruction.text;
  if (instruction.keyword == Keyword::kOnbuild) {
    // "RUN --mount=... <<EOF": flags hold none, so the whole text may be searched.
    const std::string first = absl::AsciiStrToUpper(text.substr(0, text.find_first_of(" \t")));
    if (first != "RUN" && first != "COPY" && first != "ADD") return found;
    if (absl::StartsWith(TrimLeft(text.substr(first.size())), "[")) return found;
  } else if (instruction.keyword != Keyword::kRun && instruction.keyword != Keyword::kCopy &&
             instruction.keyword != Keyword::kAdd) {
    return found;
  }
  for (const std::string& word : QuotedWords(text, escape)) {
    bool strip_tabs = false;
    if (std::optional<Heredoc> one = ReadHeredocWord(word, strip_tabs))
      found.push_back({*std::move(one), strip_tabs});
  }
  return found;
}

absl::Status ReadHeredocBody(Lines& lines, OpenHeredoc& open) {
  absl::string_view raw;
  while (lines.Next(raw)) {
    absl::string_view line = raw;
    if (open.strip_tabs) {
      while (!line.empty() && line.front() == '\t') line.remove_prefix(1);
    }
    if (TrimLineEnd(line) == open.heredoc.name) return absl::OkStatus();
    absl::StrAppend(&open.heredoc.body, line, "\n");
  }
  return absl::InvalidArgumentError(absl::StrCat("unterminated heredoc ", open.heredoc.name));
}

// NAME=value..., or the older NAME value.
absl::Status ReadPairs(Keyword keyword, absl::string_view text, char escape,
                       Instruction& instruction, std::vector<Lint>* lints) {
  const std::vector<std::string> words = QuotedWords(text, escape);
  if (words.empty())
    return absl::InvalidArgumentError(
        absl::StrCat(KeywordName(keyword), " requires at least one argument"));
  if (!absl::StrContains(words[0], '=')) {
    if (words.size() < 2)
      return absl::InvalidArgumentError(
          absl::StrCat(KeywordName(keyword), " must have two arguments"));
    if (lints != nullptr) {
      lints->push_back(
          {"LegacyKeyValueFormat",
           absl::StrCat("\"", KeywordName(keyword), " key=value\" should be used ",
                        "instead of legacy \"", KeywordName(keyword), " key value\" format"),
           instruction.line});
    }
    instruction.pairs.emplace_back(words[0], std::string(TrimSpace(text.substr(words[0].size()))));
    return absl::OkStatus();
  }
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("Syntax error - can't find = in \"", word,
                                                     "\". Must be of the form: name=value"));
    }
    if (equals == 0)
      return absl::InvalidArgumentError(
          absl::StrCat(KeywordName(keyword), " names can not be blank"));
    instruction.pairs.emplace_back(word.substr(0, equals), word.substr(equals + 1));
  }
  return absl::OkStatus();
}

absl::Status CheckOnbuild(absl::string_view text) {
  const std::string first = absl::AsciiStrToUpper(text.substr(0, text.find_first_of(" \t\n")));
  if (first == "ONBUILD")
    return absl::InvalidArgumentError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (first == "FROM" || first == "MAINTAINER")
    return absl::InvalidArgumentError(absl::StrCat(first, " isn't allowed as an ONBUILD trigger"));
  return absl::OkStatus();
}

absl::Status ReadHealthcheck(Instruction& instruction) {
  absl::string_view text = instruction.text;
  const std::string type = absl::AsciiStrToUpper(text.substr(0, text.find_first_of(" \t\n")));
  if (type.empty()) return absl::InvalidArgumentError("HEALTHCHECK requires at least one argument");
  const absl::string_view command = TrimSpace(text.substr(type.size()));
  if (type == "NONE") {
    if (!command.empty()) return absl::InvalidArgumentError("HEALTHCHECK NONE takes no arguments");
    instruction.words = {"NONE"};
    return absl::OkStatus();
  }
  if (type != "CMD") {
    return absl::InvalidArgumentError(
        absl::StrCat("Unknown type \"", type, "\" in HEALTHCHECK (try CMD)"));
  }
  GANTRY_ASSIGN_OR_RETURN(instruction.json, ReadJsonList(command, instruction.words));
  if (!instruction.json) instruction.words = {std::string(command)};
  if (command.empty() || instruction.words.empty())
    return absl::InvalidArgumentError("Missing command after HEALTHCHECK CMD");
  return absl::OkStatus();
}

absl::Status NeedsOne(const Instruction& instruction) {
  if (!instruction.text.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(KeywordName(instruction.keyword), " requires exactly one argument"));
}

// What follows the keyword and the flags.
absl::Status ReadArguments(char escape, Instruction& instruction, std::vector<Lint>* lints) {
  const absl::string_view name = KeywordName(instruction.keyword);
  switch (instruction.keyword) {
    case Keyword::kRun:
    case Keyword::kCmd:
    case Keyword::kEntrypoint: {
      GANTRY_ASSIGN_OR_RETURN(instruction.json, ReadJsonList(instruction.text, instruction.words));
      if (instruction.keyword == Keyword::kRun && instruction.text.empty())
        return absl::InvalidArgumentError("RUN requires at least one argument");
      return absl::OkStatus();
    }
    case Keyword::kShell: {
      GANTRY_ASSIGN_OR_RETURN(instruction.json, ReadJsonList(instruction.text, instruction.words));
      if (instruction.json && instruction.words.empty())
        return absl::InvalidArgumentError("SHELL requires at least one argument");
      if (!instruction.json)
        return absl::InvalidArgumentError("SHELL requires the arguments to be in JSON form");
      return absl::OkStatus();
    }
    case Keyword::kAdd:
    case Keyword::kCopy: {
      GANTRY_ASSIGN_OR_RETURN(instruction.json, ReadJsonList(instruction.text, instruction.words));
      if (!instruction.json) instruction.words = BlankWords(instruction.text);
      if (instruction.words.empty())
        return absl::InvalidArgumentError(absl::StrCat(name, " requires at least two arguments"));
      if (instruction.words.size() == 1) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, " requires at least two arguments, but only one was provided. ",
                         "Destination could not be determined"));
      }
      return absl::OkStatus();
    }
    case Keyword::kVolume: {
      GANTRY_ASSIGN_OR_RETURN(instruction.json, ReadJsonList(instruction.text, instruction.words));
      if (!instruction.json) instruction.words = BlankWords(instruction.text);
      if (instruction.words.empty())
        return absl::InvalidArgumentError("VOLUME requires at least one argument");
      return absl::OkStatus();
    }
    case Keyword::kFrom: {
      instruction.words = BlankWords(instruction.text);
      const size_t n = instruction.words.size();
      if (n != 1 && !(n == 3 && absl::EqualsIgnoreCase(instruction.words[1], "AS")))
        return absl::InvalidArgumentError("FROM requires either one or three arguments");
      return absl::OkStatus();
    }
    case Keyword::kExpose: {
      instruction.words = BlankWords(instruction.text);
      if (instruction.words.empty())
        return absl::InvalidArgumentError("EXPOSE requires at least one argument");
      return absl::OkStatus();
    }
    case Keyword::kArg: {
      instruction.words = QuotedWords(instruction.text, escape);
      if (instruction.words.empty())
        return absl::InvalidArgumentError("ARG requires at least one argument");
      for (const std::string& word : instruction.words) {
        if (word[0] == '=') return absl::InvalidArgumentError("ARG names can not be blank");
      }
      return absl::OkStatus();
    }
    case Keyword::kEnv:
    case Keyword::kLabel:
      return ReadPairs(instruction.keyword, instruction.text, escape, instruction, lints);
    case Keyword::kHealthcheck:
      return ReadHealthcheck(instruction);
    case Keyword::kOnbuild:
      if (instruction.text.empty())
        return absl::InvalidArgumentError("ONBUILD requires at least one argument");
      return CheckOnbuild(instruction.text);
    case Keyword::kMaintainer:
      if (lints != nullptr) {
        lints->push_back({"MaintainerDeprecated",
                          "Maintainer instruction is deprecated in favor of using label",
                          instruction.line});
      }
      return NeedsOne(instruction);
    case Keyword::kStopsignal:
    case Keyword::kUser:
    case Keyword::kWorkdir:
      return NeedsOne(instruction);
  }
  return absl::OkStatus();
}

// A whole instruction on one line.
absl::StatusOr<Instruction> ReadInstruction(absl::string_view line, int number, char escape,
                                            std::vector<Lint>* lints) {
  line = TrimSpace(line);
  Instruction instruction;
  instruction.line = number;
  instruction.original = std::string(line);
  size_t end = 0;
  while (end < line.size() && !IsBlank(line[end])) ++end;
  const std::string written(line.substr(0, end));
  const std::string name = absl::AsciiStrToUpper(written);
  const auto found = std::find(kKeywords.begin(), kKeywords.end(), name);
  if (found == kKeywords.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown instruction: ", written.substr(0, 64),
                     DidYouMean(name, {kKeywords.begin(), kKeywords.end()})));
  }
  instruction.keyword = static_cast<Keyword>(found - kKeywords.begin());
  absl::string_view rest = TrimSpace(line.substr(end));
  const std::vector<std::string> flags = TakeFlagWords(rest, escape);
  instruction.text = std::string(rest);
  const bool ignores_flags =
      instruction.keyword == Keyword::kArg || instruction.keyword == Keyword::kStopsignal ||
      (instruction.keyword == Keyword::kHealthcheck && absl::EqualsIgnoreCase(rest, "NONE"));
  if (!ignores_flags) {
    GANTRY_ASSIGN_OR_RETURN(instruction.flags, ReadFlags(instruction.keyword, flags));
  }
  GANTRY_RETURN_IF_ERROR(ReadArguments(escape, instruction, lints));
  return instruction;
}

absl::Status ReadHeredocs(Lines& lines, char escape, Instruction& instruction) {
  for (OpenHeredoc& open : HeredocsOf(instruction, escape)) {
    GANTRY_RETURN_IF_ERROR(ReadHeredocBody(lines, open));
    instruction.heredocs.push_back(std::move(open.heredoc));
  }
  if ((instruction.keyword == Keyword::kCopy || instruction.keyword == Keyword::kAdd) &&
      !instruction.heredocs.empty()) {
    bool strip_tabs = false;
    if (ReadHeredocWord(instruction.words.back(), strip_tabs)) {
      return absl::InvalidArgumentError(absl::StrCat(KeywordName(instruction.keyword),
                                                     " cannot accept a heredoc as a destination"));
    }
  }
  return absl::OkStatus();
}

// Directives, up to the first line that is none. Leaves `lines` behind the last one.
absl::Status ReadDirectives(absl::string_view& text, int& lines_taken, Dockerfile& out) {
  std::set<std::string> seen;
  while (true) {
    const size_t end = text.find('\n');
    std::string name;
    std::string value;
    if (!ReadDirective(text.substr(0, end), name, value)) return absl::OkStatus();
    if (name != "syntax" && name != "escape" && name != "check") return absl::OkStatus();
    if (!seen.insert(name).second) {
      return DockerfileError(out.file, lines_taken + 1,
                             absl::StrCat("only one ", name, " parser directive can be used"));
    }
    if (name == "escape") {
      if (value != "\\" && value != "`") {
        return DockerfileError(
            out.file, lines_taken + 1,
            absl::StrCat("invalid escape token '", value, "' does not match ` or \\"));
      }
      out.escape = value[0];
    } else if (name == "syntax") {
      out.syntax = value.substr(0, value.find_first_of(" \t"));
    } else {
      out.check = value;
    }
    ++lines_taken;
    text = end == absl::string_view::npos ? absl::string_view() : text.substr(end + 1);
  }
}

}  // namespace

absl::string_view KeywordName(Keyword keyword) { return kKeywords[static_cast<size_t>(keyword)]; }

const std::string* Instruction::FlagValue(absl::string_view name) const {
  const std::string* value = nullptr;
  for (const Flag& flag : flags) {
    if (flag.name == name) value = &flag.value;
  }
  return value;
}

std::vector<std::string> Instruction::FlagValues(absl::string_view name) const {
  std::vector<std::string> values;
  for (const Flag& flag : flags) {
    if (flag.name == name) values.push_back(flag.value);
  }
  return values;
}

bool Instruction::HasSwitch(absl::string_view name) const {
  const std::string* value = FlagValue(name);
  return value != nullptr && *value == "true";
}

absl::Status DockerfileError(absl::string_view file, int line, absl::string_view cause) {
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": dockerfile parse error on line ", line, ": ", cause));
}

std::string DidYouMean(absl::string_view given, const std::vector<std::string>& known) {
  size_t best = 3;
  std::string nearest;
  if (given.size() > 64) return "";
  for (const std::string& candidate : known) {
    // Distance of Levenshtein, a row at a time; two neighbours that changed places count as one.
    std::vector<size_t> row(candidate.size() + 1);
    std::vector<size_t> before = row;
    std::vector<size_t> next = row;
    for (size_t k = 0; k < row.size(); ++k) row[k] = k;
    for (size_t i = 1; i <= given.size(); ++i) {
      next[0] = i;
      for (size_t k = 1; k < row.size(); ++k) {
        const size_t change = row[k - 1] + (given[i - 1] == candidate[k - 1] ? 0 : 1);
        next[k] = std::min({row[k] + 1, next[k - 1] + 1, change});
        if (i > 1 && k > 1 && given[i - 1] == candidate[k - 2] && given[i - 2] == candidate[k - 1])
          next[k] = std::min(next[k], before[k - 2] + 1);
      }
      before = std::exchange(row, next);
    }
    if (row.back() < best) {
      best = row.back();
      nearest = candidate;
    }
  }
  return nearest.empty() ? "" : absl::StrCat(" (did you mean ", nearest, "?)");
}

absl::StatusOr<Dockerfile> ParseDockerfile(absl::string_view text, absl::string_view file) {
  Dockerfile out;
  out.file = std::string(file);
  if (text.size() > kMaxFileBytes)
    return absl::InvalidArgumentError(absl::StrCat(file, ": larger than 16 MiB"));
  absl::ConsumePrefix(&text, kBom);
  if (TrimSpace(text).empty())
    return absl::InvalidArgumentError(absl::StrCat("the Dockerfile (", file, ") cannot be empty"));
  int directives = 0;
  GANTRY_RETURN_IF_ERROR(ReadDirectives(text, directives, out));
  Lines lines(text);
  const auto number = [&] { return lines.number() + directives; };
  absl::string_view raw;
  std::vector<std::string> comments;
  while (lines.Next(raw)) {
    if (raw.size() > kMaxLineBytes) {
      return DockerfileError(file, number(),
                             "dockerfile line greater than max allowed size of 65535");
    }
    if (TrimSpace(raw).empty()) {
      comments.clear();
      continue;
    }
    if (IsComment(raw)) {
      comments.emplace_back(TrimSpace(TrimLeft(raw).substr(1)));
      continue;
    }
    const int first = number();
    absl::string_view piece = TrimLeft(TrimLineEnd(raw));
    std::string joined;
    bool continues = TakeContinuation(piece, out.escape);
    absl::StrAppend(&joined, piece);
    bool empty_line = false;
    while (continues && lines.Next(raw)) {
      if (raw.size() > kMaxLineBytes) {
        return DockerfileError(file, number(),
                               "dockerfile line greater than max allowed size of 65535");
      }
      if (IsComment(raw)) continue;
      if (TrimSpace(raw).empty()) {
        empty_line = true;
        continue;
      }
      piece = TrimLineEnd(raw);
      continues = TakeContinuation(piece, out.escape);
      absl::StrAppend(&joined, piece);
    }
    if (empty_line)
      out.lints.push_back({"NoEmptyContinuation", "Empty continuation line", number()});
    absl::StatusOr<Instruction> instruction =
        ReadInstruction(joined, first, out.escape, &out.lints);
    absl::Status read = instruction.status();
    if (read.ok()) read = ReadHeredocs(lines, out.escape, *instruction);
    if (!read.ok()) return DockerfileError(file, first, read.message());
    instruction->comments = std::exchange(comments, {});
    out.instructions.push_back(*std::move(instruction));
  }
  if (out.instructions.empty())
    return absl::InvalidArgumentError(absl::StrCat(file, ": file with no instructions"));
  return out;
}

absl::StatusOr<Instruction> ParseInstruction(absl::string_view text, absl::string_view what) {
  Lines lines(text);
  absl::string_view first;
  if (!lines.Next(first))
    return absl::InvalidArgumentError(absl::StrCat(what, ": an empty instruction"));
  absl::StatusOr<Instruction> instruction = ReadInstruction(TrimLineEnd(first), 1, '\\', nullptr);
  absl::Status read = instruction.status();
  if (read.ok()) read = ReadHeredocs(lines, '\\', *instruction);
  if (!read.ok())
    return absl::InvalidArgumentError(absl::StrCat(what, ": \"", text, "\": ", read.message()));
  return instruction;
}

}  // namespace gantry::build
