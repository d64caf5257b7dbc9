#include "supervisor/metadata/filter.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "re2/re2.h"

namespace gantry::metadata {
namespace {

enum class Operator { kPresent, kEqual, kNotEqual, kMatches };

constexpr size_t kMaxFilterBytes = 64 << 10;
constexpr int64_t kRegexMemory = 1 << 20;

bool IsFieldCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
}
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

struct Filter::Selector {
  std::vector<std::string> path;
  Operator op = Operator::kPresent;
  std::string value;
  std::shared_ptr<const RE2>
      regex;  // of kMatches; shared by copies of the filter; null matches nothing

  bool Matches(const Fields& fields) const {
    const std::optional<std::string> field = fields(path);
    switch (op) {
      case Operator::kPresent:
        return field.has_value();
      case Operator::kEqual:
        return field.has_value() && *field == value;
      case Operator::kNotEqual:
        return field.value_or("") != value;
      case Operator::kMatches:
        return regex != nullptr && RE2::PartialMatch(field.value_or(""), *regex);
    }
    return false;
  }

  // Reads one filter text.
  class Parser {
   public:
    explicit Parser(absl::string_view text) : text_(text) {}

    absl::StatusOr<std::vector<Selector>> Parse() {
      std::vector<Selector> selectors;
      while (true) {
        GANTRY_ASSIGN_OR_RETURN(Selector selector, ParseSelector());
        selectors.push_back(std::move(selector));
        SkipSpace();
        if (AtEnd()) return selectors;
        if (text_[at_] != ',') return Error("expected ',' or the end");
        ++at_;
        SkipSpace();
      }
    }

   private:
    absl::StatusOr<Selector> ParseSelector() {
      Selector selector;
      SkipSpace();
      while (true) {
        GANTRY_ASSIGN_OR_RETURN(std::string field, ParseField());
        selector.path.push_back(std::move(field));
        if (AtEnd() || text_[at_] != '.') break;
        ++at_;
      }
      SkipSpace();
      if (AtEnd() || text_[at_] == ',') return selector;
      if (Consume("==")) {
        selector.op = Operator::kEqual;
      } else if (Consume("!=")) {
        selector.op = Operator::kNotEqual;
      } else if (Consume("~=")) {
        selector.op = Operator::kMatches;
      } else {
        return Error("expected '==', '!=' or '~='");
      }
      SkipSpace();
      GANTRY_ASSIGN_OR_RETURN(selector.value, ParseValue(selector.op == Operator::kMatches));
      if (selector.op == Operator::kMatches) {
        RE2::Options options(RE2::Quiet);
        options.set_max_mem(kRegexMemory);
        // One that does not compile is no error to containerd; it matches nothing.
        auto regex = std::make_shared<const RE2>(selector.value, options);
        if (regex->ok()) selector.regex = std::move(regex);
      }
      return selector;
    }

    absl::StatusOr<std::string> ParseField() {
      if (!AtEnd() && text_[at_] == '"') return ParseQuoted();
      const size_t begin = at_;
      while (!AtEnd() && IsFieldCharacter(text_[at_])) ++at_;
      if (at_ == begin) return Error("expected a field name");
      return std::string(text_.substr(begin, at_ - begin));
    }

    absl::StatusOr<std::string> ParseValue(bool regex) {
      if (AtEnd()) return Error("expected a value");
      const char first = text_[at_];
      if (first == '"') return ParseQuoted();
      if (regex && (first == '/' || first == '|')) return ParseDelimited(first);
      const size_t begin = at_;
      while (!AtEnd() && text_[at_] != ',' && !IsSpace(text_[at_])) {
        if (text_[at_] == '"') return Error("unexpected '\"' within a value");
        ++at_;
      }
      if (at_ == begin) return Error("expected a value");
      return std::string(text_.substr(begin, at_ - begin));
    }

    // Go's string escapes, which are C's, with \u and \U for characters.
    absl::StatusOr<std::string> ParseQuoted() {
      const size_t begin = ++at_;
      while (!AtEnd() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
      if (AtEnd()) return Error("quoted string does not end");
      std::string value, error;
      if (!absl::CUnescape(text_.substr(begin, at_ - begin), &value, &error)) {
        return Error(absl::StrCat("quoted string: ", error));
      }
      ++at_;
      return value;
    }

    // Everything is taken as it is, but a backslash before the delimiter, so that expressions need
    // no second escaping.
    absl::StatusOr<std::string> ParseDelimited(char delimiter) {
      std::string value;
      for (++at_; !AtEnd(); ++at_) {
        if (text_[at_] == delimiter) {
          ++at_;
          return value;
        }
        if (text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] == delimiter) ++at_;
        value.push_back(text_[at_]);
      }
      return Error(absl::StrCat("expression does not end with '", std::string(1, delimiter), "'"));
    }

    bool Consume(absl::string_view token) {
      if (text_.substr(at_, token.size()) != token) return false;
      at_ += token.size();
      return true;
    }

    void SkipSpace() {
      while (!AtEnd() && IsSpace(text_[at_])) ++at_;
    }

    bool AtEnd() const { return at_ >= text_.size(); }

    absl::Status Error(absl::string_view what) const {
      return absl::InvalidArgumentError(
          absl::StrCat("filter \"", absl::CEscape(text_.substr(0, 256)), "\": ", what,
                       " at position ", std::min(at_, text_.size()) + 1));
    }

    const absl::string_view text_;
    size_t at_ = 0;
  };
};

absl::StatusOr<Filter> Filter::Parse(absl::Span<const std::string> texts) {
  auto alternatives = std::make_shared<Alternatives>();
  bool everything = texts.empty();
  for (const std::string& text : texts) {
    if (text.size() > kMaxFilterBytes) {
      return absl::InvalidArgumentError(absl::StrCat("filter: ", text.size(),
                                                     " bytes are too long, at most ",
                                                     kMaxFilterBytes, " are allowed"));
    }
    if (text.empty()) {
      everything = true;
      continue;
    }
    GANTRY_ASSIGN_OR_RETURN(std::vector<Selector> selectors, Selector::Parser(text).Parse());
    alternatives->push_back(std::move(selectors));
  }
  Filter filter;
  if (!everything) filter.alternatives_ = std::move(alternatives);
  return filter;
}

bool Filter::Matches(const Fields& fields) const {
  if (alternatives_ == nullptr) return true;
  for (const std::vector<Selector>& selectors : *alternatives_) {
    bool all = true;
    for (const Selector& selector : selectors) {
      if (!selector.Matches(fields)) {
        all = false;
        break;
      }
    }
    if (all) return true;
  }
  return false;
}

std::string MapKey(absl::Span<const std::string> path_after_map) {
  return absl::StrJoin(path_after_map, ".");
}

}  // namespace gantry::metadata
