#include "supervisor/build/dockerfile_words.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::build {
namespace {

// Of nested ${a:-${b:-...}}, which are read by recursion.
constexpr int kMaxDepth = 64;
constexpr size_t kMaxResultBytes = 1 << 20;
// Steps of matching a pattern against a value.
constexpr int64_t kMaxMatchSteps = 50'000'000;

absl::Status Bad(absl::string_view why) { return absl::InvalidArgumentError(why); }

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsNameCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
}
bool IsSpecial(char c) {
  return absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
         absl::string_view("@*#?-$!").find(c) != absl::string_view::npos;
}

// A pattern of ${v#p} and its relatives: `*`, `?`, and characters for themselves.
struct PatternToken {
  enum class Kind { kLiteral, kAny, kStar } kind;
  char c;
};

absl::StatusOr<std::vector<PatternToken>> ReadPattern(absl::string_view text) {
  std::vector<PatternToken> tokens;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '*') {
      tokens.push_back({PatternToken::Kind::kStar, '*'});
    } else if (text[i] == '?') {
      tokens.push_back({PatternToken::Kind::kAny, '?'});
    } else if (text[i] == '\\') {
      if (i + 1 == text.size()) return Bad("invalid escape at the end of a pattern");
      const char next = text[++i];
      if (next != '*' && next != '?' && next != '\\' && next != '/' && next != '}')
        return Bad(absl::StrCat("invalid escape '\\", std::string(1, next), "' in a pattern"));
      tokens.push_back({PatternToken::Kind::kLiteral, next});
    } else {
      tokens.push_back({PatternToken::Kind::kLiteral, text[i]});
    }
  }
  return tokens;
}

// Lengths of the shortest and the longest match at the front of `text`; -1 if there is none.
struct MatchLengths {
  int64_t shortest = -1;
  int64_t longest = -1;
};

absl::StatusOr<MatchLengths> MatchAtFront(const std::vector<PatternToken>& tokens,
                                          absl::string_view text, int64_t& steps) {
  MatchLengths lengths;
  // States are positions in `tokens`; a star is left without taking a character.
  std::vector<char> states(tokens.size() + 1, 0);
  const auto close = [&](std::vector<char>& set) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (set[i] && tokens[i].kind == PatternToken::Kind::kStar) set[i + 1] = 1;
    }
  };
  states[0] = 1;
  close(states);
  for (size_t at = 0;; ++at) {
    if (states.back()) {
      if (lengths.shortest < 0) lengths.shortest = static_cast<int64_t>(at);
      lengths.longest = static_cast<int64_t>(at);
    }
    if (at == text.size()) return lengths;
    steps += static_cast<int64_t>(states.size());
    if (steps > kMaxMatchSteps) return Bad("the pattern costs too much on so long a value");
    std::vector<char> next(states.size(), 0);
    bool any = false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!states[i]) continue;
      if (tokens[i].kind == PatternToken::Kind::kStar) {
        next[i] = 1;
        any = true;
      } else if (tokens[i].kind == PatternToken::Kind::kAny || tokens[i].c == text[at]) {
        next[i + 1] = 1;
        any = true;
      }
    }
    if (!any) return lengths;
    close(next);
    states = std::move(next);
  }
}

absl::StatusOr<std::string> Trimmed(std::string value, absl::string_view pattern, bool suffix,
                                    bool longest) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<PatternToken> tokens, ReadPattern(pattern));
  if (suffix) {
    std::reverse(tokens.begin(), tokens.end());
    std::reverse(value.begin(), value.end());
  }
  int64_t steps = 0;
  GANTRY_ASSIGN_OR_RETURN(const MatchLengths match, MatchAtFront(tokens, value, steps));
  const int64_t taken = longest ? match.longest : match.shortest;
  if (taken > 0) value.erase(0, static_cast<size_t>(taken));
  if (suffix) std::reverse(value.begin(), value.end());
  return value;
}

absl::StatusOr<std::string> Replaced(absl::string_view value, absl::string_view pattern,
                                     absl::string_view with, bool all) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<PatternToken> tokens, ReadPattern(pattern));
  if (tokens.empty()) return std::string(value);
  std::string out;
  int64_t steps = 0;
  while (!value.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const MatchLengths match, MatchAtFront(tokens, value, steps));
    if (match.longest <= 0) {
      out.push_back(value[0]);
      value.remove_prefix(1);
      continue;
    }
    absl::StrAppend(&out, with);
    if (out.size() > kMaxResultBytes) return Bad("the result is larger than 1 MiB");
    value.remove_prefix(static_cast<size_t>(match.longest));
    if (!all) break;
  }
  absl::StrAppend(&out, value);
  return out;
}

