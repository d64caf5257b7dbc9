// The text of a Dockerfile as instructions: directives, comments, continued lines, here-documents,
// flags and the JSON form of lists. Variables are not expanded here (dockerfile_words.h).
//
//   text -> ParseDockerfile() -> Dockerfile -> PlanBuild() (build_plan.h)
//
// Free functions on values, safe to call from any thread. Errors are kInvalidArgument and read
// "FILE: dockerfile parse error on line N: CAUSE (did you mean X?)".
// Spec: Dockerfile reference.
#ifndef GANTRY_SUPERVISOR_BUILD_DOCKERFILE_PARSER_H_
#define GANTRY_SUPERVISOR_BUILD_DOCKERFILE_PARSER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::build {

enum class Keyword {
  kAdd,
  kArg,
  kCmd,
  kCopy,
  kEntrypoint,
  kEnv,
  kExpose,
  kFrom,
  kHealthcheck,
  kLabel,
  kMaintainer,
  kOnbuild,
  kRun,
  kShell,
  kStopsignal,
  kUser,
  kVolume,
  kWorkdir,
};
absl::string_view KeywordName(Keyword keyword);  // "RUN"

struct Flag {
  std::string name;
  std::string value;  // quotes removed, variables not expanded; "true" or "false" of a switch

  friend bool operator==(const Flag&, const Flag&) = default;
};

struct Heredoc {
  std::string name;    // the delimiter without its quotes
  std::string body;    // whole lines; leading tabs are gone after "<<-"
  bool expand = true;  // false: the delimiter was quoted

  friend bool operator==(const Heredoc&, const Heredoc&) = default;
};

struct Instruction {
  Keyword keyword = Keyword::kRun;
  int line = 0;  // of its first character, from 1
  std::vector<Flag> flags;
  // What follows the flags, as one line. Here-documents are not in it, their delimiters are.
  std::string text;
  // The list of the JSON form, if `json`; else the words of FROM, EXPOSE, ADD, COPY, VOLUME and
  // ARG. HEALTHCHECK: the words or text after CMD, {"NONE"}.
  std::vector<std::string> words;
  bool json = false;
  // Of ENV and LABEL, unexpanded.
  std::vector<std::pair<std::string, std::string>> pairs;
  std::vector<Heredoc> heredocs;
  // The whole instruction on one line, as progress shows it.
  std::string original;
  // Comments on the lines directly above it, without their "#".
  std::vector<std::string> comments;

  // The last flag of that name; null if there is none.
  const std::string* FlagValue(absl::string_view name) const;
  std::vector<std::string> FlagValues(absl::string_view name) const;
  bool HasSwitch(absl::string_view name) const;
};

// Something that works and is most likely not what was meant.
struct Lint {
  std::string rule;  // "NoEmptyContinuation"
  std::string text;
  int line = 0;
};

struct Dockerfile {
  std::string file;  // for messages
  char escape = '\\';
  std::string syntax;  // of the directive; "" if there is none
  std::string check;   // the same, see dockerfile_lint.h
  std::vector<Instruction> instructions;
  std::vector<Lint> lints;
};

// `file` names it in messages. kInvalidArgument: empty, no instruction in it, or malformed.
absl::StatusOr<Dockerfile> ParseDockerfile(absl::string_view text, absl::string_view file);

// One instruction: a trigger of ONBUILD or a `--change`, here-documents included. Always with the
// default escape character.
absl::StatusOr<Instruction> ParseInstruction(absl::string_view text, absl::string_view what);

// The error of an instruction, in the form above.
absl::Status DockerfileError(absl::string_view file, int line, absl::string_view cause);

// " (did you mean X?)" for the nearest of `known` that differs in at most two characters; "" if
// none does.
std::string DidYouMean(absl::string_view given, const std::vector<std::string>& known);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_DOCKERFILE_PARSER_H_
