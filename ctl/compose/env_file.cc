#include "ctl/compose/env_file.h"

#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry::compose {
namespace {

constexpr absl::string_view kByteOrderMark = "\xef\xbb\xbf";

bool KeyChar(char c) {
  return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-' || c == '[' || c == ']';
}

class Parser {
 public:
  Parser(absl::string_view text, const Lookup& lookup, const OnUnset& on_unset)
      : rest_(text), environment_(lookup), on_unset_(on_unset) {
    absl::ConsumePrefix(&rest_, kByteOrderMark);
    lookup_ = [this](const std::string& name) -> std::optional<std::string> {
      if (std::optional<std::string> value = environment_(name)) return value;
      const auto earlier = seen_.find(name);
      return earlier == seen_.end() ? std::nullopt : std::optional(earlier->second);
    };
  }

  absl::StatusOr<std::vector<EnvEntry>> Parse() {
    std::vector<EnvEntry> entries;
    while (SkipBlankLines()) {
      GANTRY_ASSIGN_OR_RETURN(EnvEntry entry, ParseEntry());
      if (entry.value.has_value()) seen_[entry.key] = *entry.value;
      entries.push_back(std::move(entry));
    }
    return entries;
  }

 private:
  absl::Status Bad(absl::string_view why) const {
    return absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", why));
  }

  void Advance(size_t n) {
    for (char c : rest_.substr(0, n)) line_ += c == '\n';
    rest_.remove_prefix(std::min(n, rest_.size()));
  }

  void SkipBlanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t')) Advance(1);
  }

  // False: nothing is left.
  bool SkipBlankLines() {
    while (true) {
      while (!rest_.empty() && absl::ascii_isspace(rest_[0])) Advance(1);
      if (rest_.empty()) return false;
      if (rest_[0] != '#') return true;
      Advance(std::min(rest_.find('\n'), rest_.size()));
    }
  }

  absl::StatusOr<EnvEntry> ParseEntry() {
    if (absl::StartsWith(rest_, "export ") || absl::StartsWith(rest_, "export\t")) {
      Advance(7);
      SkipBlanks();
    }
    EnvEntry entry;
    while (!rest_.empty() && KeyChar(rest_[0])) {
      entry.key += rest_[0];
      Advance(1);
    }
    SkipBlanks();
    if (rest_.empty() || rest_[0] == '\n' || rest_[0] == '\r' || rest_[0] == '#') {
      Advance(std::min(rest_.find('\n'), rest_.size()));
      if (entry.key.empty()) return Bad("a name is missing");
      entry.value = lookup_(entry.key);
      return entry;
    }
    if (rest_[0] != '=' && rest_[0] != ':') {
      if (KeyChar(rest_[0])) return Bad("key cannot contain a space");
      return Bad(absl::StrCat("unexpected character \"", rest_.substr(0, 1),
                              "\" in variable name \"", entry.key,
                              rest_.substr(0, std::min(rest_.find('\n'), rest_.size())), "\""));
    }
    if (entry.key.empty()) return Bad("a name is missing before \"=\"");
    Advance(1);
    SkipBlanks();
    if (!rest_.empty() && (rest_[0] == '"' || rest_[0] == '\'')) {
      GANTRY_ASSIGN_OR_RETURN(entry.value, Quoted(rest_[0]));
      return entry;
    }
    absl::string_view line = rest_.substr(0, std::min(rest_.find('\n'), rest_.size()));
    const size_t length = line.size();
    // A comment needs the blank before it.
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) {
        line = line.substr(0, i);
        break;
      }
    }
    absl::StatusOr<std::string> value =
        Interpolate(absl::StripTrailingAsciiWhitespace(line), lookup_, on_unset_);
    if (!value.ok()) return Bad(value.status().message());
    Advance(length);
    entry.value = *std::move(value);
    return entry;
  }

  absl::StatusOr<std::string> Quoted(char quote) {
    size_t end = 1;
    while (end < rest_.size() && rest_[end] != quote) end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) {
      return Bad(absl::StrCat("unterminated quoted value ",
                              rest_.substr(0, std::min(rest_.find('\n'), rest_.size()))));
    }
    const absl::string_view inside = rest_.substr(1, end - 1);
    std::string value;
    if (quote == '\'') {
      for (size_t i = 0; i < inside.size(); ++i) {
        if (inside[i] == '\\' && i + 1 < inside.size() && inside[i + 1] == '\'') ++i;
        value += inside[i];
      }
    } else {
      absl::StatusOr<std::string> expanded = Interpolate(Unescape(inside), lookup_, on_unset_);
      if (!expanded.ok()) return Bad(expanded.status().message());
      value = *std::move(expanded);
    }
    Advance(end + 1);
    SkipBlanks();
    // What follows the quote on its line is a comment, or nothing.
    Advance(std::min(rest_.find('\n'), rest_.size()));
    return value;
  }

  // A dollar that was escaped stays one: it is doubled for the interpolation that follows.
  static std::string Unescape(absl::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\' || i + 1 == text.size()) {
        out += text[i];
        continue;
      }
      const char c = text[++i];
      switch (c) {
        case 'n':
          out += '\n';
          break;
        case 'r':
          out += '\r';
          break;
        case 't':
          out += '\t';
          break;
        case '\\':
        case '"':
          out += c;
          break;
        case '$':
          out += "$$";
          break;
        default:
          if (c >= '0' && c <= '7') {
            int code = 0;
            size_t digits = 0;
            while (digits < 3 && i + digits < text.size() && text[i + digits] >= '0' &&
                   text[i + digits] <= '7')
              code = code * 8 + (text[i + digits++] - '0');
            i += digits - 1;
            out += static_cast<char>(code & 0xff);
          } else {
            out += '\\';
            out += c;
          }
      }
    }
    return out;
  }

  absl::string_view rest_;
  const Lookup& environment_;
  const OnUnset& on_unset_;
  Lookup lookup_;
  std::map<std::string, std::string> seen_;
  int line_ = 1;
};

}  // namespace

absl::StatusOr<std::vector<EnvEntry>> ParseEnvFile(absl::string_view text, const Lookup& lookup,
                                                   const OnUnset& on_unset) {
  return Parser(text, lookup, on_unset).Parse();
}

absl::StatusOr<std::vector<EnvEntry>> ParseRawEnvFile(absl::string_view text,
                                                      const Lookup& lookup) {
  std::vector<EnvEntry> entries;
  int number = 0;
  absl::ConsumePrefix(&text, kByteOrderMark);
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    absl::ConsumeSuffix(&line, "\r");
    line = absl::StripLeadingAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const size_t equals = line.find('=');
    EnvEntry entry;
    entry.key = std::string(line.substr(0, equals));
    if (entry.key.empty() || entry.key.find_first_of(" \t") != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": bad name \"", entry.key,
                                                     "\": no blanks, and not empty"));
    }
    if (equals == absl::string_view::npos) {
      entry.value = lookup(entry.key);
    } else {
      entry.value = std::string(line.substr(equals + 1));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace gantry::compose