class Expander {
 public:
  enum class Mode { kWord, kHeredoc };

  Expander(absl::string_view text, char escape, const Lookup& lookup, Mode mode)
      : text_(text), escape_(escape), lookup_(lookup), mode_(mode) {}

  absl::StatusOr<std::string> One() {
    std::string out;
    GANTRY_RETURN_IF_ERROR(Until("", false, out, nullptr));
    return out;
  }
  absl::StatusOr<std::vector<std::string>> Many() {
    std::vector<std::string> words;
    std::string last;
    GANTRY_RETURN_IF_ERROR(Until("", false, last, &words));
    if (!last.empty() || quoted_) words.push_back(std::move(last));
    return words;
  }

 private:
  bool AtEnd() const { return at_ == text_.size(); }

  // Reads up to a character of `stop`, which stays. `raw`: escape sequences are kept, for patterns.
  // With `words`, blanks end a word, which is put there.
  absl::Status Until(absl::string_view stop, bool raw, std::string& out,
                     std::vector<std::string>* words) {
    if (++depth_ > kMaxDepth) return Bad("too many nested substitutions");
    while (!AtEnd()) {
      const char c = text_[at_];
      if (stop.find(c) != absl::string_view::npos) break;
      if (out.size() > kMaxResultBytes) return Bad("the result is larger than 1 MiB");
      if (mode_ == Mode::kWord && c == '\'') {
        GANTRY_RETURN_IF_ERROR(SingleQuoted(out));
      } else if (mode_ == Mode::kWord && c == '"') {
        GANTRY_RETURN_IF_ERROR(DoubleQuoted(out));
      } else if (c == '$') {
        GANTRY_ASSIGN_OR_RETURN(const std::string value, Variable());
        if (words == nullptr) {
          absl::StrAppend(&out, value);
        } else {
          for (const char v : value) Put(v, out, *words);
        }
      } else if (c == escape_) {
        ++at_;
        if (AtEnd()) break;  // at the end it stands for nothing
        if (raw) out.push_back(escape_);
        out.push_back(text_[at_++]);
      } else {
        ++at_;
        if (words == nullptr) {
          out.push_back(c);
        } else {
          Put(c, out, *words);
        }
      }
    }
    --depth_;
    return absl::OkStatus();
  }

