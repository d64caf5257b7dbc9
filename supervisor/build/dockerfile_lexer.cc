#include "supervisor/build/dockerfile_lexer.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace gantry::build {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r'; }

absl::string_view TrimSpace(absl::string_view text) {
  while (!text.empty() && (IsBlank(text.front()) || text.front() == '\n')) text.remove_prefix(1);
  while (!text.empty() && (IsBlank(text.back()) || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

absl::string_view TrimLeft(absl::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  return text;
}

absl::string_view TrimLineEnd(absl::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  return line;
}

bool TakeContinuation(absl::string_view& line, char escape) {
  absl::string_view text = line;
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  if (text.empty() || text.back() != escape) return false;
  text.remove_suffix(1);
  // An escaped escape character is text.
  if (!text.empty() && text.back() == escape) return false;
  line = text;
  return true;
}

bool IsComment(absl::string_view line) { return absl::StartsWith(TrimLeft(line), "#"); }

bool ReadDirective(absl::string_view line, std::string& name, std::string& value) {
  if (!absl::ConsumePrefix(&line, "#")) return false;
  line = TrimSpace(line);
  size_t end = 0;
  while (end < line.size() && absl::ascii_isalnum(static_cast<unsigned char>(line[end]))) ++end;
  if (end == 0 || !absl::ascii_isalpha(static_cast<unsigned char>(line[0]))) return false;
  name = absl::AsciiStrToLower(line.substr(0, end));
  line = TrimLeft(line.substr(end));
  if (!absl::ConsumePrefix(&line, "=")) return false;
  value = std::string(TrimSpace(line));
  return !value.empty();
}

std::vector<std::string> QuotedWords(absl::string_view text, char escape) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = '\0';
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == '\0' && (IsBlank(c) || c == '\n')) {
      if (in_word) words.push_back(std::exchange(word, ""));
      in_word = false;
      continue;
    }
    in_word = true;
    word.push_back(c);
    if (c == escape && quote != '\'' && i + 1 < text.size()) {
      word.push_back(text[++i]);
    } else if (quote != '\0') {
      if (c == quote) quote = '\0';
    } else if (c == '"' || c == '\'') {
      quote = c;
    }
  }
  if (in_word) words.push_back(std::move(word));
  return words;
}

std::vector<std::string> BlankWords(absl::string_view text) {
  std::vector<std::string> words;
  while (!(text = TrimSpace(text)).empty()) {
    size_t end = 0;
    while (end < text.size() && !IsBlank(text[end]) && text[end] != '\n') ++end;
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

std::vector<std::string> TakeFlagWords(absl::string_view& text, char escape) {
  std::vector<std::string> flags;
  while (true) {
    text = TrimSpace(text);
    if (!absl::StartsWith(text, "--")) return flags;
    std::string word;
    char quote = '\0';
    size_t i = 0;
    for (; i < text.size(); ++i) {
      const char c = text[i];
      if (quote == '\0' && (IsBlank(c) || c == '\n')) break;
      if (c == escape) {
        if (i + 1 < text.size()) word.push_back(text[++i]);
      } else if (quote != '\0') {
        if (c == quote) {
          quote = '\0';
        } else {
          word.push_back(c);
        }
      } else if (c == '"' || c == '\'') {
        quote = c;
      } else {
        word.push_back(c);
      }
    }
    text.remove_prefix(i);
    if (word == "--") {
      text = TrimSpace(text);
      return flags;
    }
    flags.push_back(std::move(word));
  }
}

}  // namespace gantry::build
