#include "base/engine/ignore_file.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry::engine {
namespace {

constexpr size_t kMaxRules = 10'000;
constexpr size_t kMaxPatternBytes = 4096;

// "./a/../b/" -> "b"; "" for the root itself.
std::string Cleaned(absl::string_view path) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == ".." && !parts.empty() && parts.back() != "..") {
      parts.pop_back();
    } else if (part != ".." || !absl::StartsWith(path, "/")) {
      parts.push_back(part);
    }
  }
  return absl::StrJoin(parts, "/");
}

}  // namespace

bool PathPattern::HasWildcards(absl::string_view text) {
  return text.find_first_of("*?[\\") != absl::string_view::npos;
}

absl::StatusOr<PathPattern> PathPattern::Parse(absl::string_view text, Wildcards wildcards) {
  PathPattern out;
  const auto malformed = [&text] {
    return absl::InvalidArgumentError(absl::StrCat("syntax error in pattern \"", text, "\""));
  };
  if (text.size() > kMaxPatternBytes) return malformed();
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '*') {
      const bool twice = i + 1 < text.size() && text[i + 1] == '*';
      if (!twice || wildcards == Wildcards::kPlain) {
        out.tokens_.push_back({Token::Kind::kStar});
        continue;
      }
      ++i;
      if (i + 1 < text.size() && text[i + 1] == '/') ++i;
      out.tokens_.push_back(
          {i + 1 == text.size() ? Token::Kind::kEverything : Token::Kind::kFolders});
    } else if (c == '?') {
      out.tokens_.push_back({Token::Kind::kAny});
    } else if (c == '\\') {
      if (++i == text.size()) return malformed();
      out.tokens_.push_back({Token::Kind::kLiteral, text[i]});
    } else if (c == '[') {
      Token token{Token::Kind::kSet};
      bool negated = false;
      if (++i < text.size() && text[i] == '^') {
        negated = true;
        ++i;
      }
      bool any = false;
      const auto one = [&](unsigned char& value) {
        if (i < text.size() && text[i] == '\\') ++i;
        if (i >= text.size()) return false;
        value = static_cast<unsigned char>(text[i++]);
        return true;
      };
      while (i < text.size() && !(text[i] == ']' && any)) {
        unsigned char low = 0;
        if (text[i] == '-' || text[i] == ']' || !one(low)) return malformed();
        unsigned char high = low;
        if (i < text.size() && text[i] == '-') {
          ++i;
          if (i < text.size() && text[i] == ']') return malformed();
          if (!one(high)) return malformed();
        }
        for (int value = low; value <= high; ++value) token.set.set(static_cast<size_t>(value));
        any = true;
      }
      if (i >= text.size()) return malformed();
      if (negated) token.set.flip();
      token.set.reset('/');
      out.tokens_.push_back(token);
    } else {
      out.tokens_.push_back({Token::Kind::kLiteral, c});
    }
  }
  return out;
}

bool PathPattern::Matches(absl::string_view path) const {
  // All states at once, so that no pattern costs more than its length times the path's. State
  // n + i: within the folders that token i stands for.
  const size_t n = tokens_.size();
  std::vector<char> states(2 * n + 1, 0);
  const auto close = [&](std::vector<char>& set) {
    for (size_t i = 0; i < n; ++i) {
      if (!set[i]) continue;
      const Token::Kind kind = tokens_[i].kind;
      if (kind == Token::Kind::kStar || kind == Token::Kind::kEverything) set[i + 1] = 1;
      if (kind == Token::Kind::kFolders) {
        set[i + 1] = 1;
        set[n + 1 + i] = 1;
      }
    }
  };
  states[0] = 1;
  close(states);
  for (const char c : path) {
    std::vector<char> next(states.size(), 0);
    for (size_t i = 0; i < n; ++i) {
      const Token& token = tokens_[i];
      if (states[n + 1 + i]) {
        next[n + 1 + i] = 1;
        if (c == '/') next[i + 1] = 1;
      }
      if (!states[i]) continue;
      switch (token.kind) {
        case Token::Kind::kLiteral:
          if (c == token.c) next[i + 1] = 1;
          break;
        case Token::Kind::kAny:
          if (c != '/') next[i + 1] = 1;
          break;
        case Token::Kind::kSet:
          if (token.set.test(static_cast<unsigned char>(c))) next[i + 1] = 1;
          break;
        case Token::Kind::kStar:
          if (c != '/') next[i] = 1;
          break;
        case Token::Kind::kEverything:
          next[i] = 1;
          break;
        case Token::Kind::kFolders:
          break;
      }
    }
    close(next);
    states = std::move(next);
  }
  return states[n];
}

absl::Status IgnoreRules::Add(absl::string_view line) {
  Rule rule;
  if (absl::ConsumePrefix(&line, "!")) {
    rule.taken = true;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) return absl::InvalidArgumentError("illegal exclusion pattern: \"!\"");
  }
  const std::string pattern = Cleaned(line);
  if (pattern.empty()) return absl::OkStatus();
  if (rules_.size() >= kMaxRules) return absl::ResourceExhaustedError("more than 10000 patterns");
  GANTRY_ASSIGN_OR_RETURN(rule.pattern,
                          PathPattern::Parse(pattern, PathPattern::Wildcards::kAcrossFolders));
  rule.fixed = pattern.substr(0, pattern.find_first_of("*?[\\"));
  rules_.push_back(std::move(rule));
  return absl::OkStatus();
}

absl::StatusOr<IgnoreRules> IgnoreRules::Parse(absl::string_view text) {
  IgnoreRules rules;
  absl::ConsumePrefix(&text, "\xef\xbb\xbf");
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (absl::StartsWith(line, "#")) continue;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    if (absl::Status added = rules.Add(line); !added.ok())
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", added.message()));
  }
  return rules;
}

absl::StatusOr<IgnoreRules> IgnoreRules::FromPatterns(const std::vector<std::string>& patterns) {
  IgnoreRules rules;
  for (const std::string& pattern : patterns) GANTRY_RETURN_IF_ERROR(rules.Add(pattern));
  return rules;
}

bool IgnoreRules::Ignores(absl::string_view path) const {
  for (auto rule = rules_.rbegin(); rule != rules_.rend(); ++rule) {
    for (size_t end = path.find('/');; end = path.find('/', end + 1)) {
      if (rule->pattern.Matches(path.substr(0, end))) return !rule->taken;
      if (end == absl::string_view::npos) break;
    }
  }
  return false;
}

bool IgnoreRules::MayContainTaken(absl::string_view folder) const {
  const std::string below = absl::StrCat(folder, "/");
  for (const Rule& rule : rules_) {
    if (!rule.taken) continue;
    // Its fixed part and the folder lie on one way down.
    if (absl::StartsWith(rule.fixed, below) || absl::StartsWith(below, rule.fixed)) return true;
  }
  return false;
}

}  // namespace gantry::engine
