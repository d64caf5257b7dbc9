#include "supervisor/oci/config_change.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "base/field_error.h"
#include "base/status_macros.h"
#include "supervisor/oci/json_document.h"

namespace gantry::oci {
namespace {

constexpr size_t kMaxInstructionBytes = 64 << 10;

absl::Status Malformed(absl::string_view what, absl::string_view why) {
  return FieldError(absl::StrCat("changes.", what), why);
}

std::string Value(const std::vector<std::string>& env, absl::string_view name) {
  for (const std::string& entry : env) {
    absl::string_view text = entry;
    if (absl::ConsumePrefix(&text, name) && absl::ConsumePrefix(&text, "=")) {
      return std::string(text);
    }
  }
  return "";
}

bool IsNameCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
}

// A dollar sign's worth of `text`, which starts after it.
std::string Expand(absl::string_view& text, const std::vector<std::string>& env) {
  absl::string_view rest = text;
  const bool braces = absl::ConsumePrefix(&rest, "{");
  size_t length = 0;
  while (length < rest.size() && IsNameCharacter(rest[length])) ++length;
  if (length == 0 || (braces && (length == rest.size() || rest[length] != '}'))) return "$";
  std::string value = Value(env, rest.substr(0, length));
  rest.remove_prefix(length + (braces ? 1 : 0));
  text = rest;
  return value;
}

// Words as a Dockerfile separates them: quotes group, a backslash takes the next character as it
// is.
absl::StatusOr<std::vector<std::string>> Words(absl::string_view what, absl::string_view text,
                                               const std::vector<std::string>& env) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = '\0';
  while (!text.empty()) {
    const char c = text[0];
    text.remove_prefix(1);
    if (quote == '\0' && absl::ascii_isspace(static_cast<unsigned char>(c))) {
      if (in_word) words.push_back(std::exchange(word, ""));
      in_word = false;
      continue;
    }
    in_word = true;
    if (c == quote) {
      quote = '\0';
    } else if (quote == '\0' && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == '\\' && quote != '\'' && !text.empty()) {
      word.push_back(text[0]);
      text.remove_prefix(1);
    } else if (c == '$' && quote != '\'') {
      word += Expand(text, env);
    } else {
      word.push_back(c);
    }
  }
  if (quote != '\0')
    return Malformed(what, absl::StrCat("a ", std::string(1, quote), " is not closed"));
  if (in_word) words.push_back(std::move(word));
  return words;
}

// ["a", "b"]; false: not that form, which is no mistake.
bool JsonWords(absl::string_view text, std::vector<std::string>& out) {
  if (!absl::StartsWith(text, "[")) return false;
  absl::StatusOr<nlohmann::json> list = ParseJson(text, "list");
  if (!list.ok() || !list->is_array()) return false;
  std::vector<std::string> words;
  for (const nlohmann::json& item : *list) {
    if (!item.is_string()) return false;
    words.push_back(item.get<std::string>());
  }
  out = std::move(words);
  return true;
}

std::vector<std::string> CommandLine(absl::string_view text, const ImageConfig& config) {
  std::vector<std::string> words;
  if (JsonWords(text, words)) return words;
  words = config.shell.empty() ? std::vector<std::string>{"/bin/sh", "-c"} : config.shell;
  words.emplace_back(text);
  return words;
}

// NAME=value..., or the older NAME value.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> Pairs(
    absl::string_view what, absl::string_view text, const std::vector<std::string>& env) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> words, Words(what, text, env));
  std::vector<std::pair<std::string, std::string>> pairs;
  if (!words.empty() && !absl::StrContains(words[0], '=')) {
    if (words.size() < 2) return Malformed(what, "expected NAME=value");
    const std::string name = words[0];
    words.erase(words.begin());
    std::string value;
    for (const std::string& word : words) absl::StrAppend(&value, value.empty() ? "" : " ", word);
    pairs.emplace_back(name, std::move(value));
    return pairs;
  }
  for (const std::string& word : words) {
    const size_t split = word.find('=');
    if (split == std::string::npos || split == 0) {
      return Malformed(what, absl::StrCat("\"", word, "\" is not NAME=value"));
    }
    pairs.emplace_back(word.substr(0, split), word.substr(split + 1));
  }
  return pairs;
}

absl::Status SetEnvironment(absl::string_view text, ImageConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(auto pairs, Pairs("ENV", text, config.env));
  for (const auto& [name, value] : pairs) {
    const std::string entry = absl::StrCat(name, "=", value);
    bool found = false;
    for (std::string& have : config.env) {
      if (!absl::StartsWith(have, name + "=")) continue;
      have = entry;
      found = true;
    }
    if (!found) config.env.push_back(entry);
  }
  return absl::OkStatus();
}

absl::Status ExposePort(absl::string_view word, ImageConfig& config) {
  std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(word, absl::MaxSplits('/', 1));
  const absl::string_view protocol = halves.second.empty() ? "tcp" : halves.second;
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
    return Malformed("EXPOSE", absl::StrCat("\"", word, "\": there is tcp, udp and sctp"));
  }
  const std::pair<absl::string_view, absl::string_view> range =
      absl::StrSplit(halves.first, absl::MaxSplits('-', 1));
  uint32_t first = 0, last = 0;
  if (!absl::SimpleAtoi(range.first, &first) ||
      !absl::SimpleAtoi(range.second.empty() ? range.first : range.second, &last) || first == 0 ||
      last > 65535 || first > last) {
    return Malformed("EXPOSE", absl::StrCat("\"", word, "\" is not a port or a range of ports"));
  }
  for (uint32_t port = first; port <= last; ++port) {
    config.exposed_ports.insert(absl::StrCat(port, "/", protocol));
  }
  return absl::OkStatus();
}

