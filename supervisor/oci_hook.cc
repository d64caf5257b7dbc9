#include "supervisor/oci_hook.h"

#include <errno.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxStateBytes = 4 << 20;
constexpr size_t kMaxConfigBytes = 16 << 20;

std::string Text(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

absl::StatusOr<Json> ParseObject(absl::string_view text, absl::string_view what) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is not a JSON object"));
  }
  return json;
}

absl::StatusOr<std::string> ValueOf(absl::string_view placeholder, const HookState& state) {
  absl::string_view word = placeholder;
  // As in Go's templates a dash at the braces takes space around them away; there is nothing here
  // that it could take.
  if (absl::StartsWith(word, "- ")) word.remove_prefix(2);
  if (absl::EndsWith(word, " -")) word.remove_suffix(2);
  word = absl::StripAsciiWhitespace(word);
  if (word == "id") return state.id;
  if (word == "bundle") return state.bundle;
  if (word == "rootfs") return state.rootfs;
  if (word == "pid") return state.pid;
  if (word == "status") return state.status;
  if (absl::ConsumePrefix(&word, "annotation")) {
    word = absl::StripAsciiWhitespace(word);
    const bool quoted = word.size() >= 2 && word.front() == word.back() &&
                        (word.front() == '"' || word.front() == '`');
    if (quoted) {
      const auto it = state.annotations.find(std::string(word.substr(1, word.size() - 2)));
      return it == state.annotations.end() ? "" : it->second;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown placeholder {{", placeholder,
                   "}}; known: id, bundle, rootfs, pid, status, annotation \"NAME\""));
}

absl::StatusOr<std::string> ReadInput() {
  std::string text;
  char buffer[4096];
  while (true) {
    const ssize_t count = read(STDIN_FILENO, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoToStatus(errno, "read the container's state");
    if (count == 0) return text;
    text.append(buffer, static_cast<size_t>(count));
    if (text.size() > kMaxStateBytes) {
      return absl::InvalidArgumentError("the container's state is too long");
    }
  }
}

}  // namespace

absl::StatusOr<HookState> ReadHookState(absl::string_view state_json,
                                        absl::string_view config_json) {
  GANTRY_ASSIGN_OR_RETURN(const Json json, ParseObject(state_json, "the container's state"));
  GANTRY_ASSIGN_OR_RETURN(const Json config, ParseObject(config_json, "the container's spec"));
  HookState state;
  state.id = Text(json, "id");
  state.bundle = Text(json, "bundle");
  state.status = Text(json, "status");
  const auto pid = json.find("pid");
  state.pid = absl::StrCat(pid != json.end() && pid->is_number_integer() ? pid->get<int64_t>() : 0);
  if (const auto all = json.find("annotations"); all != json.end() && all->is_object()) {
    for (const auto& [name, value] : all->items()) {
      if (value.is_string()) state.annotations[name] = value.get<std::string>();
    }
  }
  if (const auto root = config.find("root"); root != config.end() && root->is_object()) {
    state.rootfs = Text(*root, "path");
  }
  if (!absl::StartsWith(state.rootfs, "/")) {
    state.rootfs = absl::StrCat(state.bundle, "/", state.rootfs);
  }
  return state;
}

absl::StatusOr<std::string> FillPlaceholders(absl::string_view text, const HookState& state) {
  std::string filled;
  while (true) {
    const size_t begin = text.find("{{");
    absl::StrAppend(&filled, text.substr(0, begin));
    if (begin == absl::string_view::npos) return filled;
    text.remove_prefix(begin + 2);
    const size_t end = text.find("}}");
    if (end == absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat("{{", text, ": no }} follows"));
    }
    GANTRY_ASSIGN_OR_RETURN(const std::string value, ValueOf(text.substr(0, end), state));
    filled += value;
    text.remove_prefix(end + 2);
  }
}

absl::Status RunOciHook(int argc, char** argv) {
  if (argc > 0 && std::strcmp(argv[0], "--") == 0) {
    --argc;
    ++argv;
  }
  if (argc <= 0) return absl::InvalidArgumentError("no program given");
  GANTRY_ASSIGN_OR_RETURN(const std::string state_json, ReadInput());
  GANTRY_ASSIGN_OR_RETURN(const Json json, ParseObject(state_json, "the container's state"));
  GANTRY_ASSIGN_OR_RETURN(
      const std::string config_json,
      ReadFile(absl::StrCat(Text(json, "bundle"), "/config.json"), kMaxConfigBytes));
  GANTRY_ASSIGN_OR_RETURN(const HookState state, ReadHookState(state_json, config_json));

  std::vector<std::string> words;
  for (int i = 0; i < argc; ++i) {
    GANTRY_ASSIGN_OR_RETURN(std::string word, FillPlaceholders(argv[i], state));
    words.push_back(std::move(word));
  }
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    // A variable that only looks like a template is handed on as it is.
    absl::StatusOr<std::string> filled = FillPlaceholders(*variable, state);
    variables.push_back(filled.ok() ? *std::move(filled) : *variable);
  }
  std::vector<char*> program;
  std::vector<char*> environment;
  for (std::string& word : words) program.push_back(word.data());
  for (std::string& variable : variables) environment.push_back(variable.data());
  program.push_back(nullptr);
  environment.push_back(nullptr);
  execvpe(program[0], program.data(), environment.data());
  return ErrnoToStatus(errno, absl::StrCat("execute ", words[0]));
}

}  // namespace gantry