  void Put(char c, std::string& out, std::vector<std::string>& words) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) {
      out.push_back(c);
      return;
    }
    if (!out.empty() || quoted_) words.push_back(std::exchange(out, ""));
    quoted_ = false;
  }

  absl::Status SingleQuoted(std::string& out) {
    quoted_ = true;
    const size_t end = text_.find('\'', at_ + 1);
    if (end == absl::string_view::npos)
      return Bad("unexpected end of statement while looking for matching single-quote");
    absl::StrAppend(&out, text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return absl::OkStatus();
  }

  absl::Status DoubleQuoted(std::string& out) {
    quoted_ = true;
    ++at_;
    while (!AtEnd()) {
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return absl::OkStatus();
      }
      if (c == '$') {
        GANTRY_ASSIGN_OR_RETURN(const std::string value, Variable());
        absl::StrAppend(&out, value);
      } else if (c == escape_ && at_ + 1 < text_.size()) {
        const char next = text_[at_ + 1];
        if (next != '"' && next != '$' && next != escape_) out.push_back(c);
        out.push_back(next);
        at_ += 2;
      } else {
        out.push_back(c);
        ++at_;
      }
    }
    return Bad("unexpected end of statement while looking for matching double-quote");
  }

  std::string ValueOf(absl::string_view name) const { return lookup_(name).value_or(""); }

  // At a dollar sign.
  absl::StatusOr<std::string> Variable() {
    ++at_;
    if (AtEnd()) return std::string("$");
    if (text_[at_] != '{') {
      const std::string name = Name();
      if (name.empty()) return std::string("$");
      return ValueOf(name);
    }
    ++at_;
    if (AtEnd()) return Bad("syntax error: missing '}'");
    const std::string name = Name();
    if (name.empty()) return Bad("syntax error: bad substitution");
    if (AtEnd()) return Bad("syntax error: missing '}'");
    const char c = text_[at_];
    if (c == '}') {
      ++at_;
      return ValueOf(name);
    }
    if (c == '#' || c == '%') return Trim(name, c);
    if (c == '/') return Replace(name);
    return Modified(name);
  }

  std::string Name() {
    size_t end = at_;
    if (IsNameStart(text_[end])) {
      while (end < text_.size() && IsNameCharacter(text_[end])) ++end;
    } else if (absl::ascii_isdigit(static_cast<unsigned char>(text_[end]))) {
      while (end < text_.size() && absl::ascii_isdigit(static_cast<unsigned char>(text_[end])))
        ++end;
    } else if (IsSpecial(text_[end])) {
      ++end;
    }
    const std::string name(text_.substr(at_, end - at_));
    at_ = end;
    return name;
  }

  absl::Status Close() {
    if (AtEnd()) return Bad("syntax error: missing '}'");
    ++at_;
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Trim(const std::string& name, char operation) {
    ++at_;
    bool longest = false;
    if (!AtEnd() && text_[at_] == operation) {
      longest = true;
      ++at_;
    }
    std::string pattern;
    GANTRY_RETURN_IF_ERROR(Until("}", true, pattern, nullptr));
    GANTRY_RETURN_IF_ERROR(Close());
    return Trimmed(ValueOf(name), pattern, operation == '%', longest);
  }

  absl::StatusOr<std::string> Replace(const std::string& name) {
    ++at_;
    bool all = false;
    if (!AtEnd() && text_[at_] == '/') {
      all = true;
      ++at_;
    }
    std::string pattern;
    GANTRY_RETURN_IF_ERROR(Until("/}", true, pattern, nullptr));
    if (AtEnd()) return Bad("syntax error: missing '/' in ${}");
    if (text_[at_] == '}') return Bad("syntax error: missing '/' in ${}");
    ++at_;
    std::string with;
    GANTRY_RETURN_IF_ERROR(Until("}", false, with, nullptr));
    GANTRY_RETURN_IF_ERROR(Close());
    return Replaced(ValueOf(name), pattern, with, all);
  }

  // ${name:-w} and the like.
  absl::StatusOr<std::string> Modified(const std::string& name) {
    const bool colon = text_[at_] == ':';
    if (colon) ++at_;
    if (AtEnd()) return Bad("syntax error: missing '}'");
    const char operation = text_[at_];
    if (operation != '-' && operation != '+' && operation != '?') {
      return Bad(absl::StrCat("unsupported modifier (", colon ? ":" : "", std::string(1, operation),
                              ") in substitution"));
    }
    ++at_;
    std::string word;
    GANTRY_RETURN_IF_ERROR(Until("}", false, word, nullptr));
    GANTRY_RETURN_IF_ERROR(Close());
    const absl::optional<std::string> value = lookup_(name);
    const bool there = value.has_value() && !(colon && value->empty());
    if (operation == '-') return there ? *value : word;
    if (operation == '+') return there ? word : std::string();
    if (there) return *value;
    if (word.empty())
      word = value.has_value() ? "is not allowed to be empty" : "is not allowed to be unset";
    return Bad(absl::StrCat(name, ": ", word));
  }

  const absl::string_view text_;
  const char escape_;
  const Lookup& lookup_;
  const Mode mode_;
  size_t at_ = 0;
  int depth_ = 0;
  bool quoted_ = false;  // the word at hand had quotes, so it is one even if it is empty
};

absl::Status Failed(absl::string_view text, const absl::Status& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("failed to process \"", text.substr(0, 256), "\": ", why.message()));
}

}  // namespace

absl::StatusOr<std::string> ExpandWord(absl::string_view text, char escape, const Lookup& lookup) {
  absl::StatusOr<std::string> out = Expander(text, escape, lookup, Expander::Mode::kWord).One();
  if (!out.ok()) return Failed(text, out.status());
  return out;
}

absl::StatusOr<std::vector<std::string>> ExpandWords(absl::string_view text, char escape,
                                                     const Lookup& lookup) {
  absl::StatusOr<std::vector<std::string>> out =
      Expander(text, escape, lookup, Expander::Mode::kWord).Many();
  if (!out.ok()) return Failed(text, out.status());
  return out;
}

absl::StatusOr<std::string> ExpandHeredoc(absl::string_view text, const Lookup& lookup) {
  absl::StatusOr<std::string> out = Expander(text, '\\', lookup, Expander::Mode::kHeredoc).One();
  if (!out.ok()) return Failed(text, out.status());
  return out;
}

}  // namespace gantry::build