absl::Status SetHealthCheck(absl::string_view text, ImageConfig& config) {
  HealthCheck check;
  while (absl::ConsumePrefix(&text, "--")) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(text, absl::MaxSplits(' ', 1));
    const std::pair<absl::string_view, absl::string_view> option =
        absl::StrSplit(parts.first, absl::MaxSplits('=', 1));
    text = absl::StripLeadingAsciiWhitespace(parts.second);
    absl::Duration* duration = option.first == "interval"         ? &check.interval
                               : option.first == "timeout"        ? &check.timeout
                               : option.first == "start-period"   ? &check.start_period
                               : option.first == "start-interval" ? &check.start_interval
                                                                  : nullptr;
    const bool good =
        duration != nullptr
            ? absl::ParseDuration(option.second, duration) && *duration >= absl::Milliseconds(1)
            : option.first == "retries" && absl::SimpleAtoi(option.second, &check.retries) &&
                  check.retries > 0;
    if (!good) return Malformed("HEALTHCHECK", absl::StrCat("option ", parts.first));
  }
  if (absl::EqualsIgnoreCase(text, "NONE")) {
    check.test = {"NONE"};
  } else {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(text, absl::MaxSplits(' ', 1));
    const absl::string_view command = absl::StripAsciiWhitespace(parts.second);
    if (!absl::EqualsIgnoreCase(parts.first, "CMD") || command.empty()) {
      return Malformed("HEALTHCHECK", "expected NONE, or CMD and a command");
    }
    std::vector<std::string> words;
    if (JsonWords(command, words)) {
      check.test = {"CMD"};
      check.test.insert(check.test.end(), words.begin(), words.end());
    } else {
      check.test = {"CMD-SHELL", std::string(command)};
    }
  }
  config.health_check = std::move(check);
  return absl::OkStatus();
}

absl::Status Apply(const std::string& verb, absl::string_view text, ImageConfig& config) {
  if (verb == "CMD") {
    config.cmd = CommandLine(text, config);
    return absl::OkStatus();
  }
  if (verb == "ENTRYPOINT") {
    config.entrypoint = CommandLine(text, config);
    return absl::OkStatus();
  }
  if (verb == "ENV") return SetEnvironment(text, config);
  if (verb == "HEALTHCHECK") return SetHealthCheck(text, config);
  if (verb == "ONBUILD") {
    config.on_build.emplace_back(text);
    return absl::OkStatus();
  }
  if (verb == "LABEL") {
    GANTRY_ASSIGN_OR_RETURN(auto pairs, Pairs(verb, text, config.env));
    for (const auto& [name, value] : pairs) config.labels[name] = value;
    return absl::OkStatus();
  }
  std::vector<std::string> words;
  if (verb != "VOLUME" || !JsonWords(text, words)) {
    GANTRY_ASSIGN_OR_RETURN(words, Words(verb, text, config.env));
  }
  if (verb == "EXPOSE") {
    for (const std::string& word : words) GANTRY_RETURN_IF_ERROR(ExposePort(word, config));
    return absl::OkStatus();
  }
  if (verb == "VOLUME") {
    for (const std::string& word : words) {
      if (word.empty()) return Malformed(verb, "an empty path");
      config.volumes.insert(word);
    }
    return absl::OkStatus();
  }
  if (words.size() != 1 || words[0].empty()) return Malformed(verb, "expected one word");
  if (verb == "USER") config.user = words[0];
  if (verb == "STOPSIGNAL") config.stop_signal = words[0];
  if (verb == "WORKDIR") {
    const std::string base = config.working_dir.empty() ? "" : config.working_dir;
    config.working_dir =
        absl::StartsWith(words[0], "/") ? words[0] : absl::StrCat(base, "/", words[0]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyChange(absl::string_view instruction, ImageConfig& config) {
  static constexpr const char* kKnown[] = {"CMD",    "ENTRYPOINT", "ENV",        "EXPOSE",
                                           "LABEL",  "ONBUILD",    "STOPSIGNAL", "USER",
                                           "VOLUME", "WORKDIR",    "HEALTHCHECK"};
  instruction = absl::StripAsciiWhitespace(instruction);
  if (instruction.size() > kMaxInstructionBytes ||
      instruction.find('\0') != absl::string_view::npos) {
    return Malformed(instruction.substr(0, 16), "too long, or with a NUL byte");
  }
  size_t end = 0;
  while (end < instruction.size() &&
         !absl::ascii_isspace(static_cast<unsigned char>(instruction[end])))
    ++end;
  const std::string verb = absl::AsciiStrToUpper(instruction.substr(0, end));
  const absl::string_view text = absl::StripAsciiWhitespace(instruction.substr(end));
  bool known = false;
  for (const char* name : kKnown) known = known || verb == name;
  if (!known) {
    return Malformed(absl::StrCat("\"", verb.substr(0, 32), "\""),
                     "only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, "
                     "USER, VOLUME and WORKDIR change an image's configuration");
  }
  if (text.empty()) return Malformed(verb, "needs an argument");
  ImageConfig changed = config;
  GANTRY_RETURN_IF_ERROR(Apply(verb, text, changed));
  config = std::move(changed);
  return absl::OkStatus();
}

}  // namespace gantry::oci
