// What the parser of Dockerfiles reads with: lines, words and flags, as text.
//
// Free functions, safe to call from any thread; views are of the text that was given.
#ifndef GANTRY_SUPERVISOR_BUILD_DOCKERFILE_LEXER_H_
#define GANTRY_SUPERVISOR_BUILD_DOCKERFILE_LEXER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry::build {

bool IsBlank(char c);
absl::string_view TrimSpace(absl::string_view text);
absl::string_view TrimLeft(absl::string_view text);
absl::string_view TrimLineEnd(absl::string_view line);  // CR and LF

// Lines without their LF, one at a time.
class Lines {
 public:
  explicit Lines(absl::string_view text) : rest_(text) {}
  // False at the end. `raw` keeps its CR.
  bool Next(absl::string_view& raw) {
    if (rest_.empty()) return false;
    const size_t end = rest_.find('\n');
    raw = rest_.substr(0, end);
    rest_ = end == absl::string_view::npos ? absl::string_view() : rest_.substr(end + 1);
    ++number_;
    return true;
  }
  int number() const { return number_; }

 private:
  absl::string_view rest_;
  int number_ = 0;
};

// Takes the escape character that continues the line, and blanks after it, off the end.
bool TakeContinuation(absl::string_view& line, char escape);
bool IsComment(absl::string_view line);
// "# name=value"; false: not of that form.
bool ReadDirective(absl::string_view line, std::string& name, std::string& value);

// Words separated by blanks; quotes and the escape character group, and are kept.
std::vector<std::string> QuotedWords(absl::string_view text, char escape);
// The same without quotes.
std::vector<std::string> BlankWords(absl::string_view text);
// Takes the words that begin with "--" off the front of `text`.
std::vector<std::string> TakeFlagWords(absl::string_view& text, char escape);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_DOCKERFILE_LEXER_H_
