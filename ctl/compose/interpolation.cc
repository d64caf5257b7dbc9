#include "ctl/compose/interpolation.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::compose {
namespace {

// Defaults in defaults; a person writes two or three.
constexpr int kMaxNesting = 32;
// What one value may become: a default that repeats variables grows with each level.
constexpr size_t kMaxResultBytes = 1 << 20;

bool NameStart(char c) { return absl::ascii_isalpha(c) || c == '_'; }
bool NameChar(char c) { return absl::ascii_isalnum(c) || c == '_'; }

absl::Status BadFormat(absl::string_view rest) {
  return absl::InvalidArgumentError(
      absl::StrCat("invalid interpolation format.\nYou may need to escape any $ with another $.\n",
                   rest.substr(0, 80)));
}

class Template {
 public:
  Template(const Lookup& lookup, const OnUnset& on_unset) : lookup_(lookup), on_unset_(on_unset) {}

  absl::StatusOr<std::string> Expand(absl::string_view text, int depth) {
    if (depth > kMaxNesting) {
      return absl::InvalidArgumentError(
          absl::StrCat("variables are nested deeper than ", kMaxNesting, " levels"));
    }
    std::string out;
    while (!text.empty()) {
      const size_t dollar = text.find('$');
      out.append(text.data(), std::min(dollar, text.size()));
      if (dollar == absl::string_view::npos) break;
      text.remove_prefix(dollar);
      if (text.size() > 1 && text[1] == '$') {
        out += '$';
        text.remove_prefix(2);
        continue;
      }
      if (text.size() > 1 && text[1] == '{') {
        GANTRY_ASSIGN_OR_RETURN(const size_t end, ClosingBrace(text));
        GANTRY_ASSIGN_OR_RETURN(const std::string value,
                                Braced(text, text.substr(2, end - 2), depth));
        out += value;
        text.remove_prefix(end + 1);
      } else {
        size_t end = 1;
        if (text.size() < 2 || !NameStart(text[1])) return BadFormat(text);
        while (end < text.size() && NameChar(text[end])) ++end;
        out += Plain(std::string(text.substr(1, end - 1)));
        text.remove_prefix(end);
      }
      if (out.size() > kMaxResultBytes)
        return absl::ResourceExhaustedError("the value becomes larger than 1 MiB");
    }
    return out;
  }

 private:
  // Where the brace of "${" is closed, nested ones left out.
  static absl::StatusOr<size_t> ClosingBrace(absl::string_view text) {
    int open = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{') {
        ++open;
        ++i;
      } else if (text[i] == '}' && --open == 0) {
        return i;
      }
    }
    return BadFormat(text);
  }

  std::string Plain(const std::string& name) {
    const std::optional<std::string> value = lookup_(name);
    if (!value.has_value() && on_unset_) on_unset_(name);
    return value.value_or("");
  }

  absl::StatusOr<std::string> Braced(absl::string_view whole, absl::string_view inside, int depth) {
    size_t end = 0;
    while (end < inside.size() && NameChar(inside[end])) ++end;
    if (end == 0 || !NameStart(inside[0])) return BadFormat(whole);
    const std::string name(inside.substr(0, end));
    absl::string_view rest = inside.substr(end);
    if (rest.empty()) return Plain(name);
    const bool empty_is_unset = rest[0] == ':';
    if (empty_is_unset) rest.remove_prefix(1);
    if (rest.empty()) return BadFormat(whole);
    const char operation = rest[0];
    rest.remove_prefix(1);
    const std::optional<std::string> value = lookup_(name);
    const bool set = value.has_value() && !(empty_is_unset && value->empty());
    switch (operation) {
      case '-':
        return set ? *value : Expand(rest, depth + 1);
      case '+':
        return set ? Expand(rest, depth + 1) : std::string();
      case '?': {
        if (set) return *value;
        GANTRY_ASSIGN_OR_RETURN(const std::string message, Expand(rest, depth + 1));
        return absl::FailedPreconditionError(absl::StrCat("required variable ", name,
                                                          " is missing a value",
                                                          message.empty() ? "" : ": ", message));
      }
      default:
        return BadFormat(whole);
    }
  }

  const Lookup& lookup_;
  const OnUnset& on_unset_;
};

void CollectFromText(absl::string_view text, std::map<std::string, Variable>& variables,
                     int depth) {
  if (depth > kMaxNesting) return;
  while (true) {
    const size_t dollar = text.find('$');
    if (dollar == absl::string_view::npos || dollar + 1 == text.size()) return;
    text.remove_prefix(dollar + 1);
    if (text[0] == '$') {
      text.remove_prefix(1);
      continue;
    }
    const bool braced = text[0] == '{';
    if (braced) text.remove_prefix(1);
    size_t end = 0;
    while (end < text.size() && NameChar(text[end])) ++end;
    if (end == 0 || !NameStart(text[0])) continue;
    Variable& variable = variables[std::string(text.substr(0, end))];
    text.remove_prefix(end);
    if (!braced) continue;
    int open = 1;
    size_t close = 0;
    while (close < text.size()) {
      if (text[close] == '{') ++open;
      if (text[close] == '}' && --open == 0) break;
      ++close;
    }
    absl::string_view rest = text.substr(0, close);
    text.remove_prefix(close);
    if (!rest.empty() && rest[0] == ':') rest.remove_prefix(1);
    if (rest.empty()) continue;
    const char operation = rest[0];
    rest.remove_prefix(1);
    if (operation == '?') variable.required = true;
    if (operation == '-') variable.otherwise = std::string(rest);
    if (operation == '+') variable.alternate = std::string(rest);
    CollectFromText(rest, variables, depth + 1);
  }
}

}  // namespace

void CollectVariables(const Node& node, std::map<std::string, Variable>& variables) {
  if (node.is_string()) CollectFromText(node.text, variables, 0);
  for (const Node& item : node.items) CollectVariables(item, variables);
  for (const auto& [key, value] : node.entries) CollectVariables(value, variables);
}

absl::StatusOr<std::string> Interpolate(absl::string_view text, const Lookup& lookup,
                                        const OnUnset& on_unset) {
  return Template(lookup, on_unset).Expand(text, 0);
}

absl::Status InterpolateNode(Node& node, const std::string& path, const Lookup& lookup,
                             const OnUnset& on_unset) {
  if (node.is_string() && node.text.find('$') != std::string::npos) {
    absl::StatusOr<std::string> value = Interpolate(node.text, lookup, on_unset);
    if (!value.ok()) {
      return absl::Status(value.status().code(),
                          absl::StrCat(node.at.Text(), ": error while interpolating ", path, ": ",
                                       value.status().message()));
    }
    node.interpolated = *value != node.text;
    node.text = *std::move(value);
    return absl::OkStatus();
  }
  for (size_t i = 0; i < node.items.size(); ++i) {
    GANTRY_RETURN_IF_ERROR(
        InterpolateNode(node.items[i], absl::StrCat(path, "[", i, "]"), lookup, on_unset));
  }
  for (auto& [key, value] : node.entries) {
    GANTRY_RETURN_IF_ERROR(InterpolateNode(value, path.empty() ? key : absl::StrCat(path, ".", key),
                                           lookup, on_unset));
  }
  return absl::OkStatus();
}

}  // namespace gantry::compose
